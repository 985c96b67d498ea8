//! `uproar bench sweep`: flags, table and picture.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::Failure;
use crate::BenchError;
use crate::fanout::Row;
use crate::host::Host;
use crate::program::Program;
use crate::sweep::{self, Over, Plan, Point};

#[derive(Debug, Args)]
pub(crate) struct Sweep {
    /// What grows from point to point
    #[arg(long, value_enum)]
    over: Over,
    /// The points instead of the usual ones, separated by commas; over coalescing messages a second
    #[arg(long, value_delimiter = ',', value_name = "N")]
    values: Vec<u64>,
    /// Messages a second in each room [default: find the highest]
    #[arg(long, value_name = "N", value_parser = super::positive)]
    rate: Option<f64>,
    /// Bound of the 99th percentile of latency; the highest rate that keeps it is a point's figure
    #[arg(long, default_value_t = 400, value_name = "MS")]
    p99_ms: u64,
    /// Length of one measurement
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Searches of each point; the median is its figure
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// Shards of the servers that are started
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = super::at_least_one())]
    shards: usize,
    /// The points as a picture, with bars from the lowest to the highest run
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// One JSON object on standard output instead of a table
    #[arg(long)]
    json: bool,
    /// Passed to the servers that are started, as in `-- --config FILE`
    #[arg(last = true)]
    extra: Vec<String>,
}

impl Sweep {
    pub(super) fn run(&self, program: &Program, machine: &str) -> Result<(), Failure> {
        let plan = Plan {
            over: self.over,
            rate: self.rate,
            p99_max: Duration::from_millis(self.p99_ms),
            measured: Duration::from_secs(self.seconds),
            runs: usize::from(self.runs),
        };
        if self.over == Over::Coalescing && self.rate.is_some() {
            let text = "--rate: over coalescing the rates are the --values".to_owned();
            return Err(Failure::Usage(text));
        }
        let values = self.values()?;
        if let Some(path) = &self.plot {
            // Refuse an unwritable path before minutes of measurement.
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|error| Failure::Usage(format!("--plot {}: {error}", path.display())))?;
        }
        if !self.json {
            println!("machine  {machine}");
            println!("work     {}", self.work());
            println!("{HEADING}");
        }
        let mut points: Vec<Point> = Vec::new();
        let mut near = None;
        for value in values {
            let start = |rooms| Host::start(program, self.shards, rooms, &self.extra);
            let point = sweep::point(&plan, value, near, start, |row| {
                if !self.json {
                    eprintln!("{}", trial(value, row));
                }
            })?;
            if let Some(row) = point.median() {
                near = Some(row.deliveries_per_second);
            }
            if !self.json {
                println!("{}", line(&point));
            }
            points.push(point);
        }
        if let Some(path) = &self.plot {
            fs::write(path, sweep::picture(&plan, &points)).map_err(BenchError::from)?;
        }
        if self.json {
            let result = json!({
                "machine": machine,
                "over": format!("{:?}", self.over).to_lowercase(),
                "messages_per_second_per_room": self.rate,
                "p99_max_ms": self.p99_ms,
                "seconds": self.seconds,
                "shards": self.shards,
                "rows": points.iter().map(Point::json).collect::<Vec<_>>(),
            });
            println!("{result}");
        }
        Ok(())
    }

    fn values(&self) -> Result<Vec<u64>, Failure> {
        let descriptors = crate::machine::descriptor_limit();
        let fitting = self.over.values(descriptors);
        if self.values.is_empty() {
            return Ok(fitting);
        }
        for value in &self.values {
            let range = self.over.range();
            if !range.contains(value) {
                let text = format!(
                    "--values {value}: expected {} to {}",
                    range.start(),
                    range.end()
                );
                return Err(Failure::Usage(text));
            }
            let connections = self.over.connections(*value);
            if connections >= descriptors {
                let text = format!(
                    "--values {value}: {connections} connections, and the limit on open files is {descriptors}"
                );
                return Err(Failure::Usage(text));
            }
        }
        Ok(self.values.clone())
    }

    fn work(&self) -> String {
        let axis = self.over.axis();
        if self.over == Over::Coalescing {
            format!("{axis}; fixed rates, and the kernel's line at the same messages a send")
        } else if let Some(rate) = self.rate {
            format!("{axis}; {rate} messages a second in each room")
        } else {
            format!("{axis}; highest rate with p99 at most {} ms", self.p99_ms)
        }
    }
}

const HEADING: &str = "       value  messages/s  deliveries/s  (lowest to highest)       p50 ms   p99 ms  (lowest to highest)  messages/send  cpu ns  kernel's line";

/// One line of progress per measurement of a search.
fn trial(value: u64, row: &Row) -> String {
    let verdict = if row.kept { "kept" } else { "over" };
    format!(
        "  at {value}: {:.0} messages/s, p99 {:.1} ms, {verdict}",
        row.rate,
        row.ages.ms()[1]
    )
}

fn line(point: &Point) -> String {
    let deliveries = point.spread(|row| row.deliveries_per_second);
    let p99 = point.spread(|row| row.ages.ms()[1]);
    let (Some(row), Some([_, low, high]), Some([_, fast, slow])) =
        (point.median(), deliveries, p99)
    else {
        return format!("{:12}  no rate keeps the bound", point.value);
    };
    let [p50, p99, ..] = row.ages.ms();
    let cpu = row.cpu_nanos.map_or(0.0, |nanos| nanos.iter().sum::<f64>());
    let floor = point.floor.map_or_else(String::new, |floor| {
        format!(
            "{:.0}/s, {:.0} ns each",
            floor.deliveries_per_second,
            floor.nanos_per_send / floor.messages_per_send
        )
    });
    format!(
        "{:12}  {:10.0}  {:12.0}  {:23}  {p50:7.2}  {p99:7.2}  {:19}  {:13.1}  {cpu:6.0}  {floor}",
        point.value,
        row.rate,
        row.deliveries_per_second,
        format!("({low:.0} to {high:.0})"),
        format!("({fast:.2} to {slow:.2})"),
        row.messages_per_send.unwrap_or_default(),
    )
}
