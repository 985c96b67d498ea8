//! The command line of `uproar bench`.

use clap::{Args, Subcommand};

use crate::across::Across;
use crate::cluster::Cluster;
use crate::connect::Connect;
use crate::crowd::Crowd;
use crate::fanout::Fanout;
use crate::features::Features;
use crate::floor::Floor;
use crate::harness::error::Failure;
use crate::harness::machine;
use crate::harness::program::{Environment, Program};
use crate::harness::workers::worker;
use crate::idle::Idle;
use crate::ingest::Ingest;
use crate::live::Live;
use crate::loopback::Loopback;
use crate::noisy_neighbour::NoisyNeighbour;
use crate::plan::PlanCommand;
use crate::reconnect::Reconnect;
use crate::scale::Scale;
use crate::sweep::Sweep;
use crate::tokens::Tokens;

/// The arguments of `uproar bench`.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    measurement: Measurement,
}

/// What is measured. The file of a measurement has the name of its command.
#[derive(Debug, Subcommand)]
enum Measurement {
    /// Deliveries per second and their latency: at --rate, or at the highest rate within --p99-ms
    Fanout(Fanout),
    /// Handshakes per second, with a token each, many at once
    Connect(Connect),
    /// Messages per second from many senders, accepted as their echoes show
    Ingest(Ingest),
    /// What Uproar has beyond IVS Chat, under a crowd
    Features(Features),
    /// All viewers are cut off and come back at once: how long it takes, and how it affects others
    #[command(visible_alias = "storm")]
    Reconnect(Reconnect),
    /// More connections than one process has descriptors, and messages that reach all of them
    Crowd(Crowd),
    /// How a huge room affects a small one on the same shard, up to the huge one's limit
    #[command(visible_alias = "neighbours")]
    NoisyNeighbour(NoisyNeighbour),
    /// Memory of a connection while nobody sends
    Idle(Idle),
    /// Signed CreateChatToken calls per second over kept-alive connections
    Tokens(Tokens),
    /// How cost grows with one quantity: the highest rate and its latency, each point on a fresh
    /// server
    Sweep(Sweep),
    /// Fan-out of one large room on one shard and on more, with receivers that do not read
    /// meanwhile
    Scale(Scale),
    /// The kernel's line: deliveries per second by a loop of plain sends, without any server
    Floor(Floor),
    /// Three nodes on three brokers beside one alone: latency added, processor time, records and joins a second,
    /// failovers, memory
    Cluster(Cluster),
    /// Messages said at some of several running servers and heard at all: latency, processor time, what is lost
    Across(Across),
    /// What a crowd asks of the nodes and brokers of a cluster, by sums over measured costs, and which
    /// limit comes first; nothing is run
    Plan(PlanCommand),
    /// The loopback's largest packet, which bounds every server that is measured over it: print it,
    /// or set it
    Loopback(Loopback),
    /// A crowd for one room of a running server, told of while it lasts: the storm of the demo page
    #[command(hide = true)]
    Live(Live),
    /// A client process of crowd and noisy-neighbour, which obeys orders on standard input
    #[command(hide = true)]
    Worker,
}

impl Bench {
    /// Measures and prints the result to standard output. Many connections need as many
    /// descriptors: the caller raises the limit on open files before.
    ///
    /// # Errors
    ///
    /// Flags that exclude each other or ask for more than the machine has, or a measurement that
    /// could not be made.
    pub fn run(&self, program: &Program) -> Result<(), Failure> {
        let environment = Environment {
            program,
            machine: machine::describe(),
        };
        match &self.measurement {
            Measurement::Fanout(fanout) => fanout.run(&environment),
            Measurement::Connect(connect) => connect.run(&environment),
            Measurement::Ingest(ingest) => ingest.run(&environment),
            Measurement::Features(features) => features.run(&environment),
            Measurement::Reconnect(reconnect) => reconnect.run(&environment),
            Measurement::Crowd(crowd) => crowd.run(&environment),
            Measurement::NoisyNeighbour(neighbour) => neighbour.run(&environment),
            Measurement::Idle(idle) => idle.run(&environment),
            Measurement::Tokens(tokens) => tokens.run(&environment),
            Measurement::Sweep(sweep) => sweep.run(&environment),
            Measurement::Scale(scale) => scale.run(&environment),
            Measurement::Floor(floor) => floor.run(&environment),
            Measurement::Cluster(cluster) => cluster.run(&environment),
            Measurement::Across(across) => across.run(&environment),
            Measurement::Plan(plan) => plan.run(),
            Measurement::Loopback(loopback) => loopback.run(),
            Measurement::Live(live) => live.run(program),
            Measurement::Worker => Ok(worker::run(program)?),
        }
    }
}
