//! Three nodes as one server, on brokers that are a model, driven by a seed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use uproar_testing::cluster::{Counts, Fault, Planted, World};

use super::seeds;

const WORLDS: u64 = 500;
/// A planted fault must be found within this number of worlds.
const PLANTED_WORLDS: u64 = 20;

/// What only stubs of shards do.
const OF_STUBS: [Fault; 3] = [
    Fault::AuthoredLate,
    Fault::AuthorRefuses,
    Fault::ArchivedLate,
];

/// Lives one world from beginning to end.
fn live(seed: u64) -> Counts {
    let again = format!(
        "UPROAR_SIMULATION_SEED={seed} cargo test --test all simulated_nodes_keep_their_promises"
    );
    seeds::live(seed, &again, || World::of_seed(seed).run())
}

/// Goal: all nodes deliver one order of each hash slot without a gap, no request is in the log twice, each is told its
/// end once, and truly; a home that was replaced appends nothing; times never go back in a room; bounds hold; and once
/// nothing goes wrong any more, each hash slot has one home that all know, and serves; the account's rate is granted as by one
/// server, whichever node homes hash slot 0: with acks that are lost or late,
/// records that are never republished, or twice, or late, streams without leader or quorum, conditions refused for nothing, old
/// reads, records that are gone, messages lost, late and reordered, partitions, pauses, kills, drains, hand-overs to a new process, wrong clocks, nodes that
/// hear no other one, and all of them away or cut off until their logs are empty by age. A hash slot is taken over at a pace, and
/// archives have each frame of a logged room.
/// Method: 500 seeds (`UPROAR_SIMULATION_WORLDS`), or the one in `UPROAR_SIMULATION_SEED`; an oracle that knows the true
/// log judges each step, and each kind of fault must have been hit.
#[test]
fn simulated_nodes_keep_their_promises() {
    if let Some(seed) = seeds::number("UPROAR_SIMULATION_SEED") {
        println!("{:?}", live(seed));
        return;
    }
    let worlds = seeds::number("UPROAR_SIMULATION_WORLDS").unwrap_or(WORLDS);
    let counts = seeds::all(worlds, live);
    for (fault, count) in counts.faults.iter() {
        assert!(
            count >= worlds / 10,
            "the simulation idles: {fault} {count} times"
        );
    }
    let seen = counts.seen;
    for (what, count) in [
        ("committed", seen.committed / 200),
        ("refused", seen.refused),
        ("unknown", seen.unknown),
        ("unknown, and committed", seen.unknown_committed * 4),
        ("takeovers", seen.takeovers / 256),
        ("releases", seen.releases),
        ("handed over", seen.handed_over * 20),
        ("skipped", seen.skipped * 4),
        ("drawn", seen.drawn / 20),
        ("granted alone", seen.alone * 2),
        ("logs begun anew", seen.anew),
        ("archived", seen.archived / 200),
    ] {
        assert!(count >= worlds, "the simulation idles: {what}, {seen:?}");
    }
    println!("{counts:?}");
}

/// Goal: what seeds beyond those of each run have shown stays mended. Method: their worlds.
#[test]
fn worlds_that_failed_once_hold() {
    for (seed, _what) in [
        (
            321,
            "an archive told of frames before those in front of them, which no spool does",
        ),
        (
            1_911,
            "a replaced home of hash slot 0 grants draws beside the new one",
        ),
        (3_087, "the same"),
        (3_282, "the same"),
        (
            3_460,
            "a process that found an empty log hands over: it owes nothing from before",
        ),
        (13_442, "the same, twice in a row"),
    ] {
        live(seed);
    }
}

/// Goal: the same with the shards that ship: each viewer's stream is a gapless stretch of its room's order by the true log,
/// without an id twice or a time that goes back; each request of a viewer who stays is answered; whoever is disconnected
/// is; a token opens one connection, on whichever nodes it is presented, at once too.
/// Method: three nodes of two shards each, with fake rings, whose viewers connect, chat and come back on another node; some rooms
/// have a review handler, which is slow, silent, and says no; a tenth of the number of worlds. Each kind of fault must have been hit.
#[test]
fn simulated_shards_of_nodes_keep_their_promises() {
    let live = |seed| {
        let again = format!(
            "UPROAR_SIMULATION_SEED={seed} cargo test --test all simulated_shards_of_nodes"
        );
        seeds::live(seed, &again, || World::with_cores(seed, None).run())
    };
    if let Some(seed) = seeds::number("UPROAR_SIMULATION_SEED") {
        println!("{:?}", live(seed));
        return;
    }
    let worlds = seeds::number("UPROAR_SIMULATION_WORLDS").unwrap_or(WORLDS) / 10;
    let Counts { faults, seen } = seeds::all(worlds, live);
    for (fault, count) in faults.iter().filter(|(fault, _)| !OF_STUBS.contains(fault)) {
        assert!(
            count >= worlds / 10,
            "the simulation idles: {fault} {count} times, {faults:?}"
        );
    }
    let idles = seen.streams < worlds * 10 || seen.seen < worlds * 1_000 || seen.verdicts < worlds;
    let idles = idles || seen.handed_over < worlds / 4;
    assert!(!idles, "the simulation idles: {seen:?}");
    println!("{seen:?}");
}

/// Goal: the oracle sees what it should. Method: faults that no cluster survives, planted between an engine and its world:
/// each is found within a few worlds.
#[test]
fn planted_faults_are_found() {
    all_are_found(Planted::ALL, |seed, planted| {
        World::planted(seed, Some(planted))
    });
}

/// Goal: viewers of the shards that ship see what they should. Method: faults that only they can see, planted between an engine
/// and these shards: each is found within a few worlds.
#[test]
fn faults_that_are_planted_for_viewers_are_found() {
    all_are_found(Planted::OF_VIEWERS, |seed, planted| {
        World::with_cores(seed, Some(planted))
    });
}

fn all_are_found(all: &[Planted], world: impl Fn(u64, Planted) -> World) {
    std::panic::set_hook(Box::new(|_| {}));
    let is_found = |planted: Planted| {
        let mut seeds = 0..PLANTED_WORLDS;
        seeds.any(|seed| {
            let world = world(seed, planted);
            catch_unwind(AssertUnwindSafe(|| world.run())).is_err()
        })
    };
    let hidden: Vec<_> = all.iter().filter(|planted| !is_found(**planted)).collect();
    let _default = std::panic::take_hook();
    assert!(hidden.is_empty(), "planted, and not found: {hidden:?}");
}
