//! The server under test: a child process on free ports, or a server that runs already.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{SESSION_MINUTES_MAX, TOKEN_LIFE};
use uproar_proto::token::{Capability, Keyring, NONCE_BYTES, TokenRequest, mint};

use super::child::{OwnChild, Start};
use super::client_protocol::ClientProtocol;
use super::error::BenchError;
use super::machine::{self, Usage};
use super::program::Program;
use super::tls::client::TlsClient;
use super::viewer::Upgrade;
use super::viewer_stream::ViewerStream;
use super::{api, nats, viewer};

/// The server that is measured.
#[derive(Debug)]
pub(crate) struct ServerUnderTest {
    /// Its messaging listener.
    pub(crate) messaging: SocketAddr,
    /// Its control listener, if it is known.
    pub(crate) control: Option<SocketAddr>,
    /// Whether viewers offer compression, which the server must then agree to.
    pub(crate) compression: bool,
    /// Viewers' side of TLS; `None`: they connect without.
    pub(crate) tls: Option<TlsClient>,
    software: Software,
    /// Its process, if it is known: for processor time and memory.
    pid: Option<u32>,
    /// The child, if it was started for this measurement.
    child: Option<OwnChild>,
}

/// What the server speaks, and what its viewers need.
#[derive(Debug)]
enum Software {
    Uproar(Uproar),
    Plain {
        protocol: ClientProtocol,
        /// Rooms that are used; any name is one.
        rooms: usize,
    },
}

/// What viewers of Uproar need: rooms, and the keys that seal their tokens.
#[derive(Debug)]
pub(crate) struct Uproar {
    pub(crate) program: Program,
    pub(crate) data_dir: PathBuf,
    /// Rooms that are used, at least one.
    pub(crate) rooms: Vec<RoomId>,
    keyring: Keyring,
}

/// A running Uproar.
#[derive(Debug, Clone)]
pub(crate) struct Attach {
    /// Its messaging listener.
    pub(crate) messaging: SocketAddr,
    /// Its data directory, which has the sealing keys.
    pub(crate) data_dir: PathBuf,
    /// Rooms to use.
    pub(crate) rooms: Vec<RoomId>,
    /// Its process, for processor time and memory.
    pub(crate) pid: Option<u32>,
}

/// What a server sent, by its own metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sends {
    /// Messages delivered.
    pub(crate) messages: f64,
    /// Send operations.
    pub(crate) sends: f64,
}

/// Path and token with which a viewer connects; a plain server has no tokens.
pub(crate) type ViewerAccess = (String, Option<String>);

impl ServerUnderTest {
    /// Uses a running Uproar.
    pub(crate) fn attach(program: &Program, attach: Attach) -> Result<Self, BenchError> {
        debug_assert!(!attach.rooms.is_empty(), "--target requires --room");
        let uproar = Uproar {
            program: program.clone(),
            keyring: read_keyring(program, &attach.data_dir)?,
            data_dir: attach.data_dir,
            rooms: attach.rooms,
        };
        Ok(Self {
            messaging: attach.messaging,
            control: None,
            compression: false,
            tls: None,
            software: Software::Uproar(uproar),
            pid: attach.pid,
            child: None,
        })
    }

    /// Uses another server, which sends what a room's first connection sends to all of the room's
    /// connections, that one included.
    pub(crate) fn plain(
        server: SocketAddr,
        protocol: ClientProtocol,
        rooms: usize,
        pid: Option<u32>,
    ) -> Self {
        machine::pin_to_last();
        Self {
            pid,
            ..Self::plain_unpinned(server, protocol, rooms)
        }
    }

    /// Does the same, leaves this thread where it is, and knows no process.
    pub(crate) fn plain_unpinned(
        server: SocketAddr,
        protocol: ClientProtocol,
        rooms: usize,
    ) -> Self {
        Self {
            messaging: server,
            control: None,
            compression: false,
            tls: None,
            software: Software::Plain { protocol, rooms },
            pid: None,
            child: None,
        }
    }

    /// Starts the program as `dev --quotas open` and creates rooms. The server runs on the first
    /// processors, one for each shard, and this thread is pinned to the last one.
    pub(crate) fn start(program: &Program, start: Start<'_>) -> Result<Self, BenchError> {
        let child = OwnChild::start(program, start)?;
        let (messaging, control) = (child.messaging, child.control);
        let mut rooms = Vec::new();
        for _ in 0..start.rooms {
            rooms.push(api::create_room(&program.dev, control)?);
        }
        let data_dir = child.data_dir();
        let uproar = Uproar {
            program: program.clone(),
            keyring: read_keyring(program, &data_dir)?,
            data_dir,
            rooms,
        };
        Ok(Self {
            messaging,
            control: Some(control),
            compression: false,
            tls: None,
            software: Software::Uproar(uproar),
            pid: Some(child.pid()),
            child: Some(child),
        })
    }

