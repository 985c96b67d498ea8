//! `uproar bench fanout`: deliveries a second, and their latency, at a rate or at the highest rate that
//! keeps a bound.

use std::time::Duration;

use serde_json::{Value, json};

use super::host::Host;
use super::load::{Load, Outcome, Phase};
use super::{Ages, BenchError};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Viewers in each room.
    pub receivers: usize,
    /// Bytes of a message's content.
    pub content_bytes: usize,
    /// Messages a second in each room; `None`: find the highest.
    pub rate: Option<f64>,
    /// Bound of the 99th percentile when finding it.
    pub p99_max: Duration,
    /// Length of one measurement.
    pub measured: Duration,
    /// Measurements, or searches.
    pub runs: usize,
    /// Receivers to look at in each room.
    pub samples: usize,
}

/// One measurement.
#[derive(Debug, Clone)]
pub struct Row {
    /// Messages a second in each room.
    pub rate: f64,
    /// Deliveries a second, all rooms.
    pub deliveries_per_second: f64,
    /// From when a message was meant to be sent to its receipt.
    pub ages: Ages,
    /// Lost or repeated.
    pub wrong: u64,
    /// Refused by the server.
    pub refused: u64,
    /// Bytes on the wire of one delivery.
    pub frame_bytes: f64,
    /// Processor nanoseconds of the server for each delivery, user and system.
    pub cpu_nanos: Option<[f64; 2]>,
    /// Messages that one of the server's sends carried, mean; `None` if its metrics are not known.
    pub messages_per_send: Option<f64>,
    /// Whether bound and completeness held.
    pub kept: bool,
}

/// Connects everybody and measures; `tell` hears each row, `connected` each connection.
pub fn run(
    host: &Host,
    plan: &Plan,
    connected: impl FnMut(),
    mut tell: impl FnMut(usize, &Row),
) -> Result<Vec<Row>, BenchError> {
    let mut load = Load::connect(host, plan.receivers, plan.samples, connected)?;
    let mut best = Vec::new();
    for run in 0..plan.runs {
        let found = match plan.rate {
            Some(rate) => measure(host, plan, &mut load, rate)?,
            None => find(host, plan, &mut load, |row| tell(run, row))?,
        };
        tell(run, &found);
        best.push(found);
    }
    Ok(best)
}

/// Doubles the rate until the bound breaks, then halves the distance.
fn find(
    host: &Host,
    plan: &Plan,
    load: &mut Load,
    mut tell: impl FnMut(&Row),
) -> Result<Row, BenchError> {
    let receivers = plan.receivers * host.room_count();
    let mut rate = (FIRST_DELIVERIES / receivers as f64).max(1.0);
    let (mut kept, mut broken): (Option<Row>, Option<f64>) = (None, None);
    for _ in 0..STEPS_MAX {
        let row = measure(host, plan, load, rate)?;
        tell(&row);
        if row.kept {
            kept = Some(row);
        } else {
            broken = Some(rate);
        }
        let low = kept.as_ref().map(|row| row.rate);
        rate = match (low, broken) {
            (Some(low), Some(high)) if high / low < PRECISION => break,
            (Some(low), Some(high)) => (low * high).sqrt(),
            (Some(low), None) => low * 2.0,
            (None, _) => rate / 4.0,
        };
    }
    kept.ok_or_else(|| BenchError::Server("no rate keeps the bound".to_owned()))
}

fn measure(host: &Host, plan: &Plan, load: &mut Load, rate: f64) -> Result<Row, BenchError> {
    let (before, sends_before) = (host.usage(), host.sends());
    let outcome = load.run(Phase {
        rate,
        content_bytes: plan.content_bytes,
        warmup: plan.measured / 4,
        measured: plan.measured,
    })?;
    let cpu_nanos = before.zip(host.usage()).map(|(before, after)| {
        let each = |time: Duration| time.as_nanos() as f64 / outcome.deliveries.max(1) as f64;
        after.since(&before).map(each)
    });
    let messages_per_send = sends_before
        .zip(host.sends())
        .map(|(before, after)| (after.0 - before.0) / (after.1 - before.1).max(1.0));
    Ok(Row {
        cpu_nanos,
        messages_per_send,
        ..row(plan, rate, &outcome)
    })
}

fn row(plan: &Plan, rate: f64, outcome: &Outcome) -> Row {
    let ages = Ages::of(&outcome.ages);
    let in_time = Duration::from_micros(ages.0[1]) <= plan.p99_max;
    let complete = outcome.wrong == 0 && outcome.refused == 0;
    Row {
        rate,
        deliveries_per_second: outcome.deliveries as f64 / outcome.elapsed.as_secs_f64(),
        ages,
        wrong: outcome.wrong,
        refused: outcome.refused,
        frame_bytes: outcome.frame_bytes,
        cpu_nanos: None,
        messages_per_send: None,
        kept: in_time && complete,
    }
}

impl Row {
    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "messages_per_second_per_room": self.rate,
            "deliveries_per_second": self.deliveries_per_second.round(),
            "latency_us": self.ages.json(),
            "lost_or_repeated": self.wrong,
            "refused": self.refused,
            "frame_bytes": self.frame_bytes,
            "messages_per_send": self.messages_per_send,
            "server_cpu_ns_per_delivery": self.cpu_nanos.map(|[user, system]| json!({"user": user, "system": system})),
        })
    }
}

/// Where a search starts, in deliveries a second over all rooms.
const FIRST_DELIVERIES: f64 = 250_000.0;
/// A search ends when the bound lies between two rates this close.
const PRECISION: f64 = 1.06;
const STEPS_MAX: usize = 24;
