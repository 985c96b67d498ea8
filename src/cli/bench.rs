//! `uproar bench`: flags, progress and tables around [`crate::bench`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::Failure;
use crate::base::id::RoomId;
use crate::bench::fanout::{self, Plan, Row};
use crate::bench::host::{Attach, Host};
use crate::bench::sample::CONTENT_BYTES_MIN;
use crate::bench::{BenchError, idle, machine, tokens};
use crate::config::dev_data_dir;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Deliveries a second and their latency: at --rate, or the highest rate that keeps --p99-ms
    Fanout(Fanout),
    /// Memory of a connection while nobody speaks
    Idle(Idle),
    /// Signed CreateChatToken calls a second over kept-alive connections
    Tokens(Tokens),
}

/// The server under test. Without --target one is started for the time of the measurement.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Shards of the server that is started
    #[arg(long, default_value_t = 1, value_name = "N")]
    shards: usize,
    /// Messaging address of a server that runs already, with `--quotas open`
    #[arg(long = "target", value_name = "ADDRESS", requires = "room")]
    messaging: Option<SocketAddr>,
    /// Its data directory, whose keys seal the viewers' tokens [default: that of `uproar dev`]
    #[arg(long, value_name = "DIRECTORY", requires = "messaging")]
    data_dir: Option<PathBuf>,
    /// Its room, by ARN; repeat for more
    #[arg(long, value_name = "ARN", requires = "messaging")]
    room: Vec<String>,
    /// Its process id, for processor time and memory
    #[arg(long, requires = "messaging")]
    pid: Option<u32>,
    /// One JSON object on standard output instead of tables
    #[arg(long)]
    json: bool,
    /// Passed to the server that is started, as in `-- --config FILE`
    #[arg(last = true)]
    extra: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Fanout {
    #[command(flatten)]
    target: Target,
    /// Rooms of the server that is started
    #[arg(long, default_value_t = 1, value_name = "N")]
    rooms: usize,
    /// Viewers in each room
    #[arg(long, default_value_t = 1000, value_name = "N")]
    receivers: usize,
    /// Length of each message's content, in bytes
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(CONTENT_BYTES_MIN as i64..=500))]
    size: u16,
    /// Messages a second in each room [default: find the highest]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
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
    #[arg(long, default_value_t = 10, value_name = "N")]
    samples: usize,
}

#[derive(Debug, Args)]
pub(super) struct Idle {
    #[command(flatten)]
    target: Target,
    /// Viewers
    #[arg(long, default_value_t = 18_000, value_name = "N")]
    connections: usize,
    /// Length of their user ids, in bytes
    #[arg(long, default_value_t = 40, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(8..=128))]
    user_id: u16,
}

#[derive(Debug, Args)]
pub(super) struct Tokens {
    #[command(flatten)]
    target: Target,
    /// Kept-alive connections, one call under way on each
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Length of the measurement
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

pub(super) fn run(command: &BenchCommand) -> Result<(), Failure> {
    let machine = machine::describe();
    crate::server::raise_descriptor_limit();
    let outcome = match command {
        BenchCommand::Fanout(fanout) => fanout.run(&machine),
        BenchCommand::Idle(idle) => idle.run(&machine),
        BenchCommand::Tokens(tokens) => tokens.run(&machine),
    };
    outcome.map_err(|error| match error {
        BenchFailure::Usage(text) => Failure::Usage(text),
        BenchFailure::Bench(error) => Failure::Run(format!("bench: {error}")),
    })
}

enum BenchFailure {
    Usage(String),
    Bench(BenchError),
}

impl From<BenchError> for BenchFailure {
    fn from(error: BenchError) -> Self {
        Self::Bench(error)
    }
}

impl Target {
    fn host(&self, rooms: usize) -> Result<Host, BenchFailure> {
        let Some(messaging) = self.messaging else {
            return Ok(Host::start(self.shards, rooms, &self.extra)?);
        };
        let mut ids = Vec::new();
        for arn in &self.room {
            let id = arn
                .rsplit_once(":room/")
                .and_then(|(_, id)| RoomId::parse(id));
            ids.push(id.ok_or_else(|| {
                BenchFailure::Usage(format!("--room {arn}: expected a room ARN"))
            })?);
        }
        Ok(Host::attach(Attach {
            messaging,
            data_dir: self.data_dir.clone().unwrap_or_else(dev_data_dir),
            rooms: ids,
            pid: self.pid,
        })?)
    }
}

fn progress(count: usize) -> ProgressBar {
    let bar = ProgressBar::new(count as u64);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}")
        .expect("a template without faults");
    bar.set_style(style);
    bar.set_message("connecting");
    bar
}

impl Fanout {
    fn run(&self, machine: &str) -> Result<(), BenchFailure> {
        let host = self.target.host(self.rooms)?;
        let rooms = host.rooms.len();
        let plan = Plan {
            receivers: self.receivers,
            content_bytes: usize::from(self.size),
            rate: self.rate,
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
                if !quiet {
                    if !std::mem::replace(&mut headed, true) {
                        println!("{HEADING}");
                    }
                    println!("{}", line(run, row));
                }
            },
        )?;
        let result = summary(machine, rooms, self, &rows);
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
        }
        Ok(())
    }
}

const HEADING: &str = "run  messages/s  deliveries/s  p50 ms   p99 ms  p99.9 ms   max ms   lost  cpu ns (user+system)";

fn line(run: usize, row: &Row) -> String {
    let [p50, p99, p999, max] = row.percentiles_ms();
    let cpu = row.cpu_nanos.map_or_else(String::new, |[user, system]| {
        format!("{user:.0}+{system:.0}")
    });
    let verdict = if row.kept { "" } else { "  over" };
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

impl Idle {
    fn run(&self, machine: &str) -> Result<(), BenchFailure> {
        let host = self.target.host(1)?;
        let bar = progress(self.connections);
        let found = idle::run(&host, self.connections, usize::from(self.user_id), || {
            bar.inc(1);
        })?;
        bar.finish_and_clear();
        if self.target.json {
            let mut result = found.json();
            result["machine"] = machine.into();
            result["user_id_bytes"] = self.user_id.into();
            println!("{result}");
            return Ok(());
        }
        println!("machine          {machine}");
        println!(
            "connections      {}, user ids of {} bytes",
            found.connections, self.user_id
        );
        println!(
            "server memory    {:.0} bytes each above the empty server (Pss of its process), {:.0} for one more",
            found.user_bytes, found.user_bytes_more
        );
        println!(
            "kernel memory    {:.0} bytes each (Slab, both ends)",
            found.kernel_bytes
        );
        println!(
            "handshakes       {:.0} a second, one after the other",
            found.handshakes_per_second
        );
        Ok(())
    }
}

impl Tokens {
    fn run(&self, machine: &str) -> Result<(), BenchFailure> {
        let host = self.target.host(1)?;
        let connections = usize::from(self.connections);
        let found = tokens::run(&host, connections, Duration::from_secs(self.seconds))?;
        if self.target.json {
            let mut result = found.json();
            result["machine"] = machine.into();
            println!("{result}");
            return Ok(());
        }
        let [p50, p99, max] = found.percentiles;
        println!("machine     {machine}");
        println!(
            "tokens      {:.0} a second over {connections} connections",
            found.per_second
        );
        println!("latency     p50 {p50} us, p99 {p99} us, max {max} us");
        if let Some(cpu) = found.cpu_micros {
            println!("processor   {cpu:.1} us of the server each");
        }
        Ok(())
    }
}
