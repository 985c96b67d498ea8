//! Whole turns of a shard: the core as it ships, on a wire that completes every send whole. What is
//! missing is the ring and the kernel.

use std::time::Duration;

use uproar::base::limits::{CHECK_GRANULE, PING_INTERVAL};

use super::world::{World, masked_frame, newcomer, request};
use super::{Call, Case};

const MEMBERS: usize = 500;
/// Far beyond the processor's second-level cache: about 4 MB of connections.
const MEMBERS_MANY: usize = 10_000;
/// Requests of one turn.
const REQUESTS: u32 = 64;
/// Newcomers of one turn.
const NEWCOMERS: u32 = 16;

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
        what: "a newcomer placed and greeted, 16 a turn",
        operations: NEWCOMERS,
        calls: (64, 64),
        make: || admit(false),
    },
    Case {
        name: "come_and_go",
        what: "as admit, and gone again",
        operations: NEWCOMERS,
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

/// Member 0 says `messages` messages in one turn; everybody is sent them.
fn deliver(members: usize, messages: usize) -> Call {
    let mut world = World::new(members, 0);
    let speaker = world.core.wire.receives[0];
    let frame = masked_frame(1, request().as_bytes());
    Box::new(move || {
        world.delivered_bytes = 0;
        for _ in 0..messages {
            world.receive(speaker, &frame);
        }
        world.turn();
        let least = messages * members * frame.len();
        assert!(world.delivered_bytes > least, "everybody got everything");
    })
}

fn receive() -> Call {
    let mut world = World::new(1, 0);
    let speaker = world.core.wire.receives[0];
    let frame = masked_frame(1, request().as_bytes());
    Box::new(move || {
        for _ in 0..REQUESTS {
            world.receive(speaker, &frame);
        }
        world.turn();
    })
}

/// Newcomers enter a room of 500; one write of the token journal would stand for each turn's.
fn admit(go: bool) -> Call {
    let mut world = World::new(MEMBERS, 0);
    let mut next = MEMBERS;
    Box::new(move || {
        world.core.wire.receives.clear();
        for _ in 0..NEWCOMERS {
            let newcomer = newcomer((), world.room, next, world.now, false);
            world.core.enter(newcomer);
            next += 1;
        }
        world.turn();
        let came = std::mem::take(&mut world.core.wire.receives);
        assert_eq!(came.len(), NEWCOMERS as usize, "all are in");
        if go {
            for key in came {
                world.hang_up(key);
            }
            assert_eq!(world.core.connection_count(), MEMBERS);
        }
    })
}

/// A silent room, a ping interval later. A pong is an empty masked control frame.
fn ping() -> Call {
    let mut world = World::new(MEMBERS, 0);
    let keys = world.core.wire.receives.clone();
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
