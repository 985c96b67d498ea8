//! Records a second that brokers take: rooms of as many hash slots as there are, more messages from step to step.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use uproar_proto::base::id::RoomId;
use uproar_proto::cluster::HashSlot;

use super::latency::{APPENDS, Idle};
use crate::harness::across::{Across, Crowd};
use crate::harness::ages::Ages;
use crate::harness::error::BenchError;
use crate::harness::nodes::Nodes;

/// Messages a second of the first step; each further one has half as many again.
const FIRST: f64 = 2_000.0;
const GROWTH: f64 = 1.5;
/// A step beyond which nobody would go, by its 99th percentile.
const P99_MAX: Duration = Duration::from_secs(1);
const STEPS: usize = 8;
const WARMUP: Duration = Duration::from_millis(500);
const QUIET: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

/// One step.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) rate: f64,
    pub(super) appends_per_second: f64,
    pub(super) ages: Ages,
    /// Processor microseconds of one record, of one node and of all brokers together, idling taken off.
    pub(super) micros: [f64; 2],
    /// Mean time from an append to its acknowledgement, in milliseconds.
    pub(super) append_ms: f64,
    /// Shares of one processor: all nodes, all brokers, the tool.
    pub(super) shares: [f64; 3],
    pub(super) lost: u64,
}

/// One room of each hash slot.
pub(super) fn one_for_each_slot(rooms: &[RoomId]) -> Vec<RoomId> {
    let mut seen = HashSet::new();
    let mut found = rooms.to_vec();
    found.retain(|room| seen.insert(HashSlot::of(*room)));
    found
}

/// Raises the rate until the latency breaks, and returns the steps.
pub(super) fn measure(
    nodes: &Nodes,
    rooms: &[RoomId],
    measured: Duration,
    idle: &Idle,
) -> Result<Vec<Step>, BenchError> {
    let crowd = Crowd {
        each: 1,
        is_everywhere: false,
        senders: 1,
        content_bytes: 200,
        comes_back: false,
    };
    let mut across = Across::connect(nodes.servers(rooms)?, crowd)?;
    let (mut steps, mut rate) = (Vec::new(), FIRST);
    for _ in 0..STEPS {
        let step = step((nodes, idle), &mut across, rate, measured)?;
        let is_over = !step.ages.keep(P99_MAX) || step.lost > 0;
        steps.push(step);
        if is_over {
            break;
        }
        rate *= GROWTH;
    }
    Ok(steps)
}

fn step(
    (nodes, idle): (&Nodes, &Idle),
    across: &mut Across,
    rate: f64,
    measured: Duration,
) -> Result<Step, BenchError> {
    let acks = || {
        let sum = nodes.metric("cluster_append_seconds_sum");
        (sum, nodes.metric("cluster_append_seconds_count"))
    };
    let mut before = None;
    let stretch = across.stretch(rate, (WARMUP, measured), || {
        let (acks, appends) = (acks(), nodes.metric(APPENDS));
        before = Some((acks, appends, nodes.busy()));
    })?;
    let (acks_before, appends, busy) = before.expect("it has begun");
    let busy = nodes.busy().since(&busy);
    let appends = nodes.metric(APPENDS) - appends;
    let (sum, count) = acks();
    across.settle(QUIET, PATIENCE)?;
    let seconds = stretch.elapsed.as_secs_f64();
    let share = |time: Duration| time.as_secs_f64() / seconds;
    let each = |all: Duration, idle: Duration| {
        (all.as_secs_f64() - idle.as_secs_f64() * seconds) * 1e6 / appends.max(1.0)
    };
    Ok(Step {
        rate,
        appends_per_second: appends / seconds,
        ages: Ages::of(&stretch.ages),
        micros: [
            each(busy.all_nodes(), idle.busy.all_nodes()) / nodes.count() as f64,
            each(busy.brokers, idle.busy.brokers),
        ],
        append_ms: (sum - acks_before.0) * 1e3 / (count - acks_before.1).max(1.0),
        shares: [
            share(busy.all_nodes()),
            share(busy.brokers),
            share(busy.own),
        ],
        lost: across.losses().lost + across.refused(),
    })
}

impl Step {
    pub(super) fn json(&self) -> Value {
        let [nodes, brokers, tool] = self.shares;
        json!({
            "rate": self.rate,
            "appends_per_second": self.appends_per_second.round(),
            "latency_us": self.ages.json(),
            "append_ms_mean": self.append_ms,
            "cpu_us_per_record": {"each_node": self.micros[0], "brokers": self.micros[1]},
            "processors": {"nodes": nodes, "brokers": brokers, "tool": tool},
            "lost": self.lost,
        })
    }

    pub(super) fn line(&self) -> String {
        let [nodes, brokers, tool] = self.shares;
        let [p50, p99, ..] = self.ages.ms();
        let [node, broker] = self.micros;
        format!(
            "{:8.0}  {:9.0}  {p50:8.2}  {p99:8.2}  {:9.2}  {nodes:5.2}  {brokers:7.2}  {tool:4.2}  {node:7.1}  {broker:9.1}  {:4}",
            self.rate, self.appends_per_second, self.append_ms, self.lost
        )
    }
}

pub(super) const HEADING: &str = "messages/s  appends/s    p50 ms    p99 ms  append ms  nodes  brokers  tool  node us  broker us  lost";

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each hash slot has one room at most, and none that has a room goes without.
    #[test]
    fn a_room_stands_for_its_slot() {
        let rooms: Vec<_> = (0..2_000).map(RoomId::from_random).collect();
        let slots: HashSet<_> = rooms.iter().map(|room| HashSlot::of(*room)).collect();
        assert_eq!(one_for_each_slot(&rooms).len(), slots.len());
    }
}