    /// Returns what it speaks.
    pub(crate) fn protocol(&self) -> ClientProtocol {
        match &self.software {
            Software::Uproar(_) => ClientProtocol::Chat,
            Software::Plain { protocol, .. } => *protocol,
        }
    }

    /// Returns the number of rooms that are used.
    pub(crate) fn room_count(&self) -> usize {
        match &self.software {
            Software::Uproar(uproar) => uproar.rooms.len(),
            Software::Plain { rooms, .. } => *rooms,
        }
    }

    /// Leaves only the first `count` rooms in use.
    pub(crate) fn keep_rooms(&mut self, count: usize) {
        match &mut self.software {
            Software::Uproar(uproar) => uproar.rooms.truncate(count),
            Software::Plain { rooms, .. } => *rooms = count.min(*rooms),
        }
    }

    /// Returns what only Uproar has.
    ///
    /// # Errors
    ///
    /// A plain server has no tokens.
    pub(crate) fn uproar(&self) -> Result<&Uproar, BenchError> {
        match &self.software {
            Software::Uproar(uproar) => Ok(uproar),
            Software::Plain { .. } => Err(BenchError::Server("it has no tokens".to_owned())),
        }
    }

    /// Whether this measurement started it.
    pub(crate) fn is_own(&self) -> bool {
        self.child.is_some()
    }

    /// Uses a room of its own alone, in which a tally of this id is open.
    pub(crate) fn begin_tally(&mut self, id: &str) -> Result<(), BenchError> {
        let control = self.control;
        match (&mut self.software, control) {
            (Software::Uproar(uproar), Some(control)) => {
                uproar.rooms = vec![api::create_tally(&uproar.program.dev, control, id)?];
                Ok(())
            }
            _ => Err(BenchError::Server(
                "tallies are measured on a server that is started".to_owned(),
            )),
        }
    }

    /// Uses one room more, with these tags, a JSON object; returns its number.
    pub(crate) fn add_room(&mut self, tags: &str) -> Result<usize, BenchError> {
        let control = self.control;
        match (&mut self.software, control) {
            (Software::Uproar(uproar), Some(control)) => {
                let room = api::create_tagged(&uproar.program.dev, control, tags)?;
                uproar.rooms.push(room);
                Ok(uproar.rooms.len() - 1)
            }
            _ => Err(BenchError::Server(
                "rooms with tags are measured on a server that is started".to_owned(),
            )),
        }
    }

