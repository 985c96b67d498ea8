//! A shard's machine: sessions, rooms, mailboxes and fake I/O. Whatever clients send, however completions
//! come, and whichever clock steps, the promises of `tests/simulation.rs` are kept.
//!
//! Input: two bytes choose what can happen in the world, the others decide what does; a world ends with its
//! bytes.

#![no_main]
use libfuzzer_sys::fuzz_target;
use uproar_testing::simulation::World;

/// Longer worlds find little that several short ones do not.
const STEPS_MAX: usize = 300;

fuzz_target!(|data: &[u8]| {
    let mut world = World::of_bytes(data);
    world.run(STEPS_MAX);
    world.check();
});
