//! `uproar bench plan`: what a crowd asks of nodes and brokers, by sums over measured costs, and which limit comes first.
//!
//! With `--simulate` a node of that cluster is killed, in simulated time. Nothing is run. The costs are those of
//! docs/results and docs/cluster.md; the ones that are assumed are marked.

mod simulate;
mod sums;

use clap::Args;
use serde_json::json;

use crate::harness::error::Failure;
use crate::harness::flags::count;
use simulate::{Back, Pauses, Return, Scene, Service, come_back, kill};
use std::time::Duration;
use sums::{Crowd, HANDSHAKE, JOIN_AT_NODE, Limit, Machines, Plan, TOKEN, TOKEN_STREAM};

/// Flags of `uproar bench plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanCommand {
    /// Viewers at once, in all rooms
    #[arg(long, value_name = "N", value_parser = count(1..=1_000_000_000))]
    viewers: usize,
    /// Rooms
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count(1..=100_000_000))]
    rooms: usize,
    /// Messages a second in each room; 0.5 is one every two seconds
    #[arg(long, value_name = "N")]
    rate: f64,
    /// Nodes; 1 is a server alone, without brokers
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = count(1..=1000))]
    nodes: usize,
    /// Brokers
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = count(3..=5))]
    brokers: usize,
    /// Time in which all viewers join, in seconds
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = count(1..=86_400))]
    join_seconds: usize,
    /// How long a viewer stays before it, or another one, joins with a new token, in minutes: `sessionDurationInMinutes`, or less
    #[arg(long, default_value_t = 60, value_name = "MINUTES", value_parser = count(1..=180))]
    session_minutes: usize,
    /// Length of one delivered frame, in bytes
    #[arg(long, default_value_t = 420, value_name = "BYTES", value_parser = count(1..=20_480))]
    frame: usize,
    /// `delivery.pace_ceiling_ms`: the longest that a busy room collects before it is sent
    #[arg(long, default_value_t = 50, value_name = "MS", value_parser = count(1..=10_000))]
    pace_ms: usize,
    /// Cores of each node and each broker
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = count(1..=1024))]
    cores: usize,
    /// Network of each node and each broker, in Gbit/s
    #[arg(long, default_value_t = 25, value_name = "N", value_parser = count(1..=1000))]
    gbits: usize,
    /// Memory of each node, in GiB
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = count(1..=65_536))]
    memory_gib: usize,
    /// Kill the home of the first room in a simulation of these nodes, a viewer for a thousand: what viewers elsewhere see,
    /// and how the killed node's come back
    #[arg(long)]
    simulate: bool,
    /// Seed of the simulation: the same one shows the same
    #[arg(long, default_value_t = 1, value_name = "N", requires = "simulate")]
    seed: u64,
    /// Time over which clients that were cut ask for new tokens, in seconds; 0: all at once
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = count(0..=3600), requires = "simulate")]
    back_seconds: usize,
    /// Tokens a second that the API makes, all nodes together [default: what the nodes' control threads make]
    #[arg(long, value_name = "N", value_parser = count(1..=100_000_000), requires = "simulate")]
    token_rate: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Viewers that one of the simulation stands for.
const SCALE: f64 = 1000.0;

impl PlanCommand {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        if !(self.rate.is_finite() && self.rate > 0.0) {
            let rate = self.rate;
            return Err(Failure::Usage(format!(
                "--rate is {rate}; it must be above 0"
            )));
        }
        let number = |count: usize| u32::try_from(count).map_or(f64::INFINITY, f64::from);
        let crowd = Crowd {
            viewers: number(self.viewers),
            rooms: number(self.rooms),
            rate: self.rate,
            frame: number(self.frame),
            join_seconds: number(self.join_seconds),
            session_seconds: number(self.session_minutes) * 60.0,
            pace_seconds: number(self.pace_ms) / 1e3,
        };
        let machines = Machines {
            nodes: number(self.nodes),
            brokers: number(self.brokers),
            cores: number(self.cores),
            gbits: number(self.gbits),
            memory_bytes: number(self.memory_gib) * f64::from(1 << 30),
        };
        let plan = Plan::new(&crowd, &machines);
        let killed = self
            .simulate
            .then(|| self.kill(&crowd, &machines))
            .transpose()?;
        if self.json {
            let mut result = json(&plan);
            if let Some((pauses, back)) = &killed {
                result["node_killed"] = json!({"seed": self.seed, "elsewhere": pauses.json(), "its_viewers": back.json()});
            }
            println!("{result}");
        } else {
            print!("{}", table(&plan));
            if let Some((pauses, back)) = &killed {
                print!("{}", story(&crowd, &machines, pauses, back));
            }
        }
        Ok(())
    }

    /// Kills a node of the plan.
    fn kill(&self, crowd: &Crowd, machines: &Machines) -> Result<(Pauses, Back), Failure> {
        const NODES_MAX: usize = 100;
        if !(2..=NODES_MAX).contains(&self.nodes) {
            let nodes = self.nodes;
            return Err(Failure::Usage(format!(
                "--simulate with --nodes {nodes}: a node is killed among 2 to {NODES_MAX}"
            )));
        }
        let pauses = kill(Scene {
            seed: self.seed,
            nodes: self.nodes,
            rooms: self.rooms,
            rate: self.rate * crowd.rooms,
        });
        let left = machines.nodes - 1.0;
        let tokens = match self.token_rate {
            Some(rate) => Service {
                seconds: 1.0 / u32::try_from(rate).map_or(f64::INFINITY, f64::from),
                servers: 1.0,
            },
            // One control thread a node.
            None => Service {
                seconds: TOKEN,
                servers: left,
            },
        };
        let back = come_back(&Return {
            seed: self.seed,
            viewers: crowd.viewers / machines.nodes,
            scale: SCALE.min(crowd.viewers / machines.nodes / 50.0).max(1.0),
            spread: Duration::from_secs(self.back_seconds as u64),
            token: tokens,
            handshake: Service {
                seconds: HANDSHAKE + JOIN_AT_NODE,
                servers: left * machines.cores,
            },
            log: Service {
                seconds: 1.0 / TOKEN_STREAM,
                servers: 1.0,
            },
        });
        Ok((pauses, back))
    }
}

