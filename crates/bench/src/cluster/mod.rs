//! `uproar bench cluster`: what three nodes on three brokers do, beside one node alone, in the same run.

mod appends;
mod failover;
mod hold;
mod joins;
mod latency;
mod memory;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use uproar_proto::base::id::RoomId;
use uproar_proto::cluster::HashSlot;

use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{content_bytes, count, seconds};
use crate::harness::nodes::{Nodes, find_nats_server};
use crate::harness::program::Environment;
use latency::{Idle, Load};
use report::{Report, Side};

/// Nodes of the cluster.
const NODES: usize = 3;
/// Rooms to choose from: nearly every hash slot has one.
const ROOMS: usize = 600;
/// For what idling costs.
const IDLE_TIME: Duration = Duration::from_secs(3);
/// Longest wait until each node is home of its share.
const BALANCED_MAX: Duration = Duration::from_secs(30);
/// The least share, in hash slots.
const SHARE_MIN: usize = 60;

/// Flags of `uproar bench cluster`.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// What is measured, as in latency,joins [default: all]
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// The brokers' program, 2.15 or newer [default: the first nats-server on the path]
    #[arg(long, value_name = "FILE")]
    nats_server: Option<PathBuf>,
    /// Length of each load, in seconds; that of one message a second lasts three times as long
    #[arg(long = "seconds", default_value = "5", value_name = "SECONDS", value_parser = seconds())]
    measured: Duration,
    /// Viewers of a room, all nodes together
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = count(3..=3000))]
    viewers: usize,
    /// Length of a message's content, in bytes
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = content_bytes())]
    size: usize,
    /// Handshakes
    #[arg(long, default_value_t = 6000, value_name = "N", value_parser = count(10..=1_000_000))]
    joins: usize,
    /// Rooms that are created for what each costs in memory
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = count(10..=1_000_000))]
    rooms: usize,
    /// Kills of a room's home
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = count(1..=1000))]
    kills: usize,
    /// Measure nothing: print where three brokers and three nodes with this number of rooms are, obey lines `kill NAME` and
    /// `start NAME`, and end with standard input
    #[arg(long, value_name = "ROOMS", value_parser = count(1..=1000), conflicts_with = "only")]
    hold: Option<usize>,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Latency at 1, 100 and 2,000 messages/s, and processor time of a message
    Latency,
    /// Handshakes with tokens
    Joins,
    /// Records a second that brokers take
    Appends,
    /// Memory of a room
    Memory,
    /// Kills of a room's home
    Failover,
}

impl Cluster {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let program = environment.program;
        // First, so that nothing is measured in vain.
        let nats = find_nats_server(self.nats_server.as_deref())?;
        if let Some(rooms) = self.hold {
            let nodes = Nodes::start_cluster(program, NODES, &nats)?;
            await_balanced(&nodes)?;
            return hold::hold(nodes, rooms);
        }
        let mut report = Report::new(environment.machine.clone(), self.json);
        if self.wants(Part::Latency) || self.wants(Part::Joins) || self.wants(Part::Memory) {
            report.say("one node alone");
            let nodes = Nodes::start_alone(program)?;
            let rooms = nodes.create_rooms(0, self.rooms_needed())?;
            report.alone = self.measure(&nodes, &rooms, &report)?;
        }
        report.say("three brokers and three nodes");
        let mut nodes = Nodes::start_cluster(program, NODES, &nats)?;
        let rooms = nodes.create_rooms(0, self.rooms_needed())?;
        await_balanced(&nodes)?;
        let rooms = first_is_away(&nodes, rooms)?;
        report.cluster = self.measure(&nodes, &rooms, &report)?;
        if self.wants(Part::Appends) {
            report.say("records a second");
            let rooms = appends::one_for_each_slot(&rooms);
            report.appends = appends::measure(&nodes, &rooms, self.measured, &report.cluster.idle)?;
        }
        if self.wants(Part::Failover) {
            let say = |kill| report.say(&format!("kill {} of {}", kill + 1, self.kills));
            let failovers = failover::measure(&mut nodes, rooms[0], self.kills, say)?;
            report.failovers = Some(failovers);
        }
        drop(nodes);
        report.print();
        Ok(())
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn rooms_needed(&self) -> usize {
        if self.wants(Part::Appends) { ROOMS } else { 30 }
    }

    /// What is measured alone and in the cluster.
    fn measure(
        &self,
        nodes: &Nodes,
        rooms: &[RoomId],
        report: &Report,
    ) -> Result<Side, BenchError> {
        let idle = latency::idle(nodes, IDLE_TIME);
        let mut side = Side {
            rows: Vec::new(),
            joins: None,
            memory: None,
            idle: idle.clone(),
        };
        if self.wants(Part::Latency) {
            for load in self.loads() {
                let Load {
                    rate, rooms: count, ..
                } = load;
                report.say(&format!("latency at {rate} messages/s in {count} room(s)"));
                side.rows
                    .push(latency::measure(nodes, &rooms[..count], load, &idle)?);
            }
        }
        if self.wants(Part::Joins) {
            report.say("handshakes");
            side.joins = Some(self.measure_joins(nodes, rooms, &idle)?);
        }
        if self.wants(Part::Memory) {
            report.say("memory of rooms");
            side.memory = Some(memory::measure(nodes, self.rooms)?);
        }
        Ok(side)
    }

    /// The first handshakes make threads and tables; they are not counted.
    fn measure_joins(
        &self,
        nodes: &Nodes,
        rooms: &[RoomId],
        idle: &Idle,
    ) -> Result<joins::Joins, BenchError> {
        joins::measure(nodes, &rooms[..20], self.joins / 10, idle)?;
        joins::measure(nodes, &rooms[..20], self.joins, idle)
    }

    fn loads(&self) -> [Load; 4] {
        let load = |rate, rooms, times| Load {
            rate,
            rooms,
            viewers: self.viewers,
            content_bytes: self.size,
            measured: self.measured * times,
        };
        [
            load(1.0, 1, 3),
            load(100.0, 1, 1),
            load(2_000.0, 1, 1),
            load(2_000.0, 20, 1),
        ]
    }
}

/// Waits until every node is home of its share: one that is new gets it some seconds later.
fn await_balanced(nodes: &Nodes) -> Result<(), BenchError> {
    let begun = std::time::Instant::now();
    loop {
        let homes = nodes.homes_by(0).ask()?;
        let share = |node| homes.iter().filter(|home| **home == Some(node)).count();
        if (0..nodes.count()).all(|node| share(node) >= SHARE_MIN) {
            return Ok(());
        }
        if begun.elapsed() > BALANCED_MAX {
            let text =
                format!("after {BALANCED_MAX:?} not every node is home of {SHARE_MIN} slots");
            return Err(BenchError::Server(text));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The same rooms, with one first whose home is the second node: senders are at the first one, so that edge and home
/// are different processes.
fn first_is_away(nodes: &Nodes, mut rooms: Vec<RoomId>) -> Result<Vec<RoomId>, BenchError> {
    let homes = nodes.homes_by(0).ask()?;
    let is_away = |room: &RoomId| homes[HashSlot::of(*room).index()] == Some(1);
    let away = rooms.iter().position(is_away);
    let away =
        away.ok_or_else(|| BenchError::Server("the second node is home of no room".to_owned()))?;
    rooms.swap(0, away);
    Ok(rooms)
}
