//! Counts of reloads.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock;
use crate::exposition::{Exposition, Family};

/// Counters of reloads.
#[derive(Debug)]
pub(in crate::server) struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
    // Unix seconds; of the start until there is one.
    last_done: AtomicU64,
}

impl Default for Reloads {
    fn default() -> Self {
        Self {
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_done: AtomicU64::new(clock::unix_now().secs()),
        }
    }
}

impl Reloads {
    /// Counts a reload by its result.
    pub(super) fn count<T, E>(&self, outcome: &Result<T, E>) {
        let counter = match outcome {
            Ok(_) => &self.done,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if outcome.is_ok() {
            let now = clock::unix_now().secs();
            self.last_done.store(now, Ordering::Relaxed);
        }
    }

    /// Adds them to `/metrics`.
    pub(in crate::server) fn render(&self, page: &mut Exposition) {
        let mut reloads = page.family(&RELOADS);
        for (result, count) in [("ok", &self.done), ("error", &self.failed)] {
            reloads.add(&[("result", result)], count.load(Ordering::Relaxed));
        }
        page.single(&LAST_DONE, self.last_done.load(Ordering::Relaxed));
    }
}

const LAST_DONE: Family = Family::gauge(
    "uproar_config_last_reload_success_timestamp_seconds",
    "When something was last taken over by a reload, or the start, in seconds since the Unix epoch.",
);
const RELOADS: Family = Family::counter(
    "uproar_config_reloads_total",
    "Times the configuration, the sealing keys or a certificate were read again, by result.",
);
