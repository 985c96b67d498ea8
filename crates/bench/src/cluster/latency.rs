//! Latency at fixed rates, and what the messages cost each process meanwhile.

use std::time::Duration;

use serde_json::{Value, json};

use uproar_proto::base::id::RoomId;

use crate::harness::across::{Across, Crowd, Losses};
use crate::harness::ages::Ages;
use crate::harness::error::BenchError;
use crate::harness::nodes::{Busy, Nodes};

/// Before the measured part.
const WARMUP: Duration = Duration::from_secs(1);
/// Silence after which nothing more is expected, and the longest wait for it.
const QUIET: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(5);

/// The metric that counts records of the log.
pub(super) const APPENDS: &str = "cluster_appends_total";

/// One load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    /// Messages a second, all rooms together.
    pub(super) rate: f64,
    pub(super) rooms: usize,
    /// Viewers of each room, all nodes together.
    pub(super) viewers: usize,
    pub(super) content_bytes: usize,
    pub(super) measured: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) load: Load,
    pub(super) ages: Ages,
    pub(super) messages: u64,
    pub(super) losses: Losses,
    pub(super) refused: u64,
    /// Processor microseconds of one message, by node: the sender's first; what idling costs is taken off.
    pub(super) node_micros: Vec<f64>,
    /// Of all brokers together.
    pub(super) broker_micros: f64,
    /// Share of one processor that the tool took.
    pub(super) own_share: f64,
    /// Records of the log, those of idling taken off.
    pub(super) appends: f64,
}

/// What everything takes in a second in which nothing is said.
#[derive(Debug, Clone, Default)]
pub(super) struct Idle {
    pub(super) busy: Busy,
    /// Records: signs that homes live.
    pub(super) appends: f64,
}

/// Looks at it for some time.
pub(super) fn idle(nodes: &Nodes, time: Duration) -> Idle {
    let before = (nodes.metric(APPENDS), nodes.busy());
    std::thread::sleep(time);
    let seconds = time.as_secs_f64();
    let busy = nodes.busy().since(&before.1).per(seconds);
    Idle {
        busy,
        appends: (nodes.metric(APPENDS) - before.0) / seconds,
    }
}

/// Senders at the first node, viewers at all of them.
pub(super) fn measure(
    nodes: &Nodes,
    rooms: &[RoomId],
    load: Load,
    idle: &Idle,
) -> Result<Row, BenchError> {
    let crowd = Crowd {
        each: (load.viewers / nodes.count()).max(1),
        is_everywhere: true,
        senders: 1,
        content_bytes: load.content_bytes,
        comes_back: false,
    };
    let mut across = Across::connect(nodes.servers(rooms)?, crowd)?;
    let mut before = (nodes.busy(), 0.0);
    let stretch = across.stretch(load.rate, (WARMUP, load.measured), || {
        let appends = nodes.metric(APPENDS);
        before = (nodes.busy(), appends);
    })?;
    let busy = nodes.busy().since(&before.0);
    let appends = nodes.metric(APPENDS) - before.1;
    across.settle(QUIET, PATIENCE)?;
    let seconds = stretch.elapsed.as_secs_f64();
    let appends = (appends - idle.appends * seconds).max(0.0);
    let messages = stretch.messages.max(1) as f64;
    let net = |all: Duration, idle: Duration| {
        (all.as_secs_f64() - idle.as_secs_f64() * seconds) * 1e6 / messages
    };
    let own = busy.nodes.iter().zip(&idle.busy.nodes);
    Ok(Row {
        load,
        ages: Ages::of(&stretch.ages),
        messages: stretch.messages,
        losses: across.losses(),
        refused: across.refused(),
        node_micros: own.map(|(all, idle)| net(*all, *idle)).collect(),
        broker_micros: net(busy.brokers, idle.busy.brokers),
        own_share: busy.own.as_secs_f64() / seconds,
        appends,
    })
}

impl Row {
    /// Messages in one record of the log.
    pub(super) fn batch(&self) -> f64 {
        self.messages as f64 / self.appends.max(1.0)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "rate": self.load.rate,
            "rooms": self.load.rooms,
            "viewers_per_room": self.load.viewers,
            "messages": self.messages,
            "latency_us": self.ages.json(),
            "said": self.losses.said,
            "lost": self.losses.lost,
            "repeated": self.losses.repeated,
            "reordered": self.losses.reordered,
            "refused": self.refused,
            "node_cpu_us_per_message": self.node_micros,
            "broker_cpu_us_per_message": self.broker_micros,
            "appends": self.appends,
            "client_busy": self.own_share,
        })
    }
}

/// Costs that two rows tell apart: of a record of the log, and of a message in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Parts {
    pub(super) record_micros: f64,
    pub(super) message_micros: f64,
}

/// Solves for both parts from two loads with batches of different lengths: `micros` is for each message, `batch` how many
/// a record has. `None`: the batches are too alike.
pub(super) fn apart((micros, batch): (f64, f64), (others, other): (f64, f64)) -> Option<Parts> {
    let difference = 1.0 / batch - 1.0 / other;
    if difference.abs() < 0.2 {
        return None;
    }
    let record_micros = (micros - others) / difference;
    Some(Parts {
        record_micros,
        message_micros: micros - record_micros / batch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a record's and a message's cost are told apart exactly where batches differ, and not at all where they do not.
    #[test]
    fn costs_are_told_apart_by_batches() {
        let cost = |batch: f64| 100.0 / batch + 7.0;
        let parts = apart((cost(1.0), 1.0), (cost(10.0), 10.0)).expect("different");
        assert!((parts.record_micros - 100.0).abs() < 1e-9);
        assert!((parts.message_micros - 7.0).abs() < 1e-9);
        assert_eq!(apart((cost(1.0), 1.0), (cost(1.1), 1.1)), None);
    }
}
