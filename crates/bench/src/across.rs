//! `uproar bench across`: messages said at some of several running servers, and heard at all of them.
//!
//! For comparisons: the servers are Uproar's nodes or anything that serves rooms by WebSocket, and others may kill some of
//! them meanwhile. What is lost, repeated or in another order is counted alike for all.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::harness::across::{Across as Viewers, Crowd};
use crate::harness::ages::Ages;
use crate::harness::client_protocol::ClientProtocol;
use crate::harness::error::Failure;
use crate::harness::flags::{content_bytes, count, positive, seconds};
use crate::harness::machine;
use crate::harness::program::Environment;
use crate::harness::report::print;
use crate::harness::server::{Attach, ServerUnderTest};
use crate::harness::target::room_id;

/// Before the measured part.
const WARMUP: Duration = Duration::from_secs(1);
/// Silence after which nothing more is expected, and the longest wait for it.
const QUIET: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);

/// Flags of `uproar bench across`.
#[derive(Debug, Args)]
pub(crate) struct Across {
    /// Where viewers connect: an address of each server, as in 127.0.0.1:8080,127.0.0.1:8180
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', required = true)]
    node: Vec<SocketAddr>,
    /// The servers are no Uproar: WebSocket servers whose rooms are the paths /r0, /r1 and so on
    #[arg(long, conflicts_with_all = ["data_dir", "room"])]
    plain: bool,
    /// Rooms of plain servers
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count(1..=1000))]
    rooms: usize,
    /// Data directory of one of the nodes: its keys seal the viewers' tokens
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "plain")]
    data_dir: Option<PathBuf>,
    /// Room by ARN; repeat for more
    #[arg(long, value_name = "ARN", required_unless_present = "plain")]
    room: Vec<String>,
    /// Processes whose processor time is reported, in this order
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pid: Vec<u32>,
    /// Viewers of a room at each server
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = count(1..=5000))]
    viewers: usize,
    /// Servers, from the first, at which somebody sends in each room
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count(1..=100))]
    senders: usize,
    /// Messages a second, all rooms together
    #[arg(long, default_value = "100", value_name = "N", value_parser = positive)]
    rate: f64,
    /// Length of the measured part, in seconds
    #[arg(long = "seconds", default_value = "5", value_name = "SECONDS", value_parser = seconds())]
    measured: Duration,
    /// Length of a message's content, in bytes
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = content_bytes())]
    size: usize,
    /// Viewers that are cut connect to their server again, until they succeed
    #[arg(long)]
    reconnect: bool,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

impl Across {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let servers = self.servers(environment)?;
        let crowd = Crowd {
            each: self.viewers,
            is_everywhere: true,
            senders: self.senders,
            content_bytes: self.size,
            comes_back: self.reconnect,
        };
        let mut viewers = Viewers::connect(servers, crowd)?;
        let mut before = Vec::new();
        let stretch = viewers.stretch(self.rate, (WARMUP, self.measured), || {
            // For whoever kills something meanwhile.
            eprintln!("the load has begun");
            before = self.busy();
        })?;
        let after = self.busy();
        viewers.settle(QUIET, PATIENCE)?;
        let messages = stretch.messages.max(1) as f64;
        let both = after.iter().zip(&before);
        let each = |(after, before): (&Duration, &Duration)| {
            after.saturating_sub(*before).as_secs_f64() * 1e6 / messages
        };
        let micros: Vec<f64> = both.map(each).collect();
        let (losses, ages) = (viewers.losses(), Ages::of(&stretch.ages));
        let result = json!({
            "rate": self.rate,
            "messages": stretch.messages,
            "deliveries_per_message": self.node.len() * self.viewers,
            "latency_us": ages.json(),
            "cpu_us_per_message": micros,
            "said": losses.said,
            "lost": losses.lost,
            "partly": losses.partly,
            "lost_deliveries": losses.lost_deliveries,
            "repeated": losses.repeated,
            "reordered": losses.reordered,
            "refused": viewers.refused(),
            "longest_wait_ms": longest(&viewers.take_worst()),
        });
        let lines = [
            ("latency", ages.line()),
            (
                "processor",
                format!("{micros:.1?} us a message, by process"),
            ),
            (
                "said",
                format!(
                    "{}; {} lost ({} of them heard by some), {} deliveries repeated, {} in another order than elsewhere",
                    losses.said, losses.lost, losses.partly, losses.repeated, losses.reordered
                ),
            ),
        ];
        print(self.json, &environment.machine, result, &lines);
        Ok(())
    }

    fn servers(&self, environment: &Environment<'_>) -> Result<Vec<ServerUnderTest>, Failure> {
        let plain = |address: &SocketAddr| {
            Ok(ServerUnderTest::plain_unpinned(
                *address,
                ClientProtocol::WebSocket,
                self.rooms,
            ))
        };
        let Some(data_dir) = &self.data_dir else {
            return self.node.iter().map(plain).collect();
        };
        let rooms: Vec<_> = self.room.iter().map(room_id).collect::<Result<_, _>>()?;
        let attach = |address: &SocketAddr| {
            let attach = Attach {
                messaging: *address,
                data_dir: data_dir.clone(),
                rooms: rooms.clone(),
                pid: None,
            };
            Ok(ServerUnderTest::attach(environment.program, attach)?)
        };
        self.node.iter().map(attach).collect()
    }

    /// Processor time of each process so far.
    fn busy(&self) -> Vec<Duration> {
        let times = |pid: &u32| machine::thread_times(*pid).values().sum();
        self.pid.iter().map(times).collect()
    }
}

/// At each server, in milliseconds.
fn longest(worst: &[Duration]) -> Value {
    let millis: Vec<_> = worst.iter().map(|age| age.as_secs_f64() * 1e3).collect();
    millis.into()
}
