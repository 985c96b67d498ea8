//! The points of a sweep as a picture: deliveries per second above, latency below; over coalescing
//! also processor time and the kernel's line.

use super::over::Over;
use super::point::Point;
use crate::harness::plain_sends;
use crate::harness::plot::{Mark, Panel, Series, Unit, panels};
use crate::harness::search::Row;

/// Draws the points of a sweep. Points at which no rate keeps the bound are missing. `title` says
/// what the throughput is.
pub(super) fn picture(over: Over, title: &str, points: &[Point]) -> String {
    let deliveries = |row: &Row| row.deliveries_per_second;
    let p99 = |row: &Row| row.ages.ms()[1];
    let latency = Panel {
        title: "99th percentile of latency",
        unit: Unit::Millis,
        series: vec![server(over, points, p99)],
    };
    if over != Over::Coalescing {
        let throughput = Panel {
            title: "deliveries a second",
            unit: Unit::Count,
            series: vec![server(over, points, deliveries)],
        };
        return panels(title, over.axis(), &[throughput, latency]);
    }
    let cpu = |row: &Row| row.cpu_nanos.map_or(f64::NAN, |nanos| nanos.iter().sum());
    let loop_deliveries = |point: &plain_sends::LinePoint| point.deliveries_per_second;
    let throughput = Panel {
        title: "deliveries a second: offered to the server, most of the loop",
        unit: Unit::Count,
        series: vec![
            server(over, points, deliveries),
            kernel(points, loop_deliveries),
        ],
    };
    let processor = Panel {
        title: "processor time of a delivery",
        unit: Unit::Nanos,
        series: vec![
            server(over, points, cpu),
            kernel(points, plain_sends::LinePoint::nanos_per_delivery),
        ],
    };
    let title = "Cost of a delivery against the messages that a send carries";
    panels(title, over.axis(), &[throughput, processor, latency])
}

/// Returns a figure of the server, with its spread over the runs.
fn server(over: Over, points: &[Point], figure: impl Fn(&Row) -> f64) -> Series<'static> {
    let mark = |point: &Point| {
        let [y, low, high] = point.spread(&figure)?;
        let x = match over {
            Over::Coalescing => point.median()?.messages_per_send?,
            Over::Receivers | Over::Rooms | Over::Size | Over::Connections => point.value as f64,
        };
        Some(Mark { x, y, low, high })
    };
    Series {
        name: "server",
        class: "p50",
        marks: points.iter().filter_map(mark).collect(),
    }
}

/// Returns a figure of the loop of plain sends.
fn kernel(points: &[Point], figure: impl Fn(&plain_sends::LinePoint) -> f64) -> Series<'static> {
    let mark = |point: &Point| {
        let line = point.floor.as_ref()?;
        let y = figure(line);
        Some(Mark {
            x: line.messages_per_send,
            y,
            low: y,
            high: y,
        })
    };
    Series {
        name: "loop of plain sends",
        class: "p99",
        marks: points.iter().filter_map(mark).collect(),
    }
}
