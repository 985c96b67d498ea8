//! The server under test: a child process of our own on free ports, or one that runs already.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::BenchError;
use super::dialect::Dialect;
use super::machine::{self, Usage};
use super::viewer::Ask;
use super::{nats, viewer};
use crate::program::{DevAccess, Program};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{SESSION_MINUTES_MAX, TOKEN_LIFE};
use uproar_proto::token::{Capability, Keyring, NONCE_BYTES, TokenRequest, mint};

/// For the child to become ready, and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that runs already.
#[derive(Debug, Clone)]
pub struct Attach {
    /// Its messaging listener.
    pub messaging: SocketAddr,
    /// Its data directory, for the sealing keys.
    pub data_dir: PathBuf,
    /// Rooms to use.
    pub rooms: Vec<RoomId>,
    /// Its process, for processor time and memory.
    pub pid: Option<u32>,
}

/// The server under test.
#[derive(Debug)]
pub struct Host {
    /// The program it is, or was told to be.
    pub program: Option<Program>,
    child: Option<Child>,
    directory: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    /// Its messaging listener.
    pub messaging: SocketAddr,
    /// Its control listener, if it is ours.
    pub control: Option<SocketAddr>,
    /// Its rooms.
    pub rooms: Vec<RoomId>,
    /// Whether viewers offer compression, which the server must then agree to.
    pub compression: bool,
    // None: a plain server, which knows no tokens.
    keyring: Option<Keyring>,
    pid: Option<u32>,
    /// What it speaks.
    pub dialect: Dialect,
    // Of a plain server, which takes any name for one.
    plain_rooms: usize,
}

/// Path and token that let a viewer connect.
pub type ViewerAccess = (String, Option<String>);

impl Host {
    /// Uses a running server.
    pub fn attach(program: &Program, attach: Attach) -> Result<Self, BenchError> {
        Ok(Self {
            program: Some(program.clone()),
            child: None,
            directory: None,
            messaging: attach.messaging,
            control: None,
            rooms: attach.rooms,
            compression: false,
            keyring: Some(read_keyring(program, &attach.data_dir)?),
            data_dir: Some(attach.data_dir),
            pid: attach.pid,
            dialect: Dialect::Chat,
            plain_rooms: 0,
        })
    }

    /// Uses another server, which sends what the first connection of a room says to all of the room's,
    /// that one included.
    pub fn plain(server: SocketAddr, dialect: Dialect, rooms: usize, pid: Option<u32>) -> Self {
        machine::pin_to_last();
        Self {
            program: None,
            child: None,
            directory: None,
            data_dir: None,
            messaging: server,
            control: None,
            rooms: Vec::new(),
            compression: false,
            keyring: None,
            pid,
            dialect,
            plain_rooms: rooms,
        }
    }

    /// Whether messages go as they are, without token, room and JSON.
    pub fn is_plain(&self) -> bool {
        self.dialect != Dialect::Chat
    }

    /// Rooms.
    pub fn room_count(&self) -> usize {
        if self.is_plain() {
            self.plain_rooms
        } else {
            self.rooms.len()
        }
    }

    /// Starts this very program as `dev --quotas open` with `shards` shards and makes `rooms` rooms.
    /// `extra` goes to the command line as it is.
    pub fn start(
        program: &Program,
        shards: usize,
        rooms: usize,
        extra: &[String],
    ) -> Result<Self, BenchError> {
        Self::start_with(program, shards, rooms, extra, &[])
    }

