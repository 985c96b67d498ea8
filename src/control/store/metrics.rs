//! Metrics of the database's writer.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::exposition::{Exposition, Family};

/// Counters of the writer.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// Commits that are on disk.
    pub commits: AtomicU64,
    /// Writes that are on disk.
    pub writes: AtomicU64,
    /// Writes that failed because the disk refused them.
    pub refused: AtomicU64,
}

impl StoreMetrics {
    /// Adds them to `/metrics`.
    pub fn render(&self, page: &mut Exposition) {
        for (family, count) in [
            (&COMMITS, &self.commits),
            (&WRITES, &self.writes),
            (&REFUSED, &self.refused),
        ] {
            page.single(family, count.load(Ordering::Relaxed));
        }
    }
}

const COMMITS: Family = Family::counter(
    "uproar_store_commits_total",
    "Commits of the database that are on disk.",
);
const WRITES: Family = Family::counter(
    "uproar_store_writes_total",
    "Writes to the database that are on disk.",
);
const REFUSED: Family = Family::counter(
    "uproar_store_refused_writes_total",
    "Writes to the database that the disk refused.",
);
