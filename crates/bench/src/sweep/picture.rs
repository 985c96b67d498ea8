//! The points of a sweep as panels: deliveries a second above, latency below; over coalescing, processor
//! time and the kernel's line, too.

use super::{Over, Plan, Point};
use crate::fanout::Row;
use crate::floor;
use crate::plot::panels::{self, Mark, Panel, Series, Unit};

/// An SVG document of its own. Points at which no rate keeps the bound are missing in it.
pub fn picture(plan: &Plan, points: &[Point]) -> String {
    let deliveries = |row: &Row| row.deliveries_per_second;
    let p99 = |row: &Row| row.ages.ms()[1];
    let axis = plan.over.axis();
    let latency = Panel {
        title: "99th percentile of latency",
        unit: Unit::Millis,
        series: vec![server(plan.over, points, p99)],
    };
    if plan.over != Over::Coalescing {
        let title = plan.rate.map_or_else(
            || {
                format!(
                    "Highest rate with p99 at most {} ms",
                    plan.p99_max.as_millis()
                )
            },
            |rate| format!("{rate} messages a second in each room"),
        );
        let throughput = Panel {
            title: "deliveries a second",
            unit: Unit::Count,
            series: vec![server(plan.over, points, deliveries)],
        };
        return panels::svg(&title, axis, &[throughput, latency]);
    }
    let cpu = |row: &Row| row.cpu_nanos.map_or(f64::NAN, |nanos| nanos.iter().sum());
    let loop_deliveries = |point: &floor::Point| point.deliveries_per_second;
    let loop_cpu = |point: &floor::Point| point.nanos_per_send / point.messages_per_send;
    let throughput = Panel {
        title: "deliveries a second: offered to the server, most of the loop",
        unit: Unit::Count,
        series: vec![
            server(plan.over, points, deliveries),
            kernel(points, loop_deliveries),
        ],
    };
    let processor = Panel {
        title: "processor time of a delivery",
        unit: Unit::Nanos,
        series: vec![server(plan.over, points, cpu), kernel(points, loop_cpu)],
    };
    let title = "Cost of a delivery against the messages that a send carries";
    panels::svg(title, axis, &[throughput, processor, latency])
}

/// A figure of the server, with its spread over the runs.
fn server(over: Over, points: &[Point], figure: impl Fn(&Row) -> f64) -> Series<'static> {
    let mark = |point: &Point| {
        let [y, low, high] = point.spread(&figure)?;
        let x = match over {
            Over::Coalescing => point.median()?.messages_per_send?,
            _ => point.value as f64,
        };
        Some(Mark { x, y, low, high })
    };
    Series {
        name: "server",
        class: "p50",
        marks: points.iter().filter_map(mark).collect(),
    }
}

/// A figure of the loop of plain sends.
fn kernel(points: &[Point], figure: impl Fn(&floor::Point) -> f64) -> Series<'static> {
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
