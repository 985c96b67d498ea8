//! Two cores with real rings or epoll, and real sockets: the viewers of one go on at the other.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines that only a hung test meets"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::sync::oneshot;
use uproar::clock::Clock;
use uproar::net::backend::{Backend, Kind};
use uproar::net::epoll::Epoll;
use uproar::net::pass::Connection;
use uproar::net::ring::Sizes;
use uproar::net::rings::Rings;
use uproar::shard::carry::receive_viewers;
use uproar::shard::core::Core;
use uproar::shard::estate::{Inherited, RoomsEstate, merge_rooms};
use uproar::shard::export::{complete, export};
use uproar_proto::base::clock::Shift;
use uproar_proto::base::id::RoomId;
use uproar_proto::room::RoomSettings;
use uproar_testing::client::text;
use uproar_testing::parts::{GREETING, alone, room_settings};
use uproar_testing::single_shard::viewer;

/// More than two rings' tables hold.
const VIEWERS: usize = 300;
/// Of them, those whose sockets take little and who read only at the end.
const STALLED: usize = 20;
/// Full after a third of the messages. Far smaller ones would wait for the kernel's probes of a closed window.
const SMALL_BUFFER_BYTES: usize = 16_384;
/// From the first backend to each next one: every pair of them once.
const BACKENDS: [Kind; 5] = [
    Kind::IoUring,
    Kind::IoUring,
    Kind::Epoll,
    Kind::Epoll,
    Kind::IoUring,
];
const HAND_OVERS: usize = BACKENDS.len() - 1;
const TINY: Sizes = Sizes {
    places: 128,
    entries: 16,
    completions: 64,
    buffers: 8,
    buffers_further: 4,
};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn room() -> RoomId {
    RoomId::parse("abcdefghijkl").unwrap()
}

fn rings() -> Rings {
    Rings::of(TINY).expect("io_uring is allowed")
}

fn epoll() -> Epoll {
    Epoll::new().expect("a descriptor")
}

fn core<B: Backend>(io: B, clock: Clock) -> Core<B> {
    let mut core = Core::new(alone(io), clock.now());
    let settings = RoomSettings {
        messages_per_second: 100_000,
        ..room_settings()
    };
    core.load(vec![(room(), settings)]);
    core.begin(clock.now());
    core
}

