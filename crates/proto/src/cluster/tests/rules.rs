//! Rules of the cluster, one by one, in worlds without other faults.

use super::world::World;
use crate::cluster::HashSlot;
use crate::cluster::engine::Outcome;

fn settled() -> (World, HashSlot, usize) {
    let mut world = World::new(1, 3);
    world.run(12_000);
    let slot = HashSlot::of(World::room(0));
    let home = world.home_node(slot).expect("every hash slot has a home");
    (world, slot, home)
}

/// Goal: who was away longer than the log remembers skips what it missed, says so, and goes on.
#[test]
fn what_the_log_forgot_is_skipped_aloud() {
    let (mut world, slot, home) = settled();
    let away = (home + 1) % 3;
    world.isolate(away, true);
    for _ in 0..5 {
        let ticket = world.ask(home, 0).expect("awake");
        world.run(1_200);
        assert_eq!(world.told.get(&ticket), Some(&Outcome::Committed));
    }
    world.forget(slot, 2);
    world.isolate(away, false);
    world.run(2_000);
    assert_eq!(world.nodes[away].skipped, 1);
    let ticket = world.ask(away, 0).expect("awake");
    world.run(1_000);
    assert_eq!(world.told.get(&ticket), Some(&Outcome::Committed));
    let seen = world.nodes[away]
        .delivered
        .get(&slot)
        .and_then(|seen| seen.last());
    assert_eq!(seen, world.frames(slot).last());
}
