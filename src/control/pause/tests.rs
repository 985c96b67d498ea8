//! The real control plane, with a shard, an archive and a database, under raw HTTP clients.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use super::*;
use crate::clock::Clock;
use crate::control::access::keyfile::KeyFile;
use crate::control::access::{AccessKey, Keys};
use crate::control::archive::{self, ArchiveSettings, ArchiveThread};
use crate::control::arn::Account;
use crate::control::registry::Registry;
use crate::control::store::{Store, Table, path_in};
use crate::control::throttle::Rates;
use crate::control::{ControlAdmissionSettings, ControlSettings};
use crate::durable::faults::Scratch;
use crate::net::backend::Kind;
use crate::shard::gateway::Gateway;
use crate::shard::handshake::{HandshakeConfig, HandshakeSettings};
use crate::shard::mesh::{self, Shards};
use crate::shard::settings::ShardSettings;
use crate::supervisor::{Supervisor, runtime};
use uproar_proto::sigv4::Scope;
use uproar_proto::sigv4::sign::{Credentials, Outgoing, sign};
use uproar_proto::token::Keyring;

const REGION: &str = "us-west-2";
const KEY_ID: &str = "AKIDPAUSE";
const SECRET: &str = "secret";

/// A control plane and the threads it needs.
struct World {
    scratch: Scratch,
    supervisor: Supervisor,
    control: Rc<Control>,
    gateway: Gateway,
    shards: Shards,
    archive: ArchiveThread,
    listener: TcpListener,
    address: SocketAddr,
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::new();
        let supervisor = Supervisor::new(|| panic!("a thread ended that must live"));
        let (clock, keyring) = (
            Clock::start(),
            Arc::new(ArcSwap::from_pointee(Keyring::default())),
        );
        let settings = ShardSettings::open(1);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let messaging = TcpListener::bind(any).expect("loopback");
        let handshake_config = HandshakeConfig {
            keyring: Arc::clone(&keyring),
            pages: None,
            echo: false,
            extensions: false,
            settings: HandshakeSettings {
                tls: None,
                origins: Arc::default(),
                compression: false,
                limits: Arc::default(),
            },
        };
        let mut shards = mesh::start(mesh::Plan {
            settings: settings.clone(),
            io: Kind::Epoll,
            listeners: mesh::Listeners::deal(&[&messaging], 1).expect("loopback"),
            rooms: Vec::new(),
            journals: None,
            handshake_config,
            archive: true,
            cluster: false,
            pin: false,
            clock,
            supervisor: &supervisor,
        })
        .expect("a shard");
        let account = Account {
            region: REGION.to_owned(),
            id: "123456789012".to_owned(),
        };
        let end = shards.archive.take().expect("requested");
        let archive_settings = archive_settings(&account, &scratch);
        let archive = archive::start(archive_settings, end, clock, &supervisor);
        let archive = archive.expect("a thread");
        let store = Store::open(&path_in(&scratch.0), &supervisor).expect("a database");
        let gateway = Gateway::new(std::mem::take(&mut shards.mailboxes), settings);
        let key = AccessKey {
            id: KEY_ID.to_owned(),
            secret: SECRET.to_owned().into(),
        };
        let control = Control::new(
            ControlSettings {
                account,
                keys: Keys::load([key], KeyFile::of(&scratch.0)).expect("no file"),
                rates: Rates::open(),
                token_life: Duration::from_mins(1),
                supervisor: supervisor.clone(),
                archive: archive.archive(),
                admission: ControlAdmissionSettings::default(),
                metrics_rooms: 0,
                cluster: None,
                emulator: None,
                orders: None,
            },
            Registry::load(store).expect("an empty database"),
            gateway.clone(),
            keyring,
            clock,
            Arc::new(AtomicBool::new(true)),
            Box::new(|_page| {}),
        );
        let listener = TcpListener::bind(any).expect("loopback");
        let address = listener.local_addr().expect("bound");
        Self {
            scratch,
            supervisor,
            control,
            gateway,
            shards,
            archive,
            listener,
            address,
        }
    }

    /// Serves while `act` runs, then ends every thread.
    fn run<T>(self, act: impl AsyncFnOnce(&Pausable<'_>) -> T) -> T {
        let Self {
            scratch,
            supervisor,
            control,
            gateway,
            mut shards,
            archive,
            listener,
            address,
        } = self;
        let runtime = runtime().expect("a runtime");
        let outcome = LocalSet::new().block_on(&runtime, async {
            let (stop, stopped) = oneshot::channel::<()>();
            let stopped = async move { drop(stopped.await) };
            let serving = Rc::clone(&control).serve(listener, None, stopped);
            let serving = tokio::task::spawn_local(serving);
            let database = path_in(&scratch.0);
            let world = Pausable {
                control: &control,
                database,
                supervisor: &supervisor,
                address,
            };
            let outcome = act(&world).await;
            stop.send(()).expect("it serves");
            serving.await.expect("no panic").expect("it served");
            outcome
        });
        gateway.stop();
        shards.join();
        archive.stop();
        outcome
    }
}

