//! `uproar bench fanout`: flags and table.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, Peer, Target, at_least_one, positive, progress};
use crate::fanout::{self, Plan, Row};
use crate::floor::{self, Floor};
use crate::program::Program;
use crate::sample::CONTENT_BYTES_MIN;
use crate::{BenchError, plot};

#[derive(Debug, Args)]
pub(crate) struct Fanout {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    peer: Peer,
    /// Rooms of the server that is started, or of a peer
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one())]
    rooms: usize,
    /// Viewers in each room
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = at_least_one())]
    receivers: usize,
    /// Length of each message's content, in bytes
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(CONTENT_BYTES_MIN as i64..=4096))]
    size: u16,
    /// Messages a second in each room [default: find the highest]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// Deliveries a second near which to look for the highest rate: fewer steps than from anywhere
    #[arg(long, value_name = "N", conflicts_with = "rate", value_parser = positive)]
    near: Option<f64>,
    /// Bound of the 99th percentile of latency
    #[arg(long, default_value_t = 100, value_name = "MS")]
    p99_ms: u64,
    /// Length of one measurement
    #[arg(long, default_value_t = 4, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Measurements, or searches; the median is the result
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// Receivers of each room that are looked at message by message
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = at_least_one())]
    samples: usize,
    /// Viewers offer permessage-deflate, and a server that is started agrees to it
    #[arg(long, conflicts_with_all = ["plain", "nats"])]
    compression: bool,
    /// Also the kernel's line for sends that carry as many messages, and the share of it
    #[arg(long, conflicts_with = "running")]
    floor: bool,
    /// Latency against deliveries of all rows, as a picture
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

impl Fanout {
    pub(super) fn run(&self, program: &Program, machine: &str) -> Result<(), Failure> {
        if !self.peer.is_given() && self.size > CONTENT_BYTES_MAX {
            let text = format!(
                "--size {}: a message has at most {CONTENT_BYTES_MAX}",
                self.size
            );
            return Err(Failure::Usage(text));
        }
        let mut host = self
            .peer
            .host(program, &self.target, self.rooms, self.compression)?;
        host.compression = self.compression;
        let rooms = host.room_count();
        let plan = Plan {
            receivers: self.receivers,
            content_bytes: usize::from(self.size),
            rate: self.rate,
            near: self.near,
            p99_max: Duration::from_millis(self.p99_ms),
            measured: Duration::from_secs(self.seconds),
            runs: usize::from(self.runs),
            samples: self.samples,
        };
        let quiet = self.target.json;
        if !quiet {
            println!("machine   {machine}");
            println!(
                "work      {rooms} room(s) x {} receivers, content of {} bytes, p99 at most {} ms",
                self.receivers, self.size, self.p99_ms
            );
        }
        let bar = progress(rooms * self.receivers);
        let mut headed = false;
        let mut all = Vec::new();
        let rows = fanout::run(
            &host,
            &plan,
            || {
                bar.inc(1);
                if bar.position() == bar.length().unwrap_or_default() {
                    bar.finish_and_clear();
                }
            },
            |run, row| {
                if !row.ended {
                    all.push(row.clone());
                }
                if !quiet {
                    if !std::mem::replace(&mut headed, true) {
                        println!("{HEADING}");
                    }
                    println!("{}", line(run, row));
                }
            },
        )?;
        let mut result = summary(machine, rooms, self, &rows);
        if self.floor {
            result["floor"] = self.floor_of(&result)?;
        }
        if let Some(path) = &self.plot {
            let title = format!(
                "{rooms} room(s) x {} receivers, {:.0} bytes a frame",
                self.receivers,
                result["frame_bytes"].as_f64().unwrap_or_default()
            );
            let written = fs::write(path, plot::svg(&title, &all, plan.p99_max));
            written.map_err(BenchError::from)?;
        }
        if quiet {
            println!("{result}");
        } else {
            let figure = |name: &str| result[name].as_f64().unwrap_or_default();
            println!(
                "result    {:.2} M deliveries/s (median of {} runs; {:.2} to {:.2}), {:.0} bytes on the wire each",
                figure("deliveries_per_second") / 1e6,
                rows.len(),
                figure("lowest") / 1e6,
                figure("highest") / 1e6,
                figure("frame_bytes"),
            );
            let floor = &result["floor"];
            if let (Some(line), Some(share)) = (
                floor["deliveries_per_second"].as_f64(),
                floor["share"].as_f64(),
            ) {
                println!(
                    "kernel    {:.2} M deliveries/s by a loop of plain sends of {:.1} messages to {} sockets: this is {:.0} % of it",
                    line / 1e6,
                    floor["messages_per_send"].as_f64().unwrap_or_default(),
                    floor["receivers"],
                    share * 100.0
                );
            }
        }
        // A server that refuses shows its own rate limits, not its capacity.
        match all.iter().map(|row| row.refused).sum() {
            0 => Ok(()),
            refused => Err(refused_by_rates(refused)),
        }
    }

