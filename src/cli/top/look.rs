//! A look at a server: its figures now and a moment ago, and its first rooms.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::failure::Failure;
use crate::server::{By, Order, RoomsOrder, ask_within};
use uproar_proto::base::limits::CALL_ANSWER_MAX;

/// What a look at the server finds, and the one before it.
#[derive(Debug)]
pub(super) struct Look {
    /// The server, as it was a look before.
    pub(super) before: Value,
    /// The server.
    pub(super) stats: Value,
    /// Its largest rooms.
    pub(super) by_viewers: Value,
    /// Its busiest rooms.
    pub(super) by_rate: Value,
}

impl Look {
    /// Looks.
    pub(super) fn take(data_dir: &Path, before: Value) -> Result<Self, Failure> {
        Ok(Self {
            before,
            by_viewers: rooms(data_dir, By::Viewers)?,
            by_rate: rooms(data_dir, By::Rate)?,
            stats: stats(data_dir)?,
        })
    }

    /// By how much a total has grown a second since the look before, as far as it is known.
    pub(super) fn per_second(&self, path: &str) -> f64 {
        let [before, now] = [&self.before, &self.stats].map(|stats| number(stats, path));
        let millis = number(&self.stats, "/uptime_ms") - number(&self.before, "/uptime_ms");
        // Another process has begun anew.
        if millis <= 0.0 || self.before["pid"] != self.stats["pid"] {
            return 0.0;
        }
        (now - before).max(0.0) * 1000.0 / millis
    }

    /// All of it, for scripts.
    pub(super) fn json(&self) -> Value {
        let totals = self.stats["totals"].as_object().into_iter().flatten();
        let rates =
            totals.map(|(key, _)| (key.clone(), self.per_second(&format!("/totals/{key}"))));
        let rates: serde_json::Map<String, Value> =
            rates.map(|(key, rate)| (key, Value::from(rate))).collect();
        json!({
            "stats": self.stats,
            "rates": rates,
            "by_viewers": self.by_viewers,
            "by_rate": self.by_rate,
        })
    }
}

/// The number at a path; 0 if there is none.
pub(super) fn number(stats: &Value, path: &str) -> f64 {
    stats
        .pointer(path)
        .and_then(Value::as_f64)
        .unwrap_or_default()
}

/// The server in numbers.
pub(super) fn stats(data_dir: &Path) -> Result<Value, Failure> {
    ask(data_dir, &Order::Stats {})
}

fn rooms(data_dir: &Path, by: By) -> Result<Value, Failure> {
    let wanted = RoomsOrder {
        by: Some(by),
        count: Some(ROOMS),
        ..RoomsOrder::default()
    };
    Ok(ask(data_dir, &Order::Rooms(wanted))?["rooms"].take())
}

fn ask(data_dir: &Path, order: &Order) -> Result<Value, Failure> {
    ask_within(CALL_ANSWER_MAX, data_dir, order, |_| {})
        .map_err(|error| Failure::Run(error.to_string()))
}

/// Rooms of each list.
const ROOMS: usize = 20;
