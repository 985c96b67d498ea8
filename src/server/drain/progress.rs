//! How far a drain is, for `/metrics`, `uproar health` and whoever waits for it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::exposition::{Exposition, Family};
use crate::shard::close_reason::CloseReason;
use crate::shard::metrics::ShardMetrics;

/// The states of a drain, in this order; a cancelled one returns to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::server) enum DrainState {
    /// There is none.
    Serving,
    /// `/readyz` says so; nobody is cut yet.
    Noticed,
    /// Viewers are cut.
    Cutting,
    /// Nobody is accepted any more; whoever is left is cut.
    Stopped,
}

impl DrainState {
    /// Its name.
    pub(in crate::server) fn label(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Noticed => "noticed",
            Self::Cutting => "cutting",
            Self::Stopped => "stopped",
        }
    }

    const ALL: [Self; 4] = [Self::Serving, Self::Noticed, Self::Cutting, Self::Stopped];
}

/// A drain's state, and the shards' figures of it.
pub(in crate::server) struct Progress {
    state: Cell<DrainState>,
    // When the last viewer is to be cut; of no meaning while the server serves.
    end: Cell<Instant>,
    shards: Vec<Arc<ShardMetrics>>,
}

/// What is told of a drain's progress.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    state: DrainState,
    // Since it began.
    elapsed_ms: u64,
    // Viewers who were cut, and who are still to be cut.
    cut: u64,
    left: u64,
    // Until the state is over.
    rest_s: u64,
}

impl Progress {
    /// Begins with a server that serves.
    pub(in crate::server) fn new(shards: &[Arc<ShardMetrics>]) -> Self {
        Self {
            state: Cell::new(DrainState::Serving),
            end: Cell::new(Instant::now()),
            shards: shards.to_vec(),
        }
    }

    /// The state.
    pub(in crate::server) fn state(&self) -> DrainState {
        self.state.get()
    }

    /// The next state.
    pub(super) fn enter(&self, state: DrainState) {
        self.state.set(state);
    }

    /// A drain begins, and cuts its last viewer after `length`.
    pub(super) fn begin(&self, length: Duration) {
        self.end.set(Instant::now() + length);
    }

    /// What the server does, in a line for people.
    pub(in crate::server) fn line(&self) -> String {
        if self.state() == DrainState::Serving {
            return format!("{} viewers, {} rooms", self.connections(), self.rooms());
        }
        let rest = self.end.get().saturating_duration_since(Instant::now());
        format!(
            "draining: {} viewers left, {} s",
            self.left(),
            rest.as_secs()
        )
    }

    /// Viewers whose session goes on.
    pub(in crate::server) fn left(&self) -> u64 {
        self.shards.iter().map(|shard| shard.open.get()).sum()
    }

    /// Viewers that were cut since the server's start.
    pub(super) fn cut(&self) -> u64 {
        let closed = |shard: &Arc<ShardMetrics>| shard.closed(CloseReason::Drain).get();
        self.shards.iter().map(closed).sum()
    }

    /// Connections, those included that wait for the viewer's FIN.
    pub(super) fn connections(&self) -> u64 {
        self.shards
            .iter()
            .map(|shard| shard.connections.get())
            .sum()
    }

    /// Rooms.
    pub(in crate::server) fn rooms(&self) -> u64 {
        self.shards.iter().map(|shard| shard.rooms.get()).sum()
    }

    /// Bytes that the kernel has taken for viewers: while it grows, some of them read.
    pub(super) fn sent(&self) -> u64 {
        self.shards.iter().map(|shard| shard.bytes_sent.get()).sum()
    }

    /// What is told of it.
    pub(super) fn report(&self, cut_before: u64, [elapsed, rest]: [Duration; 2]) -> Report {
        Report {
            state: self.state(),
            elapsed_ms: elapsed.as_millis().try_into().unwrap_or(u64::MAX),
            cut: self.cut() - cut_before,
            left: self.left(),
            rest_s: rest
                .as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(u64::MAX),
        }
    }

    /// Adds it to `/metrics`.
    pub(in crate::server) fn render(&self, page: &mut Exposition) {
        let state = self.state();
        let mut states = page.family(&STATE);
        for each in DrainState::ALL {
            states.add(&[("state", each.label())], u64::from(each == state));
        }
        let is_draining = state != DrainState::Serving;
        page.single(&LEFT, if is_draining { self.left() } else { 0 });
    }
}

const STATE: Family = Family::gauge(
    "uproar_drain_state",
    "1 for the state the server is in, 0 for the others.",
);
const LEFT: Family = Family::gauge(
    "uproar_drain_left",
    "Viewers that the drain in progress has not cut yet.",
);
