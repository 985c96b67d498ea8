//! Sessions, rooms and shards on a fake ring and a fake clock, driven by a seed.
//!
//! `fuzz/fuzz_targets/core_worlds.rs` drives the same worlds with a fuzzer's bytes.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use uproar_testing::simulation::{Counts, MAIN, World};

use super::seeds;

const STEPS: usize = 400;
const WORLDS: u64 = 500;

/// Runs one world from beginning to end.
fn live(seed: u64) -> Counts {
    let again = format!(
        "UPROAR_SIMULATION_SEED={seed} cargo test --test all simulated_rooms_keep_their_promises"
    );
    seeds::live(seed, &again, || {
        let mut world = World::of_seed(seed);
        world.run(STEPS);
        world.check()
    })
}

/// Goal: all members see one order, no message is lost or doubled, every request is answered once, viewers send
/// nothing, kicked users and members of a deleted room are disconnected and others only by the rules, counts
/// are exact, and reviewed messages follow their handler's decisions in the order of their arrival: with
/// mailboxes of any size, completions that are late, short or failures, shards that oversleep, clocks that
/// step, hand-overs to another process with another number of shards, some of which are given up, and drains,
/// some of which are cancelled: whoever is drained has everything said before, at the pace that was ordered.
/// Method: 500 seeds (`UPROAR_SIMULATION_WORLDS`) of 400 steps, or the one in `UPROAR_SIMULATION_SEED`; then
/// everything pending arrives, all streams are compared, and the world ends by a drain.
#[test]
fn simulated_rooms_keep_their_promises() {
    if let Some(seed) = seeds::number("UPROAR_SIMULATION_SEED") {
        live(seed);
        return;
    }
    let worlds = seeds::number("UPROAR_SIMULATION_WORLDS").unwrap_or(WORLDS);
    let counts = seeds::all(worlds, live);
    let least = usize::try_from(worlds).unwrap();
    let Counts {
        messages,
        clients,
        compressed,
        denied,
        allowed,
        ignored_verdicts,
        kicked,
        deleted,
        cut,
        handed_over,
        rolled_back,
        drained,
        late,
        cancelled,
    } = counts;
    for (what, count) in [
        ("messages", messages / 20),
        ("clients", clients / 10),
        ("compressed", compressed / 10),
        ("denied", denied),
        ("allowed", allowed),
        ("ignored_verdicts", ignored_verdicts),
        ("kicked", kicked),
        ("deleted", deleted * 4),
        ("cut", cut),
        ("handed over", handed_over),
        ("rolled back", rolled_back * 2),
        ("drained", drained),
        ("late", late * 2),
        ("cancelled", cancelled * 2),
    ] {
        assert!(count >= least, "the simulation idles: {what}, {counts:?}");
    }
}

/// Goal: a token opens one connection, whichever shards get it, in one turn or later.
#[test]
fn a_token_presented_everywhere_opens_once() {
    let mut opened = 0;
    for seed in 0..50 {
        let mut world = World::of_seed(seed);
        for _ in 0..3 {
            for _ in 0..4 {
                world.present_everywhere(7_000, MAIN);
            }
            world.run(20);
        }
        // It opens none if the kernel had no memory for it.
        assert!(world.opened(7_000) <= 1, "world {seed}");
        opened += world.opened(7_000);
    }
    assert!(opened > 40, "only {opened} of 50 were opened");
}

/// Goal: bugs that the fuzzer found stay fixed, and its seeds still run. Method: the worlds of its corpus.
#[test]
fn worlds_of_the_fuzzer_keep_their_promises() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/core_worlds");
    let mut lived = 0;
    for seed in fs::read_dir(seeds).unwrap() {
        let path = seed.unwrap().path();
        let mut world = World::of_bytes(&fs::read(&path).unwrap());
        world.run(STEPS);
        let checked = catch_unwind(AssertUnwindSafe(|| world.check()));
        assert!(
            checked.is_ok(),
            "{} failed, as printed above",
            path.display()
        );
        lived += 1;
    }
    assert!(lived >= 8, "only {lived} seeds");
}