/// What the simulation saw.
fn story(crowd: &Crowd, machines: &Machines, pauses: &Pauses, back: &Back) -> String {
    let [p50, p99, max] = pauses.percentiles().map(|pause| pause.as_millis());
    let [tokens, handshakes, log] = back.waiting;
    let Pauses {
        slots,
        said,
        lost,
        repeated,
        ..
    } = pauses;
    let (share, homeless) = (pauses.share() * 100.0, pauses.homeless.as_millis());
    let cut = crowd.viewers / machines.nodes;
    format!(
        "\nA node is killed (simulated):\n\
         elsewhere  {slots} of 256 slots had their home there, all have another {homeless} ms later; rooms of {share:.0} % of the viewers\n           \
         pause: p50 {p50} ms, p99 {p99} ms, at most {max} ms; of {said} messages {lost} did not come everywhere, {repeated} came twice\n\
         its own    {cut:.0} viewers come back: half within {:.2} s, 99 % within {:.2} s, all within {:.2} s\n           \
         {:.0} handshakes/s at most; waiting at most: {tokens:.0} for tokens, {handshakes:.0} for handshakes, {log:.0} for the log ({:.2} s)\n",
        back.half.as_secs_f64(),
        back.most.as_secs_f64(),
        back.all.as_secs_f64(),
        back.peak,
        back.log_wait.as_secs_f64(),
    )
}

fn json(plan: &Plan) -> serde_json::Value {
    let limits = plan.limits.iter().map(|limit| {
        json!({ "limit": limit.name, "used": limit.used, "has": limit.has, "unit": limit.unit, "share": limit.share(), "assumed": limit.is_assumed })
    });
    json!({
        "messages_per_second": plan.messages,
        "deliveries_per_second": plan.deliveries,
        "appends_per_second": plan.appends,
        "frames_per_append": plan.messages / plan.appends,
        "joins_per_second": plan.joins,
        "sends_per_second_and_node": plan.sends_per_node,
        "messages_per_send": plan.messages_per_send,
        "limits": limits.collect::<Vec<_>>(),
        "first_limit": plan.first().name,
    })
}

fn table(plan: &Plan) -> String {
    let mut out = format!(
        "messages {:.0}/s, {:.0} deliveries/s: {:.0} sends/s a node, {:.1} messages a send\n\
         log      {:.0} appends/s, {:.1} frames each; joins {:.0}/s, all in one stream\n\n\
         {:<44} {:>12} {:>12}  share\n",
        plan.messages,
        plan.deliveries,
        plan.sends_per_node,
        plan.messages_per_send,
        plan.appends,
        plan.messages / plan.appends,
        plan.joins,
        "limit",
        "used",
        "there is",
    );
    for limit in &plan.limits {
        out += &line(limit);
    }
    let first = plan.first();
    let verdict = if first.share() > 1.0 {
        "it does not fit; first to give way"
    } else {
        "it fits; first to give way if all of it grows"
    };
    let (name, growth) = (first.name, 1.0 / first.share());
    let assumed = if plan.limits.iter().any(|limit| limit.is_assumed) {
        "* rests on an assumption, not a measurement\n"
    } else {
        ""
    };
    out + &format!("{assumed}\n{verdict}: {name}, at {growth:.2} times this\n")
}

fn line(limit: &Limit) -> String {
    let name = if limit.is_assumed {
        format!("{} *", limit.name)
    } else {
        limit.name.to_owned()
    };
    let (used, has, share) = (amount(limit.used), amount(limit.has), limit.share() * 100.0);
    let unit = limit.unit;
    format!("{name:<44} {used:>12} {has:>12}  {share:3.0} %  {unit}\n")
}

/// Three digits that count.
fn amount(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}
