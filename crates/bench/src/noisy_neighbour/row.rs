//! The measurement at one rate of the huge room, and how it is told.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::ages::Ages;
use crate::harness::plot;
use crate::harness::report::percent;

/// The measurement at one rate of the huge room.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// Messages per second in the huge room.
    pub(super) rate: f64,
    /// Deliveries per second in the huge room.
    pub(super) deliveries_per_second: f64,
    /// Ages of the small room's messages, from when they were due to be sent.
    pub(super) small: Ages,
    /// Ages of the huge room's messages; zeros if it was silent.
    pub(super) huge: Ages,
    /// Messages of the small room that were refused, lost or repeated.
    pub(super) small_wrong: u64,
    /// Deliveries of the huge room that were refused, lost or repeated.
    pub(super) huge_wrong: u64,
    /// The delay with which this process sent what was due: 99th percentile and maximum, in
    /// microseconds.
    pub(super) late: [u64; 2],
    /// Share of a processor that the server took; `None` if its process is not known.
    pub(super) server_busy: Option<f64>,
    /// Share of a processor that all client processes took.
    pub(super) clients_busy: f64,
    /// Members of the huge room that the server ever cut off. No row follows if there are any.
    pub(super) gone: u64,
    /// Whether the huge room kept its bound and lost nothing.
    pub(super) kept: bool,
}

/// The heading of a table of rows.
pub(super) const HEADING: &str = "            huge room                                 small room\n\
    messages/s  deliveries/s   p50 ms   p99 ms   lost   p50 ms   p99 ms   max ms  lost  tool late ms  server  clients";

impl Row {
    /// One line of the table.
    pub(super) fn line(&self) -> String {
        let [small_p50, small_p99, _, small_max] = self.small.ms();
        let [huge_p50, huge_p99, ..] = self.huge.ms();
        let late_ms = self.late[0] as f64 / 1e3;
        let (server, clients) = (percent(self.server_busy), percent(Some(self.clients_busy)));
        let verdict = if self.kept { "" } else { "  over" };
        format!(
            "{:10.0}  {:12.0}  {huge_p50:7.2}  {huge_p99:7.2}  {:5}  {small_p50:7.2}  {small_p99:7.2}  {small_max:7.2}  {:4}  {late_ms:12.2}  {server:>6}  {clients:>7}{verdict}",
            self.rate, self.deliveries_per_second, self.huge_wrong, self.small_wrong,
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "huge_messages_per_second": self.rate,
            "huge_deliveries_per_second": self.deliveries_per_second.round(),
            "small_latency_us": self.small.json(),
            "huge_latency_us": (self.rate > 0.0).then(|| self.huge.json()),
            "small_lost_repeated_refused": self.small_wrong,
            "huge_lost_repeated_refused": self.huge_wrong,
            "tool_late_us": {"p99": self.late[0], "max": self.late[1]},
            "server_busy": self.server_busy,
            "clients_busy": self.clients_busy,
            "huge_gone": self.gone,
            "kept": self.kept,
        })
    }
}

/// Draws the 99th percentiles of both rooms against the huge room's deliveries. The bound is the
/// huge room's. Of the row in which the huge room was silent there is a point of the small one
/// only.
pub(super) fn picture(title: &str, rows: &[Row], p99_max: Duration) -> String {
    let point = |row: &Row, ages: Ages, kept| plot::CurvePoint {
        deliveries: row.deliveries_per_second,
        ms: ages.ms()[1],
        kept,
    };
    let small = rows
        .iter()
        .map(|row| point(row, row.small, row.small_wrong == 0));
    let talked = rows.iter().filter(|row| row.rate > 0.0);
    let huge = talked.map(|row| point(row, row.huge, row.kept));
    let curves = [
        plot::Curve {
            class: "p50",
            name: "small",
            points: small.collect(),
        },
        plot::Curve {
            class: "p99",
            name: "huge",
            points: huge.collect(),
        },
    ];
    plot::latency(title, curves, p99_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: both rooms are in the picture, the silent row with the small room only.
    #[test]
    fn both_rooms_are_curves() {
        let row = |rate: f64, kept| Row {
            rate,
            deliveries_per_second: rate * 1000.0,
            small: Ages {
                p99: 400,
                ..Ages::default()
            },
            huge: Ages {
                p99: 90_000,
                ..Ages::default()
            },
            small_wrong: 0,
            huge_wrong: 0,
            late: [0, 0],
            server_busy: None,
            clients_busy: 0.0,
            gone: 0,
            kept,
        };
        let rows = [row(0.0, true), row(10.0, true), row(20.0, false)];
        let svg = picture("two", &rows, Duration::from_secs(1));
        assert_eq!(svg.matches("<circle class=\"p50").count(), 3);
        assert_eq!(svg.matches("<circle class=\"p99").count(), 2);
        assert_eq!(svg.matches(" over\"").count(), 1);
        assert!(svg.contains(">small</text>") && svg.contains(">huge</text>"));
    }
}
