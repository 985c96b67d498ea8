//! Whole turns of a shard: the core as it ships, on an `Io` that completes every send whole, without ring
//! and kernel.

use std::time::Duration;

use uproar_proto::base::limits::{CHECK_GRANULE, PING_INTERVAL};

use super::{Call, Case};
use uproar_testing::client::{self, request};
use uproar_testing::single_shard::{SingleShard, viewer};

const MEMBERS: usize = 500;
/// Members beyond the processor's second-level cache: about 4 MB of connections.
const MEMBERS_MANY: usize = 10_000;
/// Requests of one turn.
const REQUESTS: u32 = 64;
/// Pending connections of one turn.
const PENDING: u32 = 16;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "deliver_1",
        what: "a delivery, 1 message a turn × 500",
        operations: 500,
        calls: (50, 100),
        make: || deliver(MEMBERS, 1),
    },
    Case {
        name: "deliver_16",
        what: "a delivery, 16 messages a turn × 500",
        operations: 16 * 500,
        calls: (50, 100),
        make: || deliver(MEMBERS, 16),
    },
    Case {
        name: "deliver_1_wide",
        what: "a delivery, 1 message a turn × 10,000",
        operations: 10_000,
        calls: (2, 5),
        make: || deliver(MEMBERS_MANY, 1),
    },
    Case {
        name: "receive",
        what: "a SEND_MESSAGE, 64 a turn, room of one",
        operations: REQUESTS,
        calls: (10, 40),
        make: receive,
    },
    Case {
        name: "admit",
        what: "a connection placed and greeted, 16 a turn",
        operations: PENDING,
        calls: (64, 64),
        make: || admit(false),
    },
    Case {
        name: "come_and_go",
        what: "as admit, and gone again",
        operations: PENDING,
        calls: (64, 64),
        make: || admit(true),
    },
    Case {
        name: "ping",
        what: "a ping and its pong",
        operations: 500,
        calls: (5, 20),
        make: ping,
    },
];

/// Member 0 sends `messages` messages in one turn, which go to all members.
fn deliver(members: usize, messages: usize) -> Call {
    let mut world = SingleShard::new(members, 0);
    let sender = world.core.io().receives[0];
    let frame = client::text(request().as_bytes());
    Box::new(move || {
        world.delivered_bytes = 0;
        for _ in 0..messages {
            world.receive(sender, &frame);
        }
        world.turn();
        let least = messages * members * frame.len();
        assert!(
            world.delivered_bytes > least,
            "all members got all messages"
        );
    })
}

fn receive() -> Call {
    let mut world = SingleShard::new(1, 0);
    let sender = world.core.io().receives[0];
    let frame = client::text(request().as_bytes());
    Box::new(move || {
        for _ in 0..REQUESTS {
            world.receive(sender, &frame);
        }
        world.turn();
    })
}

/// Admits connections to a room of 500; each turn would add one write of the token journal.
fn admit(go: bool) -> Call {
    let mut world = SingleShard::new(MEMBERS, 0);
    let mut next = MEMBERS;
    Box::new(move || {
        world.core.io_mut().receives.clear();
        for _ in 0..PENDING {
            let pending = viewer((), world.room, next, world.now, false);
            world.core.enter(pending);
            next += 1;
        }
        world.turn();
        let came = std::mem::take(&mut world.core.io_mut().receives);
        assert_eq!(
            came.len(),
            usize::try_from(PENDING).expect("few"),
            "all are in"
        );
        if go {
            for key in came {
                world.hang_up(key);
            }
            assert_eq!(world.core.connection_count(), MEMBERS);
        }
    })
}

/// Pings a silent room after a ping interval. A pong is an empty masked control frame.
fn ping() -> Call {
    let mut world = SingleShard::new(MEMBERS, 0);
    let keys = world.core.io().receives.clone();
    let pong = [0x8A, 0x80, 1, 2, 3, 4];
    Box::new(move || {
        let pause = PING_INTERVAL + CHECK_GRANULE * 2 + Duration::from_millis(1);
        world.now.tick = world.now.tick.after(pause);
        world.delivered_bytes = 0;
        world.turn();
        assert_eq!(world.delivered_bytes, 2 * MEMBERS, "a ping each");
        for key in &keys {
            world.receive(*key, &pong);
        }
    })
}
