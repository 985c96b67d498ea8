//! The server in numbers, as `uproar stats` and `uproar top` show it. Totals count from the process's start, so that
//! whoever asks twice knows the rates.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::{Value, json};

use super::Operator;
use crate::server::process_metrics::resident_bytes;
use crate::shard::close_reason::CloseReason;
use crate::shard::metrics::{Figure, ShardMetrics, fanout, memory};
use crate::shard::times::Observed;
use uproar_proto::base::limits::HASH_SLOTS;

impl Operator {
    /// Tells everything. It reads counters, and asks nobody.
    pub(super) fn stats(self) -> Value {
        let progress = &self.drains.progress;
        let shards: Vec<_> = self.shards.iter().enumerate().map(shard).collect();
        json!({
            "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"),
            "commit": env!("UPROAR_COMMIT"),
            "uptime_ms": self.control.uptime_ms(),
            "state": progress.state().label(),
            "ready": self.is_ready(),
            "viewers": progress.left(),
            "viewers_max": self.control.viewers_max(),
            "rooms": progress.rooms(),
            "handshakes": self.sum(|shard| &shard.handshakes),
            "totals": totals(&self.shards),
            "shards": shards,
            "fanout": { "bounds_us": Observed::bounds_us(), "counts": fanout(&self.shards).counts },
            "memory": self.memory(),
            "cluster": self.cluster(),
        })
    }

    fn memory(&self) -> Value {
        let mut areas = json!({ "resident": resident_bytes() });
        for (area, bytes) in memory(&self.shards) {
            areas[area] = bytes.into();
        }
        areas
    }

    fn is_ready(&self) -> bool {
        self.drains.ready.load(Ordering::Acquire)
            && (self.control.cluster()).is_none_or(|cluster| cluster.ready().is_ok())
    }

    fn sum(&self, figure: impl Fn(&ShardMetrics) -> &Figure) -> u64 {
        self.shards.iter().map(|shard| figure(shard).get()).sum()
    }

    /// How this node sees its cluster; null for a server alone.
    fn cluster(&self) -> Value {
        let Some(node) = &self.cluster else {
            return Value::Null;
        };
        let ready = node.cluster.ready().map_err(|unready| unready.to_string());
        json!({
            "name": node.settings.name.as_str(),
            "node": node.settings.node.as_str(),
            "nodes": node.cluster.live_nodes(),
            "slots_home": node.cluster.slots_home(),
            "slots": HASH_SLOTS,
            "unready": ready.err(),
        })
    }
}

/// What was done since the process's start.
#[derive(Debug, Serialize)]
pub(super) struct Totals {
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) received: u64,
    pub(super) refused: u64,
    pub(super) delivered: u64,
    pub(super) shed: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
}

/// Adds up the shards' counters.
pub(super) fn totals(shards: &[Arc<ShardMetrics>]) -> Totals {
    let all = |figures: &[fn(&ShardMetrics) -> &Figure]| -> u64 {
        let of = |shard: &Arc<ShardMetrics>| -> u64 {
            figures.iter().map(|figure| figure(shard).get()).sum()
        };
        shards.iter().map(of).sum()
    };
    let closed = |shard: &Arc<ShardMetrics>| -> u64 {
        let reasons = CloseReason::ALL.iter();
        reasons.map(|reason| shard.closed(*reason).get()).sum()
    };
    Totals {
        opened: all(&[|shard| &shard.opened]),
        closed: shards.iter().map(closed).sum(),
        received: all(&[
            |shard| &shard.received_send,
            |shard| &shard.received_delete,
            |shard| &shard.received_disconnect,
        ]),
        refused: all(&[
            |shard| &shard.rejected_400,
            |shard| &shard.rejected_403,
            |shard| &shard.rejected_404,
            |shard| &shard.rejected_406,
            |shard| &shard.rejected_413,
            |shard| &shard.rejected_429,
            |shard| &shard.rejected_other,
        ]),
        delivered: all(&[|shard| &shard.frames_delivered]),
        shed: all(&[|shard| &shard.frames_skipped]),
        bytes_received: all(&[|shard| &shard.bytes_received]),
        bytes_sent: all(&[|shard| &shard.bytes_sent]),
    }
}

fn shard((number, metrics): (usize, &Arc<ShardMetrics>)) -> Value {
    json!({
        "shard": number,
        "connections": metrics.connections.get(),
        "cpu_ms": metrics.cpu_nanos.get() / 1_000_000,
    })
}
