//! A ring far smaller than its load, in the real kernel: no client is lost.
#![expect(
    clippy::disallowed_methods,
    reason = "a deadline that only a hung test meets"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use uproar::clock::Clock;
use uproar::net::backend::Backend;
use uproar::net::epoll::Epoll;
use uproar::net::ring::Sizes;
use uproar::net::rings::Rings;
use uproar::shard::close_reason::CloseReason;
use uproar::shard::command::Command;
use uproar::shard::core::{Core, Parts};
use uproar::shard::export::complete;
use uproar::shard::metrics::ShardMetrics;
use uproar_proto::base::id::RoomId;
use uproar_testing::client::{self, request};
use uproar_testing::parts::{alone, room_settings};
use uproar_testing::single_shard::viewer;

const CLIENTS: usize = 200;
const ROUNDS: usize = 3;
const TINY: Sizes = Sizes {
    places: 512,
    entries: 8,
    completions: 16,
    buffers: 4,
    buffers_further: 4,
};

fn core<B: Backend>(io: B, room: RoomId, clock: Clock, metrics: &Arc<ShardMetrics>) -> Core<B> {
    let parts = Parts {
        metrics: Arc::clone(metrics),
        ..alone(io)
    };
    let mut core = Core::new(parts, clock.now());
    let (answer, _answered) = tokio::sync::oneshot::channel();
    core.command(Command::PutRoom(room, room_settings(), answer));
    core
}

/// Reads until the client has got `messages` messages.
fn read(stream: &mut TcpStream, messages: usize) -> usize {
    const MARK: &[u8] = b"{\"Type\":\"MESSAGE\"";
    let (mut seen, mut buffer, mut kept) = (0, vec![0; 65_536], 0);
    while seen < messages {
        let len = stream.read(&mut buffer[kept..]).expect("it is not lost");
        assert!(len > 0, "it is lost: {seen} of {messages}");
        let end = kept + len;
        let mut rest = &buffer[..end];
        while let Some(at) = rest.iter().position(|byte| *byte == b'{') {
            rest = &rest[at..];
            if rest.len() < MARK.len() {
                break;
            }
            seen += usize::from(rest.starts_with(MARK));
            rest = &rest[1..];
        }
        // A mark may be split between two reads.
        kept = rest.len().min(MARK.len());
        buffer.copy_within(end - kept..end, 0);
    }
    seen
}

/// All clients send at once, round after round, and each receives all messages.
fn clients(mut streams: Vec<TcpStream>, done: &AtomicUsize) {
    let frame = client::text(request().as_bytes());
    for _ in 0..ROUNDS {
        for stream in &mut streams {
            stream.write_all(&frame).expect("it is not lost");
        }
        for stream in &mut streams {
            assert_eq!(read(stream, CLIENTS), CLIENTS);
        }
    }
    done.store(1, Ordering::Release);
    // A client that was cut would have failed above.
    drop(streams);
}

/// Goal: with 8 submissions, 16 completions and 4 receive buffers for 200 clients that all send at once,
/// completions overflow and buffers run out; every client receives every message, round after round, so every
/// receive was armed again, and no client is cut. Method: a shard's loop over real sockets.
#[test]
fn a_ring_smaller_than_its_load_loses_no_client() {
    let rings = Rings::of(TINY).expect("io_uring is allowed");
    let (metrics, piled_up) = serve_all(rings);
    assert!(
        piled_up >= TINY.completions,
        "completions never filled their queue: {piled_up}"
    );
    assert!(
        metrics.receive_rearmed.get() > 100,
        "buffers never ran out: {}",
        metrics.receive_rearmed.get()
    );
}

/// Goal: the same crowd on epoll, whose one buffer all share: nobody is lost or waits for ever.
#[test]
fn epoll_loses_no_client() {
    let (metrics, _) = serve_all(Epoll::new().expect("a descriptor"));
    assert_eq!(metrics.receive_rearmed.get(), 0, "a receive goes on");
}

/// Serves the crowd; returns the counters, and the most completions that were there at once.
fn serve_all<B: Backend>(io: B) -> (Arc<ShardMetrics>, u32) {
    let room = RoomId::parse("abcdefghijkl").unwrap();
    let (clock, metrics) = (Clock::start(), Arc::<ShardMetrics>::default());
    let mut core = core(io, room, clock, &metrics);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut streams = Vec::new();
    core.begin(clock.now());
    for index in 0..CLIENTS {
        streams.push(TcpStream::connect(address).unwrap());
        let socket = OwnedFd::from(listener.accept().unwrap().0);
        core.enter(viewer(socket, room, index, clock.now(), false));
    }
    let done = Arc::new(AtomicUsize::new(0));
    let finished = Arc::clone(&done);
    let thread = std::thread::spawn(move || clients(streams, &finished));
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut piled_up = 0;
    while done.load(Ordering::Acquire) == 0 && !thread.is_finished() {
        assert!(Instant::now() < deadline, "it hangs");
        // Lets work pile up, as on a busy shard.
        std::thread::sleep(Duration::from_millis(1));
        core.settle();
        core.io_mut().enter().expect("it works");
        core.flush_mailboxes();
        core.begin(clock.now());
        let mut taken = 0;
        while let Some(completion) = core.io_mut().next_completion() {
            complete(&mut core, completion);
            taken += 1;
        }
        piled_up = piled_up.max(taken);
    }
    thread.join().expect("every client received every message");
    for reason in [CloseReason::Slow, CloseReason::Protocol] {
        assert_eq!(metrics.closed(reason).get(), 0, "{reason:?}");
    }
    assert_eq!(metrics.opened.get(), CLIENTS as u64);
    (metrics, piled_up)
}