fn archive_settings(account: &Account, scratch: &Scratch) -> ArchiveSettings {
    ArchiveSettings {
        account: account.clone(),
        spool: scratch.0.join("spool"),
        directory: scratch.0.join("logs"),
        spool_bytes_max: 1 << 30,
        age_max: Duration::from_hours(1),
        window: Duration::from_secs(1),
        linger: Duration::ZERO,
        s3: None,
        cloudwatch: None,
        firehose: None,
        credentials: None,
    }
}

/// What a test does with a control plane that serves.
struct Pausable<'a> {
    control: &'a Rc<Control>,
    database: PathBuf,
    supervisor: &'a Supervisor,
    address: SocketAddr,
}

impl Pausable<'_> {
    /// The names of the rooms that another process finds on disk.
    fn names_on_disk(&self) -> BTreeMap<String, usize> {
        let mut store = Store::open(&self.database, self.supervisor).expect("it is closed");
        let mut names = BTreeMap::new();
        for (_, value) in store.take(Table::Rooms) {
            let room: serde_json::Value = serde_json::from_slice(&value).expect("JSON");
            let name = room["name"].as_str().expect("each room has a name");
            *names.entry(name.to_owned()).or_default() += 1;
        }
        names
    }
}

/// A client with one kept connection, which repeats a call as an SDK does: if the connection ends
/// before the first byte of an answer.
struct Client {
    address: SocketAddr,
    kept: Option<BufReader<TcpStream>>,
    repeated: usize,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            kept: None,
            repeated: 0,
        }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(self.address).expect("the listener stays open"))
    }

    /// Creates a room of this name; returns the status.
    fn create(&mut self, name: &str) -> u16 {
        loop {
            let mut connection = self.kept.take().unwrap_or_else(|| self.connect());
            match call(&mut connection, self.address, name) {
                Ok((status, keeps)) => {
                    self.kept = keeps.then_some(connection);
                    return status;
                }
                Err(_unanswered) => self.repeated += 1,
            }
        }
    }
}

fn request(address: SocketAddr, name: &str) -> Vec<u8> {
    let (host, body) = (address.to_string(), format!("{{\"name\":\"{name}\"}}"));
    let outgoing = Outgoing {
        method: "POST",
        path: "/CreateRoom",
        query: "",
        host: &host,
        headers: &[("content-type", "application/json")],
        body: body.as_bytes(),
    };
    let credentials = Credentials {
        key_id: KEY_ID.to_owned(),
        secret: SECRET.to_owned().into(),
        session_token: None,
    };
    let scope = Scope {
        region: REGION,
        service: "ivschat",
    };
    let now = Clock::start().now().unix;
    let mut signed = String::new();
    for (name, value) in sign(&outgoing, &credentials, scope, now) {
        write!(signed, "{name}: {value}\r\n").expect("memory");
    }
    let length = body.len();
    let head = format!(
        "POST /CreateRoom HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
         {signed}content-length: {length}\r\n\r\n"
    );
    [head.into_bytes(), body.into_bytes()].concat()
}

/// The status of the answer, and whether the connection is kept. An error: no byte of an answer.
fn call(
    connection: &mut BufReader<TcpStream>,
    address: SocketAddr,
    name: &str,
) -> io::Result<(u16, bool)> {
    connection.get_mut().write_all(&request(address, name))?;
    let (mut status, mut length, mut keeps) = (None, 0, true);
    loop {
        let mut line = String::new();
        let read = connection.read_line(&mut line);
        if status.is_none() && matches!(read, Err(_) | Ok(0)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read.expect("an answer that has begun is whole");
        let line = line.trim_end().to_lowercase();
        let number = |text: &str| text.trim().parse().expect("a number");
        match (status, line.split_once(':')) {
            (None, _) => status = Some(line[9..12].parse().expect("a status")),
            (Some(_), Some(("content-length", text))) => length = number(text),
            (Some(_), Some(("connection", text))) => keeps = text.trim() != "close",
            (Some(status), None) if line.is_empty() => {
                let mut body = vec![0; length];
                connection.read_exact(&mut body).expect("a whole body");
                return Ok((status, keeps));
            }
            _ => {}
        }
    }
}

/// Calls until it is told to stop; returns the names, all of them answered, and how many calls were
/// repeated.
fn call_until(
    stop: &Arc<AtomicBool>,
    address: SocketAddr,
    caller: usize,
) -> JoinHandle<(Vec<String>, usize)> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let (mut client, mut names) = (Client::new(address), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let name = format!("{caller}-{}", names.len());
            assert_eq!(client.create(&name), 200, "{name}");
            names.push(name);
        }
        (names, client.repeated)
    })
}

