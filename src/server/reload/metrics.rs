//! Counts of reloads, and which configuration the last one has left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::clock;
use crate::exposition::{Exposition, Family};

/// Counters of reloads.
#[derive(Debug)]
pub(in crate::server) struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
    // Unix seconds; of the start until there is one.
    last_done: AtomicU64,
    // The SHA-256 of the configuration, in hexadecimal digits.
    sha256: ArcSwap<String>,
}

impl Reloads {
    /// A server starts with a configuration that has this SHA-256.
    pub(in crate::server) fn new(sha256: &str) -> Self {
        Self {
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_done: AtomicU64::new(clock::unix_now().secs()),
            sha256: ArcSwap::from_pointee(sha256.to_owned()),
        }
    }

    /// The server has a configuration with this SHA-256.
    pub(super) fn loaded(&self, sha256: &str) {
        self.sha256.store(Arc::new(sha256.to_owned()));
    }

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
        page.family(&CONFIG)
            .add(&[("sha256", &self.sha256.load())], 1);
        let mut reloads = page.family(&RELOADS);
        for (result, count) in [("ok", &self.done), ("error", &self.failed)] {
            reloads.add(&[("result", result)], count.load(Ordering::Relaxed));
        }
        page.single(&LAST_DONE, self.last_done.load(Ordering::Relaxed));
    }
}

const CONFIG: Family = Family::gauge(
    "uproar_config_info",
    "The SHA-256 of what --print-config shows of the configuration; always 1.",
);
const LAST_DONE: Family = Family::gauge(
    "uproar_config_last_reload_success_timestamp_seconds",
    "When something was last taken over by a reload, or the start, in seconds since the Unix epoch.",
);
const RELOADS: Family = Family::counter(
    "uproar_config_reloads_total",
    "Times the configuration, the sealing keys or a certificate were read again, by result.",
);
