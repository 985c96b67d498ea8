//! What is printed.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::appends::{self, Step};
use super::failover::Failovers;
use super::joins::Joins;
use super::latency::{Idle, Row, apart};
use super::memory::Memory;

/// What was measured of a node alone, or of a cluster.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) rows: Vec<Row>,
    pub(super) joins: Option<Joins>,
    pub(super) memory: Option<Memory>,
    /// Processor time of a second in which nothing is said.
    pub(super) idle: Idle,
}

/// All of it.
pub(super) struct Report {
    machine: String,
    as_json: bool,
    progress: ProgressBar,
    pub(super) alone: Side,
    pub(super) cluster: Side,
    pub(super) appends: Vec<Step>,
    pub(super) failovers: Option<Failovers>,
}

impl Report {
    pub(super) fn new(machine: String, as_json: bool) -> Self {
        let progress = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{elapsed_precise} {msg}");
        progress.set_style(style.expect("a template without faults"));
        Self {
            machine,
            as_json,
            progress,
            alone: Side::default(),
            cluster: Side::default(),
            appends: Vec::new(),
            failovers: None,
        }
    }

    /// Shows what is done now.
    pub(super) fn say(&self, what: &str) {
        self.progress.set_message(what.to_owned());
        self.progress.tick();
    }

    pub(super) fn print(&self) {
        self.progress.finish_and_clear();
        if self.as_json {
            println!("{}", self.json());
            return;
        }
        println!("machine   {}", self.machine);
        println!(
            "method    one node alone, then three nodes and three brokers (sync_interval always), a shard each, unpinned on \
             this machine with the tool; senders at the first node, which is not the room's home; a message's age counts \
             from when it was due; processor time by /proc/PID/task/*/schedstat, idling taken off"
        );
        self.print_latency();
        self.print_costs();
        for (name, side) in [("alone", &self.alone), ("cluster", &self.cluster)] {
            if let Some(joins) = &side.joins {
                println!("joins     {name:8} {}", joins.line());
            }
        }
        if let (Some(alone), Some(cluster)) = (&self.alone.joins, &self.cluster.joins) {
            println!(
                "          by processor time {:.0} % of alone by nodes, {:.0} % with the brokers",
                alone.node_micros / cluster.node_micros * 100.0,
                alone.node_micros / (cluster.node_micros + cluster.broker_micros) * 100.0
            );
        }
        for (name, side) in [("alone", &self.alone), ("cluster", &self.cluster)] {
            if let Some(memory) = &side.memory {
                println!("memory    {name:8} {}", memory.line());
            }
        }
        self.print_appends();
        self.print_failovers();
    }

    fn print_latency(&self) {
        let all = [("alone", &self.alone), ("cluster", &self.cluster)];
        if all.iter().all(|(_, side)| side.rows.is_empty()) {
            return;
        }
        println!("\nlatency   messages/s  rooms   p50 ms   p99 ms   max ms   lost  batch");
        for (name, side) in all {
            for row in &side.rows {
                let [p50, p99, _, max] = row.ages.ms();
                let wrong =
                    row.losses.lost + row.losses.repeated + row.losses.reordered + row.refused;
                println!(
                    "{name:8}  {:10.0}  {:5}  {p50:7.2}  {p99:7.2}  {max:7.2}  {wrong:5}  {:5.1}",
                    row.load.rate,
                    row.load.rooms,
                    if row.appends > 0.0 { row.batch() } else { 0.0 },
                );
            }
        }
        for (alone, cluster) in self.alone.rows.iter().zip(&self.cluster.rows) {
            let added = |at: usize| cluster.ages.ms()[at] - alone.ages.ms()[at];
            println!(
                "added     {:10.0}  {:5}  {:7.2}  {:7.2}",
                alone.load.rate,
                alone.load.rooms,
                added(0),
                added(1)
            );
        }
    }

