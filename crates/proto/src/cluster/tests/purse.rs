//! Rates of the account, granted by several nodes.

use std::time::Duration;

use super::world::{Faults, World};
use crate::base::clock::Tick;
use crate::base::rate::Rate;
use crate::cluster::engine::{Input, MessageRates, Ticket};
use crate::cluster::{HashSlot, Quota};

const PER_SECOND: u32 = 100;
const RATE: Rate = Rate::per_second(PER_SECOND);

fn limited(nodes: usize, seed: u64) -> World {
    let mut world = World::new(seed, nodes);
    world.rates = MessageRates {
        sends: Some(RATE),
        moderations: None,
    };
    for node in 0..nodes {
        world.input(node, Input::Rates(world.rates));
    }
    // Homes, and a whole budget.
    world.run(8_000);
    world
}

/// The most requests granted in any second.
fn densest(granted: &[Tick]) -> usize {
    let second = Duration::from_secs(1);
    let within = |first: usize| {
        let end = granted[first].after(second);
        granted[first..].iter().filter(|at| **at < end).count()
    };
    (0..granted.len()).map(within).max().unwrap_or_default()
}

/// Asks `a_second` times a second for `millis`, on nodes and in rooms by turns.
fn chat(world: &mut World, nodes: &[usize], rooms: u8, a_second: u64, millis: u64) {
    let asks = a_second * millis / 1_000;
    for ask in 0..asks {
        let node = nodes[usize::try_from(ask).expect("few") % nodes.len()];
        let room = u8::try_from(ask % u64::from(rooms)).expect("a room");
        world.ask(node, room);
        world.run(1_000 / a_second);
    }
}

/// Goal: senders on all nodes or on one only, in many rooms or in one, get the whole rate and no more than one server
/// grants. Method: twice the rate for ten seconds; grants are at least what passes in them, at most a burst more.
#[test]
fn the_account_has_its_rate_wherever_senders_are() {
    for (nodes, rooms) in [(&[0, 1, 2][..], 40), (&[1][..], 1), (&[2][..], 40)] {
        let mut world = limited(3, 7);
        chat(&mut world, nodes, rooms, 200, 10_000);
        world.run(200);
        let (granted, most) = (world.authored.len(), densest(&world.authored));
        assert!((1_000..=1_105).contains(&granted), "{nodes:?}: {granted}");
        assert!(most <= 205, "{nodes:?}: {most} in a second");
    }
}

/// Goal: a second's worth at once is granted wherever it arrives, as by one server.
#[test]
fn a_burst_is_granted_whole() {
    let mut world = limited(3, 8);
    for _ in 0..150 {
        world.ask(0, 1);
    }
    world.run(50);
    let granted = world.authored.len();
    assert!((95..=105).contains(&granted), "{granted} of 150 at once");
}

/// Goal: nobody waits for a bank that is gone, nodes grant no more than the rate meanwhile, and the rate is whole again
/// once hash slot 0 has a home. Method: the home of hash slot 0 is killed, under twice the rate at the others.
#[test]
fn the_rate_holds_while_the_bank_moves() {
    for seed in 0..8 {
        let mut world = limited(3, seed);
        let bank = world.home_node(HashSlot::new(0)).expect("a home");
        let others: Vec<_> = (0..3).filter(|node| *node != bank).collect();
        // Rooms whose home lives.
        let rooms = (0..60).filter(|room| {
            let home = world.home_node(HashSlot::of(World::room(*room)));
            home.is_some_and(|home| home != bank)
        });
        let rooms: Vec<u8> = rooms.collect();
        let say = |world: &mut World, seconds: usize| {
            for ask in 0..200 * seconds {
                world.ask(others[ask % 2], rooms[ask % rooms.len()]);
                world.run(5);
            }
        };
        say(&mut world, 3);
        let before = world.authored.len();
        world.kill(bank);
        say(&mut world, 1);
        let during = world.authored.len() - before;
        assert!(during >= 40, "seed {seed}: {during} in the second without");
        say(&mut world, 4);
        let moved = world.authored.len();
        say(&mut world, 4);
        let after = world.authored.len() - moved;
        assert!((395..=405).contains(&after), "seed {seed}: {after} after");
        assert!(world.home_node(HashSlot::new(0)).is_some());
        let most = densest(&world.authored);
        assert!(most <= 210, "seed {seed}: {most} in a second");
    }
}

/// Goal: a bank that was replaced and does not know it grants nothing beside the new one. Method: the home of hash slot 0
/// reaches nobody for six seconds, in which another one takes over, at three times the rate on all nodes: it grants its part
/// of the rate on its own, as any node without a bank does.
#[test]
fn a_replaced_bank_grants_nothing() {
    for seed in 0..8 {
        let mut world = limited(3, 200 + seed);
        let bank = world.home_node(HashSlot::new(0)).expect("a home");
        chat(&mut world, &[0, 1, 2], 40, 300, 2_000);
        world.isolate(bank, true);
        let begun = world.authored.len();
        chat(&mut world, &[bank], 40, 300, 6_000);
        let cut_off = world.authored.len() - begun;
        // What it had drawn, and what passes in its lease, besides.
        assert!(
            cut_off <= 6 * 34 + 60,
            "seed {seed}: {cut_off} in six seconds"
        );
        world.isolate(bank, false);
        chat(&mut world, &[0, 1, 2], 40, 300, 2_000);
        let most = densest(&world.authored);
        assert!(most <= 210, "seed {seed}: {most} in a second");
    }
}

/// Goal: lost, late and repeated messages grant nothing twice: over any time no more than the rate, a burst, and 5 %.
/// Method: 20 % of messages lost and as many sent twice, for ten seconds at three times the rate.
#[test]
fn lost_draws_grant_nothing_twice() {
    for seed in 0..8 {
        let mut world = limited(3, 100 + seed);
        world.faults = Faults {
            lost: 200,
            ..Faults::default()
        };
        chat(&mut world, &[0, 1, 2], 40, 300, 10_000);
        let granted = world.authored.len();
        assert!((500..=1_155).contains(&granted), "seed {seed}: {granted}");
        let most = densest(&world.authored);
        assert!(most <= 210, "seed {seed}: {most} in a second");
    }
}

/// Goal: calls of the API are charged as one budget of all nodes, each told once, the first ones at once.
/// Method: five a second allowed, ten on each of three nodes at once; then one a second later on each.
#[test]
fn calls_of_all_nodes_share_a_budget() {
    let mut world = limited(3, 9);
    let quota = Quota::operation(2);
    let call = |world: &mut World, node, number| {
        let ticket = Ticket(number);
        let rate = Rate::per_second(5);
        world.input(
            node,
            Input::Charge {
                ticket,
                quota,
                rate,
            },
        );
    };
    for number in 0..30 {
        call(
            &mut world,
            usize::try_from(number).expect("few") % 3,
            number,
        );
    }
    world.run(50);
    let granted = |world: &World| world.charged.iter().filter(|(_, granted)| *granted).count();
    assert_eq!((world.charged.len(), granted(&world)), (30, 5));
    world.run(1_000);
    for node in 0..3 {
        call(&mut world, node, 30);
    }
    world.run(50);
    assert_eq!((world.charged.len(), granted(&world)), (33, 8));
}
