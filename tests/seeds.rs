//! Worlds by seeds, on all cores.

use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Instant;

/// A run that has this many failures ends: more say nothing new.
const FAILURES_MAX: usize = 10;
/// Worlds between two lines of progress: runs by hand take an hour and more.
const PROGRESS: u64 = 500;

/// Returns the number in an environment variable.
pub(crate) fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

/// What worlds have shown so far.
#[derive(Default)]
struct Shown<T> {
    next: u64,
    ended: u64,
    counts: T,
    failed: Vec<u64>,
}

/// Lives as many worlds, of the seeds from `UPROAR_SIMULATION_FIRST` or 0 on, and sums what they saw.
///
/// # Panics
///
/// At the end, with the seeds of all worlds that failed.
#[expect(
    clippy::disallowed_methods,
    reason = "how long a run has taken is told, and decides nothing"
)]
pub(crate) fn all<T: Default + AddAssign + Send>(worlds: u64, live: impl Fn(u64) -> T + Sync) -> T {
    let begun = Instant::now();
    let first = number("UPROAR_SIMULATION_FIRST").unwrap_or(0);
    let shown = Mutex::new(Shown {
        next: first,
        ended: 0,
        counts: T::default(),
        failed: Vec::new(),
    });
    let share = || {
        loop {
            let seed = {
                let mut shown = shown.lock().expect("no panic while it is held");
                if shown.next >= first + worlds || shown.failed.len() >= FAILURES_MAX {
                    return;
                }
                shown.next += 1;
                shown.next - 1
            };
            let counts = catch_unwind(AssertUnwindSafe(|| live(seed)));
            let mut shown = shown.lock().expect("no panic while it is held");
            shown.ended += 1;
            match counts {
                Ok(counts) => shown.counts += counts,
                Err(_shown) => shown.failed.push(seed),
            }
            if shown.ended.is_multiple_of(PROGRESS) {
                let (ended, failed) = (shown.ended, shown.failed.len());
                let minutes = begun.elapsed().as_secs() / 60;
                println!("{ended} worlds after {minutes} min, {failed} failed, now {seed}");
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..threads {
            scope.spawn(share);
        }
    });
    let shown = shown.into_inner().expect("no panic while it is held");
    let Shown { counts, failed, .. } = shown;
    assert!(
        failed.is_empty(),
        "worlds failed, as printed above: {failed:?}"
    );
    counts
}

/// Lives one world; if it fails, prints how to repeat it.
pub(crate) fn live<T>(seed: u64, again: &str, world: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(world))
        .unwrap_or_else(|_shown| panic!("world {seed} failed, as printed above. Again: {again}"))
}
