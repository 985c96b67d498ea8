//! Worlds by seeds, on all cores.

use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Returns the number in an environment variable.
pub(crate) fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// Lives the world of each seed below `worlds`, and sums what they saw.
pub(crate) fn all<T: Default + AddAssign + Send>(worlds: u64, live: impl Fn(u64) -> T + Sync) -> T {
    let next = AtomicU64::new(0);
    let share = || {
        let mut counts = T::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= worlds {
                return counts;
            }
            counts += live(seed);
        }
    };
    let mut counts = T::default();
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let shares: Vec<_> = (0..threads).map(|_| scope.spawn(share)).collect();
        for share in shares {
            counts += share
                .join()
                .unwrap_or_else(|failure| resume_unwind(failure));
        }
    });
    counts
}

/// Lives one world; if it fails, prints how to repeat it.
pub(crate) fn live<T>(seed: u64, again: &str, world: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(world))
        .unwrap_or_else(|_shown| panic!("world {seed} failed, as printed above. Again: {again}"))
}