    fn print_costs(&self) {
        if self.cluster.rows.is_empty() {
            return;
        }
        let rows = self.alone.rows.iter().zip(&self.cluster.rows);
        println!("\nprocessor microseconds of a message, its deliveries included");
        println!("messages/s  rooms    alone     edge     home   third  brokers");
        for (alone, cluster) in rows.filter(|(row, _)| row.load.rate > 1.0) {
            let node = |at: usize| cluster.node_micros.get(at).copied().unwrap_or(0.0);
            println!(
                "{:10.0}  {:5}  {:7.1}  {:7.1}  {:7.1}  {:6.1}  {:7.1}",
                alone.load.rate,
                alone.load.rooms,
                alone.node_micros[0],
                node(0),
                node(1),
                node(2),
                cluster.broker_micros
            );
        }
        let idle = |side: &Side| {
            let nodes = side
                .idle
                .busy
                .nodes
                .iter()
                .map(|time| format!("{:.1}", time.as_secs_f64() * 1e3));
            let nodes = nodes.collect::<Vec<_>>().join(", ");
            format!(
                "nodes {nodes}, brokers {:.1}",
                side.idle.busy.brokers.as_secs_f64() * 1e3
            )
        };
        println!(
            "idle      ms of processor a second: alone {}; cluster {}",
            idle(&self.alone),
            idle(&self.cluster)
        );
        if let Some(parts) = self.parts() {
            println!("parts     {parts}");
        }
    }

    /// A record's and a message's part of the costs: of one room at 100 and at 2,000 messages/s.
    fn parts(&self) -> Option<String> {
        let few = self.cluster.rows.get(1)?;
        let many = self.cluster.rows.get(2)?;
        let of = |micros: &dyn Fn(&Row) -> Option<f64>| {
            let parts = apart((micros(few)?, few.batch()), (micros(many)?, many.batch()))?;
            Some(format!(
                "{:.0} us + {:.1} us",
                parts.record_micros, parts.message_micros
            ))
        };
        Some(format!(
            "of a record + of each message in it: edge {}, home {}, third node {}, brokers together {}",
            of(&|row| row.node_micros.first().copied())?,
            of(&|row| row.node_micros.get(1).copied())?,
            of(&|row| row.node_micros.get(2).copied())?,
            of(&|row| Some(row.broker_micros))?,
        ))
    }

    fn print_appends(&self) {
        if self.appends.is_empty() {
            return;
        }
        println!(
            "\nrecords, a room in each hash slot; processors used; microseconds of one record at each node and at all brokers\n{}",
            appends::HEADING
        );
        for step in &self.appends {
            println!("{}", step.line());
        }
    }

    fn print_failovers(&self) {
        let Some(failovers) = &self.failovers else {
            return;
        };
        let [least, p50, p90, p99, most] = failovers.percentiles();
        let losses = failovers.losses;
        println!(
            "\nfailover  {} kills of a room's home: viewers elsewhere waited {least} ms at least, p50 {p50}, p90 {p90}, \
             p99 {p99}, at most {most}; {} said, {} lost, {} twice, {} in another order, {} refused{}",
            failovers.pauses.len(),
            losses.said,
            losses.lost,
            losses.repeated,
            losses.reordered,
            failovers.refused,
            if failovers.comes_back {
                ""
            } else {
                "; some viewers did not come back"
            },
        );
        for (below, count) in failovers.histogram() {
            println!(
                "          below {below:5} ms  {count:4}  {}",
                "#".repeat(count)
            );
        }
    }

    fn json(&self) -> Value {
        let side = |side: &Side| {
            json!({
                "latency": side.rows.iter().map(Row::json).collect::<Vec<_>>(),
                "joins": side.joins.as_ref().map(Joins::json),
                "memory": side.memory.as_ref().map(Memory::json),
                "idle_cpu_ms_per_second": {
                    "nodes": side.idle.busy.nodes.iter().map(|time| time.as_secs_f64() * 1e3).collect::<Vec<_>>(),
                    "brokers": side.idle.busy.brokers.as_secs_f64() * 1e3,
                },
            })
        };
        json!({
            "machine": self.machine,
            "alone": side(&self.alone),
            "cluster": side(&self.cluster),
            "appends": self.appends.iter().map(Step::json).collect::<Vec<_>>(),
            "failover": self.failovers.as_ref().map(Failovers::json),
        })
    }
}