    /// The kernel's baseline at the median's messages per send.
    fn floor_of(&self, result: &Value) -> Result<Value, Failure> {
        let figure = |name: &str| result[name].as_f64().unwrap_or_default();
        let mut floor = Floor::connect(floor::Plan {
            receivers: self.receivers * self.rooms,
            frame_bytes: figure("frame_bytes"),
            measured: Duration::from_secs(self.seconds),
            memory_file: false,
        })?;
        let point = floor.measure(figure("messages_per_send"))?;
        let mut line = point.json();
        line["receivers"] = floor.receivers().into();
        line["share"] = (figure("deliveries_per_second") / point.deliveries_per_second).into();
        Ok(line)
    }
}

fn refused_by_rates(refused: u64) -> Failure {
    Failure::Measurement(BenchError::Server(format!(
        "it refused {refused} messages, which count as lost: it holds rooms and clients to lower rates than were \
         tried. Start it with `--quotas open`, or give a lower --rate"
    )))
}

/// Largest content of a message, in bytes, with space for its JSON.
const CONTENT_BYTES_MAX: u16 = 500;

const HEADING: &str = "run  messages/s  deliveries/s  p50 ms   p99 ms  p99.9 ms   max ms   lost  cpu ns (user+system)";

fn line(run: usize, row: &Row) -> String {
    let [p50, p99, p999, max] = row.ages.ms();
    let cpu = row.cpu_nanos.map_or_else(String::new, |[user, system]| {
        format!("{user:.0}+{system:.0}")
    });
    let verdict = match (row.kept, row.ended) {
        (true, _) => "",
        (false, false) => "  over",
        (false, true) => "  over: the server ended a connection",
    };
    format!(
        "{:3}  {:10.0}  {:12.0}  {p50:6.2}  {p99:7.2}  {p999:8.2}  {max:7.2}  {:5}  {cpu}{verdict}",
        run + 1,
        row.rate,
        row.deliveries_per_second,
        row.wrong + row.refused,
    )
}

/// The median run by deliveries, and the spread.
fn summary(machine: &str, rooms: usize, flags: &Fanout, rows: &[Row]) -> Value {
    let mut sorted = rows.to_vec();
    sorted.sort_by(|a, b| a.deliveries_per_second.total_cmp(&b.deliveries_per_second));
    let median = &sorted[sorted.len() / 2];
    let mut result = median.json();
    let more = json!({
        "machine": machine,
        "rooms": rooms,
        "receivers_per_room": flags.receivers,
        "content_bytes": flags.size,
        "compression": flags.compression,
        "p99_max_ms": flags.p99_ms,
        "runs": rows.len(),
        "lowest": sorted[0].deliveries_per_second.round(),
        "highest": sorted[sorted.len() - 1].deliveries_per_second.round(),
    });
    if let (Value::Object(result), Value::Object(more)) = (&mut result, more) {
        result.extend(more);
    }
    result
}
