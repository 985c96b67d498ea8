//! Figures of a cluster's registry on this node.

use std::cell::Cell;
use std::time::Duration;

use crate::exposition::{Exposition, Family};

/// Counts of one node.
#[derive(Debug, Default)]
pub(super) struct Figures {
    barriers: Cell<u64>,
    barrier_time: Cell<Duration>,
    conflicts: Cell<u64>,
}

impl Figures {
    /// Counts a barrier that took this long.
    pub(super) fn barrier(&self, took: Duration) {
        self.barriers.set(self.barriers.get() + 1);
        self.barrier_time
            .set(self.barrier_time.get().saturating_add(took));
    }

    /// Counts a write that came too late, and was made again.
    pub(super) fn conflict(&self) {
        self.conflicts.set(self.conflicts.get() + 1);
    }

    /// Adds them to `/metrics`.
    pub(super) fn render(&self, page: &mut Exposition, is_current: bool) {
        page.single(&CURRENT, u8::from(is_current));
        let sum = self.barrier_time.get().as_secs_f64();
        page.family(&BARRIERS)
            .summary(&[], sum, self.barriers.get());
        page.single(&CONFLICTS, self.conflicts.get());
    }
}

const CURRENT: Family = Family::gauge(
    "uproar_cluster_registry_current",
    "1 if this node follows the registry of its cluster, else 0.",
);
const BARRIERS: Family = Family::summary(
    "uproar_cluster_barrier_seconds",
    "Waits of calls until this node had all that was acknowledged before.",
);
const CONFLICTS: Family = Family::counter(
    "uproar_cluster_registry_conflicts_total",
    "Writes to the registry that another change came before, and that were made anew.",
);
