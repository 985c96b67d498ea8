//! Random worlds: whatever fails, one order, nothing lost, nothing twice.

use std::collections::HashSet;
use std::time::Duration;

use proptest::prelude::*;

use super::world::{Faults, World};
use crate::base::limits::CLUSTER_KEPT_MAX;
use crate::cluster::HashSlot;
use crate::cluster::engine::Outcome;

const ROOMS: u8 = 6;

/// Breaks something, or mends it.
fn disturb(world: &mut World) {
    let node = world.random.usize(0..world.nodes.len());
    match world.random.u32(0..14) {
        0 => world.kill(node),
        1 | 2 => {
            if !world.is_alive(node) {
                world.restart(node);
            }
        }
        3 => {
            let millis = world.random.u64(100..20_000);
            world.stop(node, millis);
        }
        4 => world.isolate(node, true),
        5 | 6 => world.isolate(node, false),
        7 => world.quorum = false,
        8..=10 => world.quorum = true,
        11 => {
            world.faults = Faults {
                lost: world.random.u32(0..200),
                unanswered: world.random.u32(0..300),
                refused: world.random.u32(0..300),
                late: world.random.u32(0..100),
            };
        }
        _ => world.faults = Faults::default(),
    }
}

fn mend(world: &mut World) {
    world.faults = Faults::default();
    world.quorum = true;
    for node in 0..world.nodes.len() {
        world.isolate(node, false);
        if !world.is_alive(node) {
            world.restart(node);
        }
    }
}

fn check(world: &World) {
    for room in 0..ROOMS {
        let slot = HashSlot::of(World::room(room));
        let frames = world.frames(slot);
        let unique: HashSet<_> = frames.iter().map(|(_, id)| *id).collect();
        assert_eq!(unique.len(), frames.len(), "a frame is in the log twice");
        for node in &world.nodes {
            let seen = node.delivered.get(&slot).map_or(&[][..], |seen| &**seen);
            let start = seen.first().map_or(0, |first| {
                let start = frames.iter().position(|frame| frame == first);
                start.expect("what was delivered is in the log")
            });
            let stretch = &frames[start..];
            assert!(
                stretch.starts_with(seen),
                "a node saw another order, or a gap"
            );
        }
    }
    for (ticket, (_, _, slot, id, asked)) in &world.asked {
        let times = world
            .frames(*slot)
            .iter()
            .filter(|(_, frame)| frame == id)
            .count();
        match world.told.get(ticket) {
            Some(Outcome::Committed) => assert_eq!(times, 1, "{ticket:?} is in the log"),
            Some(Outcome::Refused(..)) => assert_eq!(times, 0, "{ticket:?} is not"),
            Some(Outcome::Unknown) => {
                assert!(world.now.tick.since(*asked) >= CLUSTER_KEPT_MAX);
                assert!(times <= 1);
            }
            None => assert!(times <= 1),
        }
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed, 3);
    world.refuse = 50;
    world.run(1_500);
    for _ in 0..40 {
        if world.random.u32(0..3) == 0 {
            disturb(&mut world);
        }
        for _ in 0..world.random.u32(0..6) {
            let (node, room) = (world.random.usize(0..3), world.random.u8(0..ROOMS));
            world.ask(node, room);
            let millis = world.random.u64(0..300);
            world.run(millis);
        }
        let millis = world.random.u64(0..2_000);
        world.run(millis);
    }
    check(&world);
    mend(&mut world);
    // Stopped processes wake, dead ones are noticed, hash slots find their homes.
    world.run(45_000);
    check(&world);
    world.refuse = 0;
    let mut last = Vec::new();
    for room in 0..ROOMS {
        for node in 0..3 {
            last.push(world.ask(node, room).expect("all are awake"));
        }
    }
    world.run(2_000);
    for ticket in last {
        assert_eq!(
            world.told.get(&ticket),
            Some(&Outcome::Committed),
            "{ticket:?} after all is well"
        );
    }
    check(&world);
    for (ticket, (node, incarnation, ..)) in &world.asked {
        if world.nodes[*node].engine.me() == *incarnation {
            assert!(world.told.contains_key(ticket), "{ticket:?} has no outcome");
        }
    }
    for room in 0..ROOMS {
        let frames = world.frames(HashSlot::of(World::room(room)));
        for node in &world.nodes {
            let seen = node.delivered.get(&HashSlot::of(World::room(room)));
            let newest = seen.and_then(|seen| seen.last());
            assert_eq!(newest, frames.last(), "all nodes are at the end");
        }
    }
    let skipped = world.nodes.iter().map(|node| node.skipped).sum::<u32>();
    assert_eq!(skipped, 0, "no log forgot anything");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Goal: through deaths, stops, cuts, lost quorums, and a bus that loses, delays and repeats: one order for all,
    /// no request twice, none lost while its origin lives, each told once; and when all is well again, all works.
    /// Method: three engines over logs in memory, a random course of events by a seed.
    #[test]
    fn whatever_fails_there_is_one_order(seed in any::<u64>()) {
        run(seed);
    }
}

/// Goal: without faults a message takes the linger and a few hops, and a dead home's rooms go on within a second.
#[test]
fn a_message_is_fast_and_a_death_costs_less_than_a_second() {
    let mut world = World::new(7, 3);
    world.run(12_000);
    let slot = HashSlot::of(World::room(0));
    let ticket = world.ask(0, 0).expect("awake");
    world.run(20);
    assert_eq!(world.told.get(&ticket), Some(&Outcome::Committed));
    let home = world.home_node(slot).expect("there is one");
    world.kill(home);
    let other = (home + 1) % 3;
    let ticket = world.ask(other, 0).expect("awake");
    let start = world.now.tick;
    while !world.told.contains_key(&ticket) {
        world.run(10);
        assert!(
            world.now.tick.since(start) < Duration::from_secs(1),
            "too slow"
        );
    }
    assert_eq!(world.told.get(&ticket), Some(&Outcome::Committed));
}
