//! A shard's machine: sessions, rooms, mailboxes and fake I/O. Whatever clients send, however completions
//! come, and whichever clock steps, the promises of `tests/simulation.rs` are kept.
//!
//! Input: two bytes choose what can happen in the world, the others decide what does; a world ends with its
//! bytes.

#![no_main]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "as in the tests"
)]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/simulation/world/mod.rs"]
#[allow(dead_code, reason = "the simulation counts, and lives by seeds")]
mod world;

/// Longer worlds find little that several short ones do not.
const STEPS_MAX: usize = 300;

fuzz_target!(|data: &[u8]| {
    let mut world = world::World::of_bytes(data);
    world.run(STEPS_MAX);
    world.check();
});