    /// Returns a histogram of its metrics: each bucket's bound, in seconds, and how many values are at most that. Nothing if
    /// its control listener is not known.
    pub(crate) fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let page = self
            .control
            .and_then(|control| api::get(control, "/metrics").ok());
        let start = format!("{name}_bucket{{le=\"");
        let read = |line: &str| {
            let (bound, count) = line.strip_prefix(&*start)?.split_once("\"} ")?;
            let bound = if bound == "+Inf" { "inf" } else { bound };
            Some((bound.parse().ok()?, count.trim().parse().ok()?))
        };
        page.iter()
            .flat_map(|page| page.lines())
            .filter_map(read)
            .collect()
    }

    /// Returns what moves its viewers' bytes, `io_uring` or `epoll`; `None` if its control listener is not known.
    pub(crate) fn io(&self) -> Option<String> {
        let page = api::get(self.control?, "/metrics").ok()?;
        let read = |line: &str| {
            line.strip_prefix("uproar_io_info{backend=\"")?
                .split('"')
                .next()
                .map(str::to_owned)
        };
        page.lines().find_map(read)
    }

    /// Returns the sum, in seconds, and the count of a histogram of its metrics; `None` if its control listener is not known.
    pub(crate) fn sum_and_count(&self, name: &str) -> Option<(f64, f64)> {
        let page = api::get(self.control?, "/metrics").ok()?;
        let figure = |end: &str| {
            let start = format!("{name}_{end} ");
            let mut lines = page.lines();
            let value = lines.find_map(|line| line.strip_prefix(&*start))?;
            value.trim().parse().ok()
        };
        Some((figure("sum")?, figure("count")?))
    }

    /// Returns the access of `user` to room number `room`.
    pub(crate) fn access(&self, room: usize, user: &str) -> Result<ViewerAccess, BenchError> {
        let token = match &self.software {
            Software::Uproar(uproar) => Some(uproar.token(room, user)?),
            Software::Plain { .. } => None,
        };
        Ok((self.protocol().path(room), token))
    }

    /// Connects viewer number `index` to room number `room`. The socket is blocking.
    pub(crate) fn connect(&self, room: usize, index: usize) -> Result<ViewerStream, BenchError> {
        let access = self.access(room, &viewer::name(index))?;
        self.connect_with(room, &access, index)
    }

    /// Does the same as [`ServerUnderTest::connect`] with an access made before.
    pub(crate) fn connect_with(
        &self,
        room: usize,
        (path, token): &ViewerAccess,
        index: usize,
    ) -> Result<ViewerStream, BenchError> {
        let connected = match self.protocol() {
            ClientProtocol::Chat | ClientProtocol::WebSocket => {
                let upgrade = Upgrade {
                    path,
                    token: token.as_deref(),
                    compression: self.compression,
                };
                match &self.tls {
                    None => viewer::open(self.messaging, upgrade, index).map(Into::into),
                    Some(client) => viewer::open_tls(self.messaging, client, upgrade, index),
                }
            }
            ClientProtocol::Nats => viewer::dial(self.messaging, index)
                .and_then(|mut stream| nats::join(&mut stream, room).map(|()| stream.into())),
        };
        connected.map_err(|cause| BenchError::Connect { index, cause })
    }

    /// Does the same as [`ServerUnderTest::connect`] with a receive buffer of `receive_bytes`
    /// bytes.
    pub(crate) fn connect_with_buffer(
        &self,
        room: usize,
        index: usize,
        receive_bytes: usize,
    ) -> Result<TcpStream, BenchError> {
        let token = self.uproar()?.token(room, &viewer::name(index))?;
        let upgrade = Upgrade {
            path: "/",
            token: Some(&token),
            compression: false,
        };
        viewer::open_with_buffer(self.messaging, upgrade, index, receive_bytes)
            .map_err(|cause| BenchError::Connect { index, cause })
    }

    /// Returns the sends it made so far, from its metrics; `None` if its control listener is not
    /// known.
    pub(crate) fn sends(&self) -> Option<Sends> {
        let control = self.control?;
        let answer = api::get(control, "/metrics").ok()?;
        let figure = |name| {
            let mut lines = answer.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
            value.trim().parse().ok()
        };
        Some(Sends {
            messages: figure("uproar_messages_delivered_total")?,
            sends: figure("uproar_sends_total")?,
        })
    }

    /// Returns the time that each of its threads has run; nothing if its process is not known.
    pub(crate) fn thread_times(&self) -> BTreeMap<u32, Duration> {
        self.pid.map(machine::thread_times).unwrap_or_default()
    }

    /// Returns what its process has used; `None` if it is not known.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.pid.map(Usage::of)
    }

    /// Returns its processor time since `before`, an earlier [`ServerUnderTest::usage`]: user,
    /// system.
    pub(crate) fn cpu_since(&self, before: Option<Usage>) -> Option<[Duration; 2]> {
        let both = before.zip(self.usage());
        both.map(|(before, after)| after.since(&before))
    }

    /// Returns its processor time since `before`, user and system together.
    pub(crate) fn busy_since(&self, before: Option<Usage>) -> Option<Duration> {
        self.cpu_since(before).map(|cpu| cpu.iter().sum())
    }
}

impl Sends {
    /// Returns what was sent since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            messages: self.messages - before.messages,
            sends: self.sends - before.sends,
        }
    }

    pub(crate) fn plus(self, more: Self) -> Self {
        Self {
            messages: self.messages + more.messages,
            sends: self.sends + more.sends,
        }
    }

    /// Returns the messages in one send, mean.
    pub(crate) fn messages_per_send(self) -> f64 {
        self.messages / self.sends.max(1.0)
    }
}

impl Uproar {
    /// Mints a token for `user` in room number `room`, with every capability.
    pub(crate) fn token(&self, room: usize, user: &str) -> Result<String, BenchError> {
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
        Ok(mint(&self.keyring, request, api::wall_clock(), nonce).token)
    }

    /// Returns the ARN of room number `room`, if the server is in `dev` mode.
    pub(crate) fn arn(&self, room: usize) -> String {
        self.program.dev.arn(self.rooms[room])
    }
}

fn read_keyring(program: &Program, data_dir: &Path) -> Result<Keyring, BenchError> {
    let path = (program.keyring_path)(data_dir);
    let text = fs::read_to_string(&path)
        .map_err(|error| BenchError::Server(format!("{}: {error}", path.display())))?;
    Keyring::parse(&text)
        .map_err(|error| BenchError::Server(format!("{}: {error}", path.display())))
}
