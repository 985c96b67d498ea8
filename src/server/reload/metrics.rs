//! Counts of reloads.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::exposition::{Exposition, Family};

/// Counters of reloads.
#[derive(Debug, Default)]
pub(in crate::server) struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    /// Counts a reload by its result.
    pub(super) fn count<T, E>(&self, outcome: &Result<T, E>) {
        let counter = match outcome {
            Ok(_) => &self.done,
            Err(_) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds them to `/metrics`.
    pub(in crate::server) fn render(&self, page: &mut Exposition) {
        let mut reloads = page.family(&RELOADS);
        for (result, count) in [("ok", &self.done), ("error", &self.failed)] {
            reloads.add(&[("result", result)], count.load(Ordering::Relaxed));
        }
    }
}

const RELOADS: Family = Family::counter(
    "uproar_config_reloads_total",
    "Times the configuration, the sealing keys or a certificate were read again, by result.",
);
