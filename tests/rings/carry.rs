//! Viewers move from one process to another. Both are children without capabilities whose limit on open files is far
//! below the number of viewers.
#![expect(
    clippy::disallowed_methods,
    reason = "deadlines that only a hung test meets"
)]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};
use uproar::net::io::Key;
use uproar::net::pass::{Connection, Message, PassError};
use uproar::net::ring::Sizes;
use uproar::net::rings::FixedPlace;
use uproar::shard::carry::{Leaving, receive_viewers, send_viewers};

use super::shard::{Shard, byte, pairs};

const SHARDS: usize = 3;
const VIEWERS: usize = 2_001;
const OPEN_FILES: u64 = 300;
/// Three shards' batches are open in one process at once.
const BATCH: usize = 80;
/// The user `nobody`.
const NOBODY: u32 = 65_534;
/// Small, because the kernel counts the rings of both processes to their user's limit on locked memory.
const SIZES: Sizes = Sizes {
    places: 256,
    entries: 256,
    completions: 1024,
    buffers: 64,
    buffers_further: 32,
};
const ROLE: &str = "UPROAR_TEST_ROLE";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

/// The viewers of a shard; counts how often its thread showed that it is alive.
struct Frozen<'a> {
    shard: &'a mut Shard,
    next: Key,
    alive: usize,
    /// Descriptors on their way elsewhere, which arrive when the thread has shown five times that it is alive.
    crowd: Option<Connection>,
}

impl Leaving for Frozen<'_> {
    type Place = FixedPlace;

    fn next_page(&mut self, most: usize) -> Vec<(FixedPlace, Vec<u8>)> {
        let rest = self.shard.connections.range(self.next..);
        let page: BTreeMap<Key, FixedPlace> = rest
            .take(most)
            .map(|(key, one)| (*key, one.file.place()))
            .collect();
        self.next = page.keys().last().map_or(self.next, |last| last + 1);
        page.into_iter()
            .map(|(key, place)| (place, key.to_le_bytes().to_vec()))
            .collect()
    }

    fn detach(&mut self, places: &[FixedPlace]) -> io::Result<Vec<OwnedFd>> {
        let mut others = Vec::new();
        let made = self.shard.io.detach(places, &mut others);
        assert!(others.is_empty(), "a quiet shard");
        made
    }

    fn alive(&mut self) {
        self.alive += 1;
        if self.alive == 5 {
            self.crowd = None;
        }
    }
}

/// A process of the test, and the connection to it.
struct Process {
    child: Child,
    control: Connection,
    // Has its program, where it may read it.
    directory: PathBuf,
}

impl Process {
    fn start(role: &str) -> Self {
        let (control, theirs) = Connection::pair().unwrap();
        // Only this user may read the directory of the build, perhaps.
        let own = std::process::id();
        let name = format!("uproar-test-{own}-{}", role.replace(' ', "-"));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        let program = directory.join("test");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let mut command = Command::new(program);
        command
            .args([
                "rings::carry::viewers_move_between_processes_with_few_descriptors",
                "--exact",
                "--nocapture",
            ])
            .env(ROLE, role)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null());
        if rustix::process::getuid().is_root() {
            // Root's messages are not counted.
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn().unwrap();
        Self {
            child,
            control,
            directory,
        }
    }

