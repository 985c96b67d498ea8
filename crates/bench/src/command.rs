//! `uproar bench`: flags, progress and tables around [`crate::bench`].

mod connect;
mod crowd;
mod fanout;
mod floor;
mod idle;
mod ingest;
mod loopback;
mod neighbours;
mod scale;
mod storm;
mod sweep;
mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::crowd::run_part;
use crate::dialect::Dialect;
use crate::host::{Attach, Host};
use crate::program::Program;
use crate::{Ages, Failure, machine};
use uproar_proto::base::id::RoomId;

/// The arguments of `uproar bench`.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Deliveries a second and their latency: at --rate, or the highest rate that keeps --p99-ms
    Fanout(fanout::Fanout),
    /// Handshakes a second, with a token each, many under way at once
    Connect(connect::Connect),
    /// Many senders: accepted messages a second by their echo
    Ingest(ingest::Ingest),
    /// Everybody is cut off and comes back at once: until when, and what others feel of it
    Storm(storm::Storm),
    /// More connections than one process has descriptors, and messages that reach all of them
    Crowd(crowd::Crowd),
    /// What a small room feels of a huge one on the same shard, up to the huge one's limit
    Neighbours(neighbours::Neighbours),
    /// Memory of a connection while nobody speaks
    Idle(idle::Idle),
    /// Signed CreateChatToken calls a second over kept-alive connections
    Tokens(tokens::Tokens),
    /// How cost grows: the highest rate, and its latency, against one quantity, each on a fresh server
    Sweep(sweep::Sweep),
    /// One large room's fan-out on one shard and on more, with receivers that do not read meanwhile
    Scale(scale::Scale),
    /// The kernel's line: deliveries a second by a loop of plain sends, without any server
    Floor(floor::Floor),
    /// The loopback's largest packet, which bounds every server that is measured over it: shown, or set
    Loopback(loopback::Loopback),
    /// A client process of crowd and neighbours; obeys what comes on standard input
    #[command(hide = true)]
    CrowdPart,
}

/// Another server under test, which knows no tokens. What the first connection of a room says it sends to
/// all of the room's, that one included. Pin it to the first processor.
#[derive(Debug, Args)]
pub(super) struct Peer {
    /// A WebSocket server instead; rooms are its paths /r0, /r1 and so on. Give `fanout --size` the length
    /// of Uproar's frames, less 4, and --pid for processor time and memory
    #[arg(long, value_name = "ADDRESS", group = "running")]
    plain: Option<SocketAddr>,
    /// A NATS server instead; rooms are its subjects r000, r001 and so on. Its frames are 18 bytes longer
    /// than `fanout --size` says
    #[arg(long, value_name = "ADDRESS", group = "running")]
    nats: Option<SocketAddr>,
}

/// The server under test. Without --target one is started for the time of the measurement.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// Shards of the server that is started
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = at_least_one())]
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

impl Bench {
    /// Measures and prints the result to standard output. The limit on open files stays as it is: the caller
    /// raises it before.
    ///
    /// # Errors
    ///
    /// Flags that exclude each other or the machine, or a measurement that could not be made.
    pub fn run(&self, program: &Program) -> Result<(), Failure> {
        let machine = machine::describe();
        match &self.command {
            Command::Fanout(fanout) => fanout.run(program, &machine),
            Command::Connect(connect) => connect.run(program, &machine),
            Command::Ingest(ingest) => ingest.run(program, &machine),
            Command::Floor(floor) => floor.run(&machine),
            Command::Loopback(loopback) => loopback.run(),
            Command::Sweep(sweep) => sweep.run(program, &machine),
            Command::Scale(scale) => scale.run(program, &machine),
            Command::Storm(storm) => storm.run(program, &machine),
            Command::Crowd(crowd) => crowd.run(program, &machine),
            Command::Neighbours(neighbours) => neighbours.run(program, &machine),
            Command::CrowdPart => Ok(run_part(program)?),
            Command::Idle(idle) => idle.run(program, &machine),
            Command::Tokens(tokens) => tokens.run(program, &machine),
        }
    }
}

impl Peer {
    fn is_given(&self) -> bool {
        self.plain.is_some() || self.nats.is_some()
    }

    /// With `compression`, a started server accepts it.
    fn host(
        &self,
        program: &Program,
        target: &Target,
        rooms: usize,
        compression: bool,
    ) -> Result<Host, Failure> {
        let plain = |server, dialect| Ok(Host::plain(server, dialect, rooms, target.pid));
        match (self.plain, self.nats) {
            (Some(server), _) => plain(server, Dialect::WebSocket),
            (None, Some(server)) => plain(server, Dialect::Nats),
            (None, None) if compression => {
                target.host_with(program, rooms, &[("UPROAR_MESSAGING__COMPRESSION", "true")])
            }
            (None, None) => target.host(program, rooms),
        }
    }
}

impl Target {
    fn host(&self, program: &Program, rooms: usize) -> Result<Host, Failure> {
        self.host_with(program, rooms, &[])
    }

    /// The same; a started server admits `connections` connections.
    fn host_for(
        &self,
        program: &Program,
        rooms: usize,
        connections: usize,
    ) -> Result<Host, Failure> {
        let admitted = connections.to_string();
        self.host_with(program, rooms, &[("UPROAR_QUOTAS__CONNECTIONS", &admitted)])
    }

    fn host_with(
        &self,
        program: &Program,
        rooms: usize,
        settings: &[(&str, &str)],
    ) -> Result<Host, Failure> {
        let Some(messaging) = self.messaging else {
            let host = Host::start_with(program, self.shards, rooms, &self.extra, settings);
            return Ok(host?);
        };
        let mut ids = Vec::new();
        for arn in &self.room {
            let id = arn
                .rsplit_once(":room/")
                .and_then(|(_, id)| RoomId::parse(id));
            ids.push(
                id.ok_or_else(|| Failure::Usage(format!("--room {arn}: expected a room ARN")))?,
            );
        }
        Ok(Host::attach(
            program,
            Attach {
                messaging,
                data_dir: self
                    .data_dir
                    .clone()
                    .unwrap_or_else(|| program.dev_data_dir.clone()),
                rooms: ids,
                pid: self.pid,
            },
        )?)
    }
}

/// Parses a count of at least one.
fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// Parses a rate above zero.
fn positive(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if rate > 0.0 && rate.is_finite() {
        Ok(rate)
    } else {
        Err("a rate is above 0".to_owned())
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

/// Prints a result: lines for people, or a JSON object that includes the machine.
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

/// The number of refusals, and an example.
fn refused(count: u64, first: Option<&str>) -> String {
    first.map_or_else(
        || format!("{count} refused"),
        |first| format!("{count} refused, the first: {first}"),
    )
}
