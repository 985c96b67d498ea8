//! `uproar bench sweep`: how cost grows with one quantity, each point on a fresh server.

mod over;
mod picture;
mod point;

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use self::over::Over;
use self::point::{Point, PointWork};
use crate::harness::child::Start;
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{count, millis, positive, seconds};
use crate::harness::machine;
use crate::harness::program::Environment;
use crate::harness::search::{Row, Search, Verdict};
use crate::harness::server::ServerUnderTest;

/// Flags of `uproar bench sweep`.
#[derive(Debug, Args)]
pub(crate) struct Sweep {
    /// What grows from point to point
    #[arg(long, value_enum)]
    over: Over,
    /// Points instead of the usual ones, separated by commas; over coalescing they are messages per
    /// second
    #[arg(long, value_delimiter = ',', value_name = "N")]
    values: Vec<u64>,
    /// Messages per second in each room [default: find the highest rate]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// Bound of the 99th percentile of latency, in milliseconds; a point's figure is the highest
    /// rate within it
    #[arg(long = "p99-ms", default_value = "400", value_name = "MS", value_parser = millis(..))]
    p99_max: Duration,
    /// Length of one measurement, in seconds
    #[arg(long = "seconds", default_value = "2", value_name = "SECONDS", value_parser = seconds())]
    measured: Duration,
    /// Searches of each point; its figure is the median
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count(1..=99))]
    runs: usize,
    /// Shards of the servers that are started
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count(1..))]
    shards: usize,
    /// Draw the points, with bars from the lowest to the highest run
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Arguments of the servers that are started, as in `-- --config FILE`
    #[arg(last = true)]
    extra: Vec<String>,
}

impl Sweep {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        if self.over == Over::Coalescing && self.rate.is_some() {
            let text = "--rate: over coalescing the rates are the --values".to_owned();
            return Err(Failure::Usage(text));
        }
        let values = self.values()?;
        if let Some(path) = &self.plot {
            // An unwritable path is refused before minutes of measurement.
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.map_err(|error| Failure::Usage(format!("--plot {}: {error}", path.display())))?;
        }
        if !self.json {
            println!("machine  {}", environment.machine);
            println!("work     {}", self.work());
            println!("{HEADING}");
        }
        let points = self.measure(environment, values)?;
        if let Some(path) = &self.plot {
            fs::write(path, picture::picture(self.over, &self.title(), &points))?;
        }
        if self.json {
            println!("{}", self.result(&environment.machine, &points));
        }
        Ok(())
    }

    /// Measures point by point, and prints each for people.
    fn measure(
        &self,
        environment: &Environment<'_>,
        values: Vec<u64>,
    ) -> Result<Vec<Point>, BenchError> {
        let start = |rooms| {
            let start = Start {
                shards: self.shards,
                rooms,
                extra: &self.extra,
                settings: &[],
            };
            ServerUnderTest::start(environment.program, start)
        };
        let mut points: Vec<Point> = Vec::new();
        // Where the last point's search ended, in deliveries per second.
        let mut near = None;
        for value in values {
            let work = self.work_of(value, near);
            let point = work.measure(value, start, |row| {
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
        Ok(points)
    }

    /// Returns the work of one point, whose search begins at `near` deliveries per second.
    fn work_of(&self, value: u64, near: Option<f64>) -> PointWork {
        let shape = self.over.shape(value);
        PointWork {
            search: Search {
                receivers: shape.receivers,
                content_bytes: shape.content_bytes,
                rate: shape.rate.or(self.rate),
                near,
                p99_max: self.p99_max,
                measured: self.measured,
                runs: self.runs,
                samples: SAMPLES,
            },
            shape,
            with_floor: self.over == Over::Coalescing,
        }
    }

    /// Returns the points to measure.
    fn values(&self) -> Result<Vec<u64>, Failure> {
        let descriptors = machine::descriptor_limit();
        if self.values.is_empty() {
            return Ok(self.over.values(descriptors));
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

    /// Describes the work in one line.
    fn work(&self) -> String {
        let axis = self.over.axis();
        if self.over == Over::Coalescing {
            format!("{axis}; fixed rates, and the kernel's line at the same messages a send")
        } else if let Some(rate) = self.rate {
            format!("{axis}; {rate} messages a second in each room")
        } else {
            format!(
                "{axis}; highest rate with p99 at most {} ms",
                self.p99_max.as_millis()
            )
        }
    }

    /// Names the throughput in a picture.
    fn title(&self) -> String {
        match self.rate {
            Some(rate) => format!("{rate} messages a second in each room"),
            None => format!(
                "Highest rate with p99 at most {} ms",
                self.p99_max.as_millis()
            ),
        }
    }

    fn result(&self, machine: &str, points: &[Point]) -> Value {
        json!({
            "machine": machine,
            "over": format!("{:?}", self.over).to_lowercase(),
            "messages_per_second_per_room": self.rate,
            "p99_max_ms": self.p99_max.as_millis() as u64,
            "seconds": self.measured.as_secs(),
            "shards": self.shards,
            "rows": points.iter().map(Point::json).collect::<Vec<_>>(),
        })
    }
}

const HEADING: &str = "       value  messages/s  deliveries/s  (lowest to highest)       p50 ms   p99 ms  (lowest to highest)  messages/send  cpu ns  kernel's line";

/// A line of progress for one measurement of a search.
fn trial(value: u64, row: &Row) -> String {
    let verdict = match row.verdict {
        Verdict::Kept => "kept",
        Verdict::Over | Verdict::Ended => "over",
    };
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
            floor.nanos_per_delivery()
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

/// Sampled receivers of each room.
const SAMPLES: usize = 10;
