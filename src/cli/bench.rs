//! `uproar bench`: flags, progress and tables around [`crate::bench`].

mod connect;
mod fanout;
mod floor;
mod idle;
mod ingest;
mod storm;
mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::Failure;
use crate::base::id::RoomId;
use crate::bench::host::{Attach, Host};
use crate::bench::{Ages, BenchError, machine};
use crate::config::dev_data_dir;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// Deliveries a second and their latency: at --rate, or the highest rate that keeps --p99-ms
    Fanout(fanout::Fanout),
    /// Handshakes with a token a second, many under way at once
    Connect(connect::Connect),
    /// Many senders: accepted messages a second by their echo
    Ingest(ingest::Ingest),
    /// Everybody is cut off and comes back at once: until when, and what others feel of it
    Storm(storm::Storm),
    /// Memory of a connection while nobody speaks
    Idle(idle::Idle),
    /// Signed CreateChatToken calls a second over kept-alive connections
    Tokens(tokens::Tokens),
    /// The kernel's line: deliveries a second by a loop of plain sends, without any server
    Floor(floor::Floor),
}

/// The server under test. Without --target one is started for the time of the measurement.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Shards of the server that is started
    #[arg(long, default_value_t = 1, value_name = "N")]
    shards: usize,
    /// Messaging address of a server that runs already, with `--quotas open`
    #[arg(
        long = "target",
        value_name = "ADDRESS",
        requires = "room",
        group = "running"
    )]
    messaging: Option<SocketAddr>,
    /// Its data directory, whose keys seal the viewers' tokens [default: that of `uproar dev`]
    #[arg(long, value_name = "DIRECTORY", requires = "messaging")]
    data_dir: Option<PathBuf>,
    /// Its room, by ARN; repeat for more
    #[arg(long, value_name = "ARN", requires = "messaging")]
    room: Vec<String>,
    /// Its process id, for processor time and memory
    #[arg(long, requires = "running")]
    pid: Option<u32>,
    /// One JSON object on standard output instead of tables
    #[arg(long)]
    json: bool,
    /// Passed to the server that is started, as in `-- --config FILE`
    #[arg(last = true)]
    extra: Vec<String>,
}

pub(super) fn run(command: &BenchCommand) -> Result<(), Failure> {
    let machine = machine::describe();
    crate::server::raise_descriptor_limit();
    let outcome = match command {
        BenchCommand::Fanout(fanout) => fanout.run(&machine),
        BenchCommand::Connect(connect) => connect.run(&machine),
        BenchCommand::Ingest(ingest) => ingest.run(&machine),
        BenchCommand::Floor(floor) => floor.run(&machine),
        BenchCommand::Storm(storm) => storm.run(&machine),
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
        self.host_with(rooms, false)
    }

    /// `compression`: a server that is started agrees to it.
    fn host_with(&self, rooms: usize, compression: bool) -> Result<Host, BenchFailure> {
        let Some(messaging) = self.messaging else {
            let mut extra = self.extra.clone();
            if compression {
                extra.push("--compression".to_owned());
            }
            return Ok(Host::start(self.shards, rooms, &extra)?);
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

/// Prints a result: the lines for people, or the JSON object with the machine in it.
fn report(as_json: bool, machine: &str, mut result: Value, lines: &[(&str, String)]) {
    if as_json {
        result["machine"] = machine.into();
        println!("{result}");
        return;
    }
    println!("{:15}  {machine}", "machine");
    for (name, text) in lines {
        println!("{name:15}  {text}");
    }
}

/// Percentiles for people.
fn ages(ages: Ages) -> String {
    let [p50, p99, p999, max] = ages.ms();
    format!("p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {max:.2} ms")
}

/// What went wrong, and an example.
fn refused(count: u64, first: Option<&str>) -> String {
    first.map_or_else(
        || format!("{count} refused"),
        |first| format!("{count} refused, the first: {first}"),
    )
}
