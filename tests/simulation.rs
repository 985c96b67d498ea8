//! Sessions, rooms and shards on a fake ring and a fake clock, driven by a seed.
//!
//! `fuzz/fuzz_targets/core_worlds.rs` drives the same worlds with a fuzzer's bytes.

mod world;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use self::world::{Counts, MAIN, World};

const STEPS: usize = 400;
const WORLDS: u64 = 500;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// One world from beginning to end; if it fails, says how to have that again.
fn live(seed: u64) -> Counts {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::of_seed(seed);
        world.run(STEPS);
        world.check()
    }));
    lived.unwrap_or_else(|_shown| {
        panic!(
            "world {seed} failed, as said above. Again: UPROAR_SIMULATION_SEED={seed} \
             cargo test --test all simulated_rooms_keep_their_promises"
        )
    })
}

/// Goal: one order for all, nothing lost or doubled, every request answered once, viewers stay silent,
/// kicked users and members of a deleted room go, nobody else does but by the rules, counts are exact, and
/// reviewed messages say what their handler decided, in the order of their arrival: with mailboxes of any
/// size, completions that are late, short or failures, shards that oversleep, and clocks that step.
/// Method: 500 seeds (`UPROAR_SIMULATION_WORLDS`) of 400 steps, or the one in `UPROAR_SIMULATION_SEED`; then
/// everything arrives, and all streams are compared.
#[test]
fn simulated_rooms_keep_their_promises() {
    if let Some(seed) = number("UPROAR_SIMULATION_SEED") {
        live(seed);
        return;
    }
    let worlds = number("UPROAR_SIMULATION_WORLDS").unwrap_or(WORLDS);
    let next = AtomicU64::new(0);
    let share = || {
        let mut counts = Counts::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= worlds {
                return counts;
            }
            counts += live(seed);
        }
    };
    let mut counts = Counts::default();
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let shares: Vec<_> = (0..threads).map(|_| scope.spawn(share)).collect();
        for share in shares {
            counts += share
                .join()
                .unwrap_or_else(|failure| resume_unwind(failure));
        }
    });
    let least = usize::try_from(worlds).unwrap();
    let Counts {
        said,
        clients,
        compressed,
        denied,
        allowed,
        unheard,
        kicked,
        deleted,
        cut,
    } = counts;
    for (what, count) in [
        ("said", said / 20),
        ("clients", clients / 10),
        ("compressed", compressed / 10),
        ("denied", denied),
        ("allowed", allowed),
        ("unheard", unheard),
        ("kicked", kicked),
        ("deleted", deleted * 4),
        ("cut", cut),
    ] {
        assert!(count >= least, "the simulation idles: {what}, {counts:?}");
    }
}

/// Goal: a token opens one connection, whichever shards it is presented at, in one turn or later.
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
        // None if the kernel had no place for it.
        assert!(world.opened(7_000) <= 1, "world {seed}");
        opened += world.opened(7_000);
    }
    assert!(opened > 40, "only {opened} of 50 were opened");
}

/// Goal: what the fuzzer once found stays mended, and its seeds live. Method: the worlds of its corpus.
#[test]
fn worlds_of_the_fuzzer_keep_their_promises() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/core_worlds");
    let mut lived = 0;
    for seed in fs::read_dir(seeds).unwrap() {
        let path = seed.unwrap().path();
        let mut world = World::of_bytes(&fs::read(&path).unwrap());
        world.run(STEPS);
        let checked = catch_unwind(AssertUnwindSafe(|| world.check()));
        assert!(checked.is_ok(), "{} failed, as said above", path.display());
        lived += 1;
    }
    assert!(lived >= 8, "only {lived} seeds");
}
