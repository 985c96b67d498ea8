//! Flags that name the server under test.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use uproar_proto::base::id::RoomId;

use super::child::Start;
use super::client_protocol::ClientProtocol;
use super::error::Failure;
use super::flags::count;
use super::program::Program;
use super::server::{Attach, ServerUnderTest};
use super::tls::client::TlsClient;

/// The server under test. Without --target one is started for the time of the measurement.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// Shards of the server that is started
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count(1..))]
    pub(crate) shards: usize,
    /// What moves viewers' bytes in the server that is started: auto, io_uring or epoll [default: auto]
    #[arg(long, value_name = "BACKEND", value_parser = ["auto", "io_uring", "epoll"], conflicts_with = "running")]
    io: Option<String>,
    /// Viewers connect over TLS 1.3, and a server that is started has a throw-away certificate for
    /// them. Most viewers leave their records sealed and count them
    #[arg(long)]
    pub(crate) tls: bool,
    /// Messaging address of a running server, which needs `--quotas open`
    #[arg(
        long = "target",
        value_name = "ADDRESS",
        requires = "room",
        group = "running"
    )]
    pub(crate) messaging: Option<SocketAddr>,
    /// Data directory of the running server: its keys seal the viewers' tokens [default: that of
    /// `uproar dev`]
    #[arg(long, value_name = "DIRECTORY", requires = "messaging")]
    data_dir: Option<PathBuf>,
    /// Room of the running server, by ARN; repeat for more
    #[arg(long, value_name = "ARN", requires = "messaging")]
    room: Vec<String>,
    /// Process id of the running server: its processor time and memory are reported
    #[arg(long, requires = "running")]
    pid: Option<u32>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    /// Arguments of the server that is started, as in `-- --config FILE`
    #[arg(last = true)]
    extra: Vec<String>,
}

/// Another server under test, which has no tokens. It must send what the first connection of a room
/// sends to all connections of the room, that one included. Pin it to the first processor.
#[derive(Debug, Args)]
pub(crate) struct Peer {
    /// Measure this WebSocket server, whose rooms are the paths /r0, /r1 and so on. Give `fanout
    /// --size` the length of Uproar's frames less 4 bytes, and --pid for processor time and memory
    #[arg(long, value_name = "ADDRESS", group = "running")]
    plain: Option<SocketAddr>,
    /// Measure this NATS server, whose rooms are the subjects r000, r001 and so on. Its frames are
    /// 18 bytes longer than `fanout --size`
    #[arg(long, value_name = "ADDRESS", group = "running")]
    pub(crate) nats: Option<SocketAddr>,
}

impl Peer {
    pub(crate) fn is_given(&self) -> bool {
        self.plain.is_some() || self.nats.is_some()
    }

    /// Returns the server under test: the peer if there is one, else that of `target`. `settings`
    /// are those of a server that is started.
    pub(crate) fn server(
        &self,
        target: &Target,
        program: &Program,
        rooms: usize,
        settings: &[(&str, &str)],
    ) -> Result<ServerUnderTest, Failure> {
        if target.tls && self.nats.is_some() {
            let text = "--tls: NATS is measured without TLS";
            return Err(Failure::Usage(text.to_owned()));
        }
        let plain = |server, protocol| {
            let mut server = ServerUnderTest::plain(server, protocol, rooms, target.pid);
            server.tls = target.tls_client();
            Ok(server)
        };
        match (self.plain, self.nats) {
            (Some(server), _) => plain(server, ClientProtocol::WebSocket),
            (None, Some(server)) => plain(server, ClientProtocol::Nats),
            (None, None) => target.server_with(program, rooms, settings),
        }
    }
}

impl Target {
    /// Returns the server under test; one that is started has `rooms` rooms.
    pub(crate) fn server(
        &self,
        program: &Program,
        rooms: usize,
    ) -> Result<ServerUnderTest, Failure> {
        self.server_with(program, rooms, &[])
    }

    /// Does the same; a server that is started admits `connections` connections.
    pub(crate) fn server_for(
        &self,
        program: &Program,
        rooms: usize,
        connections: usize,
    ) -> Result<ServerUnderTest, Failure> {
        let admitted = connections.to_string();
        let settings = [("UPROAR_QUOTAS__CONNECTIONS", &*admitted)];
        self.server_with(program, rooms, &settings)
    }

    fn server_with(
        &self,
        program: &Program,
        rooms: usize,
        settings: &[(&str, &str)],
    ) -> Result<ServerUnderTest, Failure> {
        let mut server = match self.messaging {
            None => self.start(program, rooms, settings)?,
            Some(messaging) => self.attach(program, messaging)?,
        };
        server.tls = self.tls_client();
        Ok(server)
    }

    fn start(
        &self,
        program: &Program,
        rooms: usize,
        settings: &[(&str, &str)],
    ) -> Result<ServerUnderTest, Failure> {
        let mut settings = settings.to_vec();
        settings.extend(self.io.as_ref().map(|io| ("UPROAR_SERVER__IO", &**io)));
        let mut extra = self.extra.clone();
        if self.tls {
            // The API is not what is measured: rooms are made and metrics read without TLS.
            settings.push(("UPROAR_TLS__LISTENERS", "messaging"));
            extra.insert(0, "--tls".to_owned());
        }
        let start = Start {
            shards: self.shards,
            rooms,
            extra: &extra,
            settings: &settings,
        };
        Ok(ServerUnderTest::start(program, start)?)
    }

    fn attach(&self, program: &Program, messaging: SocketAddr) -> Result<ServerUnderTest, Failure> {
        let data_dir = self.data_dir.clone();
        let attach = Attach {
            messaging,
            data_dir: data_dir.unwrap_or_else(|| program.dev_data_dir.clone()),
            rooms: self.room.iter().map(room_id).collect::<Result<_, _>>()?,
            pid: self.pid,
        };
        Ok(ServerUnderTest::attach(program, attach)?)
    }

    fn tls_client(&self) -> Option<TlsClient> {
        self.tls.then(|| TlsClient::new(false))
    }
}

/// Reads the room of an ARN.
pub(crate) fn room_id(arn: &String) -> Result<RoomId, Failure> {
    let id = arn.rsplit_once(":room/");
    let id = id.and_then(|(_, id)| RoomId::parse(id));
    id.ok_or_else(|| Failure::Usage(format!("--room {arn}: expected a room ARN")))
}