fn turn<B: Backend>(core: &mut Core<B>, clock: Clock) {
    core.settle();
    core.io_mut().enter().expect("it works");
    core.flush_mailboxes();
    core.begin(clock.now());
    let mut taken = 0;
    while let Some(completion) = core.io_mut().next_completion() {
        complete(core, completion);
        taken += 1;
    }
    if taken == 0 {
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// What the old shard gives the new one: its rooms, and the connection from which its viewers come.
type Estate = (Vec<u8>, Connection);

/// Serves until told to hand over, or until nobody can tell; returns the number of viewers that were carried.
fn old<B: Backend>(
    mut core: Core<B>,
    clock: Clock,
    leave: &Receiver<()>,
    heir: &Sender<Estate>,
) -> u64 {
    loop {
        match leave.try_recv() {
            Ok(()) => break,
            Err(TryRecvError::Empty) => turn(&mut core, clock),
            Err(TryRecvError::Disconnected) => return 0,
        }
    }
    let (answer, _answered) = oneshot::channel();
    core.freeze(answer);
    let deadline = soon();
    while !core.is_frozen() {
        assert!(Instant::now() < deadline, "it never freezes");
        turn(&mut core, clock);
    }
    let rooms = merge_rooms(&[core.rooms_estate()], None).unwrap();
    let (here, there) = Connection::pair().unwrap();
    heir.send((rooms, there)).unwrap();
    let carried = export(&mut core, &here, 50, || ()).expect("no fault");
    assert!(core.is_frozen());
    assert_eq!(
        carried.not_carried().map(|(_, count)| count).sum::<u64>(),
        0
    );
    carried.viewers
}

/// Takes over from `estate`. Returns the numbers of its viewers, and of those whose last send was not finished.
fn inherit<B: Backend>(io: B, clock: Clock, estate: &Receiver<Estate>) -> (Core<B>, [usize; 2]) {
    let mut core = core(io, clock);
    let (rooms, stream) = estate.recv().unwrap();
    let rooms = RoomsEstate::parse(rooms, Shift::between(0, 0)).unwrap();
    core.inherit_rooms(&Arc::new(rooms));
    let (mut viewers, mut with_rest) = (0, 0);
    let deliver = |batch: Vec<(OwnedFd, Vec<u8>)>| {
        viewers += batch.len();
        let batch = batch.into_iter().map(|(socket, record)| {
            // Others have less than 150 bytes, and half a request.
            with_rest += usize::from(record.len() > 400);
            Inherited {
                socket,
                record,
                share: None,
            }
        });
        core.inherit(batch.collect());
        Ok(())
    };
    receive_viewers(&stream, deliver, soon()).expect("no fault");
    (core, [viewers, with_rest])
}

fn numbers(stream: &[u8]) -> Vec<usize> {
    let marks = stream.iter().enumerate().filter(|(_, byte)| **byte == b'#');
    marks
        .filter_map(|(at, _)| {
            assert!(stream[..at].ends_with(b"\"Content\":\""));
            // The last one may be cut.
            let number = stream.get(at + 1..at + 7)?;
            Some(std::str::from_utf8(number).unwrap().parse().unwrap())
        })
        .collect()
}

/// Says a numbered message every now and then until `done`; returns how many.
fn say(mut client: &TcpStream, done: &AtomicBool, said: &AtomicUsize) {
    while !done.load(Ordering::Acquire) {
        let number = said.load(Ordering::Acquire);
        let content = format!("#{number:06}{}", "x".repeat(200));
        let request =
            format!(r#"{{"Action":"SEND_MESSAGE","RequestId":"{number}","Content":"{content}"}}"#);
        let frame = text(request.as_bytes());
        // In two parts, so that often half a frame is received.
        let (first, rest) = frame.split_at(number % frame.len());
        client.write_all(first).expect("it is not lost");
        std::thread::sleep(Duration::from_micros(200));
        client.write_all(rest).expect("it is not lost");
        said.store(number + 1, Ordering::Release);
        std::thread::sleep(Duration::from_micros(800));
    }
}

/// Reads the messages of one viewer.
fn read(mut client: TcpStream, said: usize) {
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let (mut stream, mut part) = (Vec::new(), vec![0; 65_536]);
    while numbers(&stream).len() < said {
        let len = client.read(&mut part).expect("more is to come");
        assert!(len > 0, "closed after {} bytes", stream.len());
        stream.extend_from_slice(&part[..len]);
    }
    assert!(stream.starts_with(GREETING));
    assert!(numbers(&stream).into_iter().eq(0..said));
}

/// Takes over in this round, serves when the old one is gone, and hands over in turn; returns the number of viewers.
fn successor<B: Backend>(
    io: B,
    clock: Clock,
    round: usize,
    (taken, old_gone, left, heir): (
        &Receiver<Estate>,
        &Receiver<()>,
        &Receiver<()>,
        &Sender<Estate>,
    ),
) -> u64 {
    let (mut core, [viewers, with_rest]) = inherit(io, clock, taken);
    old_gone.recv().unwrap();
    assert_eq!(viewers, VIEWERS);
    assert!(
        round < HAND_OVERS || with_rest > 0,
        "no send was unfinished"
    );
    core.resume();
    old(core, clock, left, heir)
}

/// Goal: viewers with messages on their way both ways move from core to core, between rings and epoll in every direction;
/// everyone gets every message once and in order, also those whose sockets are full. Method: real rings too small for
/// them, real sockets, a client that says numbered messages all the time, in halves of frames.
#[test]
fn viewers_go_on_at_another_core() {
    let clock = Clock::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = Vec::new();
    let mut clients = Vec::new();
    for index in 0..VIEWERS {
        let client = TcpStream::connect(address).unwrap();
        client.set_nodelay(true).unwrap();
        let socket = OwnedFd::from(listener.accept().unwrap().0);
        if index > 0 && index <= STALLED {
            sockopt::set_socket_send_buffer_size(&socket, SMALL_BUFFER_BYTES).unwrap();
            sockopt::set_socket_recv_buffer_size(&client, SMALL_BUFFER_BYTES).unwrap();
        }
        sockets.push(socket);
        clients.push(client);
    }
    let (mut leave, left) = channel();
    let (heir, mut estate) = channel();
    let mut server = std::thread::spawn(move || {
        let mut core = core(rings(), clock);
        for (index, socket) in sockets.into_iter().enumerate() {
            core.enter(viewer(socket, room(), index, clock.now(), false));
        }
        old(core, clock, &left, &heir)
    });
    let (done, said) = (
        Arc::new(AtomicBool::new(false)),
        Arc::<AtomicUsize>::default(),
    );
    let writer = {
        let (done, said) = (Arc::clone(&done), Arc::clone(&said));
        let client = clients[0].try_clone().unwrap();
        std::thread::spawn(move || say(&client, &done, &said))
    };
    for (round, &kind) in BACKENDS.iter().enumerate().skip(1) {
        while said.load(Ordering::Acquire) < 150 * round {
            assert!(!writer.is_finished() && !server.is_finished());
            std::thread::sleep(Duration::from_millis(1));
        }
        let (next_leave, left) = channel();
        let (heir, next_estate) = channel();
        let (gone, old_gone) = channel::<()>();
        let taken = std::mem::replace(&mut estate, next_estate);
        let successor = std::thread::spawn(move || {
            let ends = (&taken, &old_gone, &left, &heir);
            match kind {
                Kind::IoUring => successor(rings(), clock, round, ends),
                Kind::Epoll => successor(epoll(), clock, round, ends),
            }
        });
        leave.send(()).unwrap();
        assert_eq!(server.join().expect("it hands over"), VIEWERS as u64);
        gone.send(()).unwrap();
        (server, leave) = (successor, next_leave);
    }
    while said.load(Ordering::Acquire) < 150 * (HAND_OVERS + 1) {
        std::thread::sleep(Duration::from_millis(1));
    }
    done.store(true, Ordering::Release);
    writer.join().expect("its connection was never lost");
    let said = said.load(Ordering::Acquire);
    let readers: Vec<_> = clients
        .into_iter()
        .map(|client| std::thread::spawn(move || read(client, said)))
        .collect();
    for reader in readers {
        reader.join().expect("every message once");
    }
    drop(leave);
    assert_eq!(server.join().expect("it serves to the end"), 0);
}
