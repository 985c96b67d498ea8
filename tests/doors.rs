//! A shard's doors: closed, its listening sockets stay open and newcomers wait; handshakes in progress end in time.
//! Real shards and real sockets, in the conformance mode, which asks for no token.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use tokio::runtime::Runtime;
use uproar::clock::Clock;
use uproar::net::backend::Kind;
use uproar::shard::command::Refused;
use uproar::shard::gateway::Gateway;
use uproar::shard::handshake::{ECHO_ROOM, HandshakeConfig, HandshakeSettings};
use uproar::shard::mesh::{Listeners, Plan, Shards, bind, start};
use uproar::shard::metrics::{Figure, ShardMetrics};
use uproar::shard::settings::ShardSettings;
use uproar::supervisor::Supervisor;
use uproar_proto::base::id::RoomId;
use uproar_testing::parts::room_settings;

const SHARDS: usize = 2;
/// Longer than a handshake may take, so that its own end comes first.
const LONG: Duration = Duration::from_mins(1);
const HEAD: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n";

struct World {
    runtime: Runtime,
    gateway: Gateway,
    shards: Shards,
}

impl World {
    fn new(io: Kind) -> Self {
        let settings = ShardSettings {
            echo: true,
            ..ShardSettings::open(SHARDS)
        };
        let handshake_config = HandshakeConfig {
            keyring: Arc::default(),
            pages: None,
            echo: true,
            extensions: false,
            settings: HandshakeSettings {
                tls: None,
                origins: Arc::default(),
                compression: false,
                limits: Arc::default(),
            },
        };
        let room = RoomId::parse(ECHO_ROOM).unwrap();
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let mut shards = start(Plan {
            settings: settings.clone(),
            io,
            // One socket, which both shards accept from.
            listeners: Listeners::deal(&[&sockets[0]], SHARDS).unwrap(),
            rooms: vec![(room, room_settings())],
            journals: None,
            handshake_config,
            archive: false,
            cluster: false,
            pin: false,
            clock: Clock::start(),
            supervisor: &Supervisor::new(|| panic!("a thread has ended")),
        })
        .unwrap();
        let mailboxes = std::mem::take(&mut shards.mailboxes);
        Self {
            runtime: uproar::supervisor::runtime().unwrap(),
            gateway: Gateway::new(mailboxes, settings),
            shards,
        }
    }

    fn address(&self) -> SocketAddr {
        self.shards.address
    }

    fn turn(&self, open: bool, deadline: Duration) -> Result<(), Refused> {
        self.runtime
            .block_on(self.gateway.turn_doors(open, deadline))
    }

    /// Closes the doors, and runs `meanwhile` once both shards know it but one still waits for a handshake.
    fn close_and(&self, meanwhile: impl Future<Output = ()>) -> Result<(), Refused> {
        self.runtime.block_on(async {
            let both = tokio::join!(biased; self.gateway.turn_doors(false, LONG), meanwhile);
            both.0
        })
    }

    fn sum(&self, figure: fn(&ShardMetrics) -> &Figure) -> u64 {
        let all = self.shards.metrics.iter();
        all.map(|shard| figure(shard).get()).sum()
    }

    fn await_figure(&self, figure: fn(&ShardMetrics) -> &Figure, value: u64) {
        while self.sum(figure) != value {
            sleep(Duration::from_millis(1));
        }
    }

    /// A client that has sent this much of its request.
    fn client(&self, sent: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address()).unwrap();
        client.set_nodelay(true).unwrap();
        client.write_all(sent.as_bytes()).unwrap();
        client
    }

    /// A client whose handshake a shard has begun.
    fn half_open(&self) -> TcpStream {
        let client = self.client(&HEAD[..20]);
        self.await_figure(|shard| &shard.handshakes, 1);
        client
    }
}

/// Goal: closed doors keep newcomers waiting and end the handshakes in progress within the deadline, each way that
/// can go; then they open again. Method: one world through all of it, with rings and with epoll.
#[test]
fn doors_close_and_open_again() {
    through_all(World::new(Kind::IoUring));
    through_all(World::new(Kind::Epoll));
}

fn through_all(mut world: World) {
    let status = |mut client: &TcpStream| {
        let mut answer = [0; 12];
        client.read_exact(&mut answer).map(|()| answer)
    };
    let entered = |client: &TcpStream| assert_eq!(&status(client).unwrap(), b"HTTP/1.1 101");

    // They are closed at first.
    let early = world.client(HEAD);
    assert_eq!(world.turn(false, LONG), Ok(()));
    assert_eq!(world.sum(|shard| &shard.opened), 0);
    assert_eq!(world.turn(true, LONG), Ok(()));
    entered(&early);

    // A handshake in progress is completed, and the answer waits for it.
    let mut slow = world.half_open();
    let completes = async { slow.write_all(&HEAD.as_bytes()[20..]).unwrap() };
    assert_eq!(world.close_and(completes), Ok(()));
    entered(&slow);
    assert_eq!(world.sum(|shard| &shard.rejected_closing), 0);

    // Whoever comes now waits, and is served when they open.
    let waiting = world.client(HEAD);
    assert_eq!(world.turn(false, LONG), Ok(()));
    assert_eq!(world.sum(|shard| &shard.opened), 2);
    assert_eq!(world.turn(true, LONG), Ok(()));
    entered(&waiting);

    // One that takes too long is reset, and nobody else.
    let silent = world.half_open();
    assert_eq!(world.turn(false, Duration::ZERO), Ok(()));
    assert!(status(&silent).is_err());
    assert_eq!(world.sum(|shard| &shard.rejected_closing), 1);
    assert_eq!(world.turn(true, LONG), Ok(()));

    // Opened again before the last handshake ended: the closing says so, and the handshake goes on.
    let mut undecided = world.half_open();
    let opens = async { world.gateway.turn_doors(true, LONG).await.unwrap() };
    assert_eq!(world.close_and(opens), Err(Refused::Busy));
    undecided.write_all(&HEAD.as_bytes()[20..]).unwrap();
    entered(&undecided);
    entered(&world.client(HEAD));

    world.gateway.stop();
    world.shards.join();
}