/// Goal: through 20 pauses under calls, each call is answered and done once, no call fails, and
/// another process that opens the database meanwhile finds what was acknowledged. Method: clients
/// that repeat a call whose connection ended without an answer; a call that was done and repeated
/// would leave two rooms of its name.
#[test]
fn calls_survive_pauses_and_are_done_once() {
    const CALLERS: usize = 4;
    let stop = Arc::<AtomicBool>::default();
    World::new().run(async |world| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| call_until(&stop, world.address, caller))
            .collect();
        let done = || world.control.registry.rooms.each(|_| ()).len();
        let mut found = BTreeMap::new();
        for _ in 0..20 {
            let before = done();
            while done() < before + CALLERS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let paused = world.control.pause().await.expect("it pauses");
            found = world.names_on_disk();
            assert_eq!(found.len(), done(), "memory and disk agree");
            assert!(matches!(
                world.control.pause().await,
                Err(PauseError::Paused)
            ));
            paused.resume();
        }
        stop.store(true, Ordering::Relaxed);
        let ended = tokio::task::spawn_blocking(move || {
            let ended = callers.into_iter().map(JoinHandle::join);
            ended
                .collect::<Result<Vec<_>, _>>()
                .expect("no caller fails")
        });
        let ended = ended.await.expect("no panic");
        let paused = world.control.pause().await.expect("it pauses");
        let kept = world.names_on_disk();
        paused.resume();
        let names: usize = ended.iter().map(|(names, _)| names.len()).sum();
        assert!(kept.values().all(|count| *count == 1), "{kept:?}");
        assert_eq!(kept.len(), names);
        assert!(!found.is_empty() && found.keys().all(|name| kept.contains_key(name)));
    });
}

/// Goal: a pause ends idle connections in order, waits for no silent one, cuts a half sent request
/// which has then done nothing, and answers a request that was sent before it.
#[test]
fn a_pause_ends_each_connection_as_it_deserves() {
    World::new().run(async |world| {
        let address = world.address;
        let (mut idle, silent) = (Client::new(address), Client::new(address).connect());
        let idle = tokio::task::spawn_blocking(move || {
            assert_eq!(idle.create("idle"), 200);
            idle.kept.take().expect("kept")
        });
        let mut idle = idle.await.expect("no panic");
        let mut half = Client::new(address).connect();
        let bytes = request(address, "half");
        half.get_mut()
            .write_all(&bytes[..bytes.len() - 3])
            .expect("sent");
        while world.control.admission.open() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let sent = idle.get_mut().write_all(&request(address, "sent"));
        sent.expect("before the pause");
        let paused = world.control.pause().await.expect("it pauses");
        let names = world.names_on_disk();
        assert_eq!(names.keys().collect::<Vec<_>>(), ["idle", "sent"]);
        // It has its answer, and then the end; the others have the end.
        let mut rest = String::new();
        idle.read_to_string(&mut rest).expect("an orderly end");
        assert!(rest.starts_with("HTTP/1.1 200") && rest.contains("connection: close"));
        for mut connection in [silent, half] {
            let mut nothing = Vec::new();
            let _end_or_reset = connection.read_to_end(&mut nothing);
            assert!(nothing.is_empty());
        }
        // A caller meanwhile waits in the kernel's queue, and is answered afterwards.
        let waiting = tokio::task::spawn_blocking(move || Client::new(address).create("later"));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished() && world.control.admission.open() == 0);
        paused.resume();
        assert_eq!(waiting.await.expect("no panic"), 200);
    });
}

/// Goal: while a call waits for the disk or a shard there is no pause, since its caller must get
/// its answer; the plane serves on.
#[test]
fn an_open_call_prevents_the_pause() {
    World::new().run(async |world| {
        let call = Rc::clone(&world.control.open_calls);
        let refused = world.control.pause().await.err();
        assert!(matches!(refused, Some(PauseError::Calls(1))), "{refused:?}");
        let address = world.address;
        let create = |name| move || Client::new(address).create(name);
        let served = tokio::task::spawn_blocking(create("served"));
        assert_eq!(served.await.expect("no panic"), 200);
        drop(call);
        world.control.pause().await.expect("it pauses").resume();
    });
}