    fn tell(&self, what: &str, descriptors: &[BorrowedFd<'_>]) {
        self.control
            .send(what.as_bytes(), descriptors, soon())
            .unwrap();
    }

    fn hear(&self) -> String {
        String::from_utf8(self.control.receive(4096, soon()).unwrap().bytes).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        let _stays = std::fs::remove_dir_all(&self.directory);
    }
}

/// Goal: 2,001 viewers of three shards move between processes of 300 open files; a new process that dies in the middle changes nothing; every viewer's bytes are
/// answered once and in order, whichever process received them. Method: children as `nobody`; clients that write at
/// the instant of the hand-over.
#[test]
fn viewers_move_between_processes_with_few_descriptors() {
    if let Ok(role) = std::env::var(ROLE) {
        return process(&role);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let old = Process::start("old");
    old.tell("listener", &[listener.as_fd()]);
    drop(listener);
    let clients: Vec<TcpStream> = (0..VIEWERS)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    assert_eq!(old.hear(), "ready");
    let mut said = 0;
    let mut say = || {
        for mut client in &clients {
            client.write_all(&[byte(said), byte(said + 1)]).unwrap();
        }
        said += 2;
    };
    let mut heard = 0;
    let mut hear = || {
        for mut client in &clients {
            client
                .set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            let mut answer = [0; 2];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [byte(heard), byte(heard + 1)]);
        }
        heard += 2;
    };
    say();
    hear();
    let dies = Process::start("new that dies");
    connect(&old, &dies);
    say();
    let outcome = old.hear();
    assert!(outcome.contains("has closed the connection"), "{outcome}");
    hear();

    let new = Process::start("new");
    connect(&old, &new);
    say();
    assert_eq!(old.hear(), new.hear(), "both count the same");
    say();
    drop(old);
    new.tell("serve", &[]);
    hear();
    hear();
    say();
    hear();
}

/// Goal: while the user has too many descriptors on their way (ETOOMANYREFS), the shard waits, and goes on when some
/// have arrived. Method: a child of 300 open files has 400 elsewhere, which arrive at the fifth time its thread shows
/// that it is alive.
#[test]
fn a_shard_waits_while_too_many_descriptors_are_on_their_way() {
    let process = Process::start("crowded");
    assert_eq!(process.hear(), "sent after 5");
}

/// Gives each shard of both processes one end of a connection.
fn connect(old: &Process, new: &Process) {
    let ends: (Vec<Connection>, Vec<Connection>) =
        (0..SHARDS).map(|_| Connection::pair().unwrap()).unzip();
    for (process, ends) in [(old, &ends.0), (new, &ends.1)] {
        let borrowed: Vec<BorrowedFd<'_>> = ends.iter().map(AsFd::as_fd).collect();
        process.tell("streams", &borrowed);
    }
}

/// The child's side of both tests.
fn process(role: &str) {
    let control = Connection::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    let limit = Rlimit {
        current: Some(OPEN_FILES),
        maximum: Some(OPEN_FILES),
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    match role {
        "old" => old(&control),
        "crowded" => crowded(&control),
        _ => new(&control, role == "new that dies"),
    }
}

fn next(control: &Connection) -> Message {
    control.receive(4096, soon()).unwrap()
}

fn crowded(control: &Connection) {
    let (here, there) = Connection::pair().unwrap();
    let crowd = [here.as_fd(); 200];
    here.send(b"crowd", &crowd, soon()).unwrap();
    here.send(b"crowd", &crowd, soon()).unwrap();
    let refused = here.send(b"crowd", &crowd, soon());
    assert!(matches!(refused, Err(PassError::OnTheWay)), "{refused:?}");
    let mut shard = Shard::new(SIZES);
    let mut clients = Vec::new();
    for (key, (ours, theirs)) in (0..).zip(pairs(10)) {
        shard.install(key, ours);
        clients.push(theirs);
    }
    let mut viewers = Frozen {
        shard: &mut shard,
        next: 0,
        alive: 0,
        crowd: Some(there),
    };
    let (stream, theirs) = Connection::pair().unwrap();
    let receiver = std::thread::spawn(move || receive_viewers(&theirs, |_| Ok(()), soon()));
    let sent = send_viewers(&mut viewers, &stream, BATCH, soon()).unwrap();
    assert_eq!(sent, receiver.join().unwrap().unwrap());
    let told = format!("sent after {}", viewers.alive.min(5));
    control.send(told.as_bytes(), &[], soon()).unwrap();
}

fn old(control: &Connection) {
    let listener = TcpListener::from(next(control).descriptors.pop().unwrap());
    let (ready, all_ready) = channel();
    let (answer, answers) = channel();
    let orders: Vec<Sender<Connection>> = (0..SHARDS)
        .map(|_| {
            let (order, orders) = channel();
            let (listener, ready, answer) =
                (listener.try_clone().unwrap(), ready.clone(), answer.clone());
            std::thread::spawn(move || old_shard(&listener, &ready, &orders, &answer));
            order
        })
        .collect();
    for _ in 0..SHARDS {
        all_ready.recv().unwrap();
    }
    control.send(b"ready", &[], soon()).unwrap();
    loop {
        let message = next(control);
        for (order, stream) in orders.iter().zip(message.descriptors) {
            order.send(stream.into()).unwrap();
        }
        let mut said: Vec<String> = (0..SHARDS).map(|_| answers.recv().unwrap()).collect();
        said.sort();
        control
            .send(said.join(", ").as_bytes(), &[], soon())
            .unwrap();
    }
}

fn old_shard(
    listener: &TcpListener,
    ready: &Sender<()>,
    orders: &Receiver<Connection>,
    answer: &Sender<String>,
) {
    let mut shard = Shard::new(SIZES);
    shard.echoes = true;
    for key in 0..(VIEWERS / SHARDS) as Key {
        shard.install(key, listener.accept().unwrap().0.into());
    }
    shard.arm();
    ready.send(()).unwrap();
    loop {
        if shard.turn() == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
        let Ok(stream) = orders.try_recv() else {
            continue;
        };
        shard.cancel();
        shard.turns(|shard| shard.receiving() == 0 && shard.has_answered());
        let mut viewers = Frozen {
            shard: &mut shard,
            next: 0,
            alive: 0,
            crowd: None,
        };
        let sent = send_viewers(&mut viewers, &stream, BATCH, soon());
        match sent {
            Ok(sent) => answer.send(format!("{sent:?}")).unwrap(),
            Err(fault) => {
                shard.arms = true;
                shard.arm();
                answer.send(fault.to_string()).unwrap();
            }
        }
    }
}

fn new(control: &Connection, dies: bool) {
    let (answer, answers) = channel();
    let orders: Vec<Sender<()>> = next(control)
        .descriptors
        .into_iter()
        .map(|stream| {
            let (order, orders) = channel();
            let answer = answer.clone();
            std::thread::spawn(move || new_shard(&stream.into(), dies, &answer, &orders));
            order
        })
        .collect();
    let mut said: Vec<String> = (0..SHARDS).map(|_| answers.recv().unwrap()).collect();
    said.sort();
    control
        .send(said.join(", ").as_bytes(), &[], soon())
        .unwrap();
    assert_eq!(next(control).bytes, b"serve");
    for order in orders {
        order.send(()).unwrap();
    }
    // Serves until its parent ends it.
    let _ended = control.receive(1, soon());
}

fn new_shard(stream: &Connection, dies: bool, answer: &Sender<String>, orders: &Receiver<()>) {
    let mut shard = Shard::new(SIZES);
    shard.echoes = true;
    let deliver = |batch: Vec<(OwnedFd, Vec<u8>)>| {
        for (socket, record) in batch {
            let key = Key::from_le_bytes(record.try_into().unwrap());
            shard.install(key, socket);
        }
        if dies && shard.connections.len() > 300 {
            std::process::abort();
        }
        Ok(())
    };
    let received = receive_viewers(stream, deliver, soon());
    answer.send(format!("{:?}", received.unwrap())).unwrap();
    orders.recv().unwrap();
    shard.arm();
    loop {
        if shard.turn() == 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