    /// The same with `settings` as `UPROAR_SECTION__KEY` and value, which a file in `extra` cannot
    /// change.
    pub fn start_with(
        program: &Program,
        shards: usize,
        rooms: usize,
        extra: &[String],
        settings: &[(&str, &str)],
    ) -> Result<Self, BenchError> {
        let directory = std::env::temp_dir().join(format!("uproar-bench-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let (messaging, control) = (free_port()?, free_port()?);
        let log = File::create(directory.join("log"))?;
        // Inherited: the server, its control thread included, stays on so many processors.
        machine::pin(0..shards);
        let child = Command::new(&program.executable)
            .args(["dev", "--quotas", "open"])
            .args(["--shards", &shards.to_string()])
            .args(["--messaging-listen", &messaging.to_string()])
            .args(["--control-listen", &control.to_string()])
            .arg("--data-dir")
            .arg(directory.join("data"))
            .args(extra)
            .env("UPROAR_LOG__FILTER", "warn")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        machine::pin_to_last();
        let pid = child.id();
        let mut host = Self {
            program: Some(program.clone()),
            child: Some(child),
            directory: Some(directory.clone()),
            data_dir: Some(directory.join("data")),
            messaging,
            control: Some(control),
            rooms: Vec::new(),
            compression: false,
            keyring: Some(Keyring::default()),
            pid: Some(pid),
            dialect: Dialect::Chat,
            plain_rooms: 0,
        };
        host.wait_ready(control, &directory)?;
        host.keyring = Some(read_keyring(program, &directory.join("data"))?);
        for _ in 0..rooms {
            host.rooms.push(create_room(program, control)?);
        }
        Ok(host)
    }

    fn wait_ready(&mut self, control: SocketAddr, directory: &Path) -> Result<(), BenchError> {
        let started = Instant::now();
        loop {
            let request = format!("GET /readyz HTTP/1.1\r\nHost: {control}\r\n{CLOSE}\r\n");
            let ready = ask(control, &request);
            if ready.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?;
            if ended.flatten().is_some() || started.elapsed() > PATIENCE {
                let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
                return Err(BenchError::Server(format!("did not become ready\n{log}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A token for `user` in room number `room`, with every right.
    pub fn token(&self, room: usize, user: &str) -> Result<String, BenchError> {
        let Some(keyring) = &self.keyring else {
            return Err(BenchError::Server("it has no tokens".to_owned()));
        };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(io::Error::from)?;
        let request = TokenRequest {
            room: self.rooms[room],
            user_id: user.to_owned(),
            attributes: Vec::new(),
            capabilities: Capability::ALL.into_iter().collect(),
            session: Duration::from_mins(SESSION_MINUTES_MAX.into()),
            life: TOKEN_LIFE,
        };
        Ok(mint(keyring, request, wall_clock(), nonce).token)
    }

    /// Where its sealing keys are; `None` for a plain server.
    pub(super) fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// Connects viewer number `index` of all to room number `room`. The socket is blocking.
    pub fn viewer(&self, room: usize, index: usize) -> Result<TcpStream, BenchError> {
        let entrance = self.entrance(room, &viewer::name(index))?;
        self.enter(room, &entrance, index)
    }

    /// What lets `user` into room number `room`.
    pub fn entrance(&self, room: usize, user: &str) -> Result<ViewerAccess, BenchError> {
        let token = if self.is_plain() {
            None
        } else {
            Some(self.token(room, user)?)
        };
        Ok((self.dialect.path(room), token))
    }

    /// The same as [`Host::viewer`] with an entrance made before.
    pub fn enter(
        &self,
        room: usize,
        (path, token): &ViewerAccess,
        index: usize,
    ) -> Result<TcpStream, BenchError> {
        let entered = match self.dialect {
            Dialect::Chat | Dialect::WebSocket => {
                let ask = Ask {
                    path,
                    token: token.as_deref(),
                    compression: self.compression,
                };
                viewer::open(self.messaging, ask, index)
            }
            Dialect::Nats => viewer::dial(self.messaging, index)
                .and_then(|mut stream| nats::join(&mut stream, room).map(|()| stream)),
        };
        entered.map_err(|cause| BenchError::Connect { index, cause })
    }

    /// Names and access key.
    pub fn dev(&self) -> &DevAccess {
        &self
            .program
            .as_ref()
            .expect("a plain server has no API")
            .dev
    }

    /// ARN of room number `room` of a server of our own.
    pub fn arn(&self, room: usize) -> String {
        let dev = self.dev();
        format!(
            "arn:aws:ivschat:{}:{}:room/{}",
            dev.region, dev.account, self.rooms[room]
        )
    }

    /// Frames delivered and send operations so far, by a server of our own's metrics.
    pub fn sends(&self) -> Option<(f64, f64)> {
        let control = self.control?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {control}\r\n{CLOSE}\r\n");
        let answer = ask(control, &request).ok()?;
        let figure = |name| {
            let mut lines = answer.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            value.trim().parse().ok()
        };
        Some((
            figure("uproar_messages_delivered_total")?,
            figure("uproar_sends_total")?,
        ))
    }

    /// Time on a processor of each of the server's threads so far.
    pub(super) fn thread_times(&self) -> BTreeMap<u32, Duration> {
        self.pid.map(machine::thread_times).unwrap_or_default()
    }

    /// What the server's process has used up; `None` if it is not known which that is.
    pub fn usage(&self) -> Option<Usage> {
        self.pid.map(Usage::of)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // A child that ended already is fine, too.
        let _signalled = pid.map(|pid| kill_process(pid, Signal::TERM));
        let started = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && started.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _killed = child.kill();
        let _reaped = child.wait();
        if let Some(directory) = &self.directory {
            let _removed = fs::remove_dir_all(directory);
        }
    }
}

fn read_keyring(program: &Program, data_dir: &Path) -> Result<Keyring, BenchError> {
    let path = (program.keyring_path)(data_dir);
    let text = fs::read_to_string(&path)
        .map_err(|error| BenchError::Server(format!("{}: {error}", path.display())))?;
    Keyring::parse(&text)
        .map_err(|error| BenchError::Server(format!("{}: {error}", path.display())))
}

/// A port that was free a moment ago, below those that outgoing connections get: whoever asks such a
/// port whether its server is up yet may be connected to itself.
fn free_port() -> Result<SocketAddr, BenchError> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let outgoing = range.split_whitespace().next().map(str::parse);
    let outgoing: u16 = outgoing.and_then(Result::ok).unwrap_or(PORTS_FROM);
    let mut tried = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..PORTS_TRIED {
        let port = fastrand::u16(PORTS_FROM..outgoing.max(PORTS_FROM + 100));
        tried = TcpListener::bind(("127.0.0.1", port)).and_then(|listener| listener.local_addr());
        if tried.is_ok() {
            break;
        }
    }
    Ok(tried?)
}

/// The first port that is tried, and how many are.
const PORTS_FROM: u16 = 10_000;
const PORTS_TRIED: usize = 100;

const CLOSE: &str = "Connection: close\r\n";

fn create_room(program: &Program, control: SocketAddr) -> Result<RoomId, BenchError> {
    let body = r#"{"name":"bench"}"#;
    let head = program.dev.signed_head(
        &control.to_string(),
        "/CreateRoom",
        CLOSE,
        body.as_bytes(),
        wall_clock(),
    );
    let answer = ask(control, &(head + body))?;
    let id = answer
        .split_once(":room/")
        .and_then(|(_, rest)| RoomId::parse(rest.split('"').next()?));
    id.ok_or_else(|| BenchError::Server(format!("CreateRoom answered {answer}")))
}

pub(super) fn wall_clock() -> UnixTime {
    let since_epoch = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    UnixTime::from_secs(since_epoch.as_secs())
}

/// One request, which must ask for `Connection: close`, on a connection of its own.
fn ask(server: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
