//! `uproar cluster status`: one screen.

use std::fmt::Write;
use std::path::PathBuf;

use super::super::failure::Failure;
use super::super::output::print;
use super::super::place::Place;
use crate::config::{dev_cluster_dir, dev_node_dir};
use crate::server::{ClusterReport, Order, ask, ask_cluster, dev_ports};

/// `uproar cluster status`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct StatusCommand {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Which node is home of this room
    #[arg(long, value_name = "ARN")]
    room: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl StatusCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let room = self.room.as_deref();
        let report = ask_cluster(&data_dir(&self.place)?, room);
        let report = report.map_err(|error| Failure::Run(error.to_string()))?;
        if let Some(arn) = room
            && report.room.is_none()
        {
            return Err(Failure::Usage(format!(
                "--room {arn}: this is no room's ARN"
            )));
        }
        if self.json {
            let json = serde_json::to_string(&report).expect("texts and numbers");
            return print(&format!("{json}\n"));
        }
        print(&screen(&report))
    }
}

/// The named server's directory; without a name, that of the first node of `uproar dev --cluster` that answers, if it runs.
pub(super) fn data_dir(place: &Place) -> Result<PathBuf, Failure> {
    if !place.is_named() {
        let nodes = dev_ports().map(|ports| dev_node_dir(&dev_cluster_dir(), ports.number));
        let answers =
            |node: &PathBuf| node.is_dir() && ask(node, &Order::Health {}, |_| {}).is_ok();
        if let Some(node) = nodes.into_iter().find(answers) {
            return Ok(node);
        }
    }
    Ok(place.existing()?.data_dir)
}

fn screen(report: &ClusterReport) -> String {
    let mut nodes = vec![
        [
            "node", "process", "version", "state", "viewers", "slots", "clock", "heard",
        ]
        .map(str::to_owned),
    ];
    for node in &report.nodes {
        let own = if node.name == report.node { " *" } else { "" };
        nodes.push([
            format!("{}{own}", node.name),
            node.pid.to_string(),
            node.version.clone(),
            node.state.name().to_owned(),
            node.viewers.to_string(),
            node.slots.to_string(),
            format!("{:+} ms", node.skew_ms),
            format!("{} ms ago", node.heard_ms),
        ]);
    }
    let mut brokers =
        vec![["broker", "process", "version", "leads", "address", ""].map(str::to_owned)];
    let unknown = || "-".to_owned();
    for broker in &report.brokers {
        brokers.push([
            broker.name.clone().unwrap_or_else(unknown),
            broker.pid.map_or_else(unknown, |pid| pid.to_string()),
            broker.version.clone().unwrap_or_else(unknown),
            broker.leads.map_or_else(unknown, |leads| leads.to_string()),
            broker.server.clone(),
            broker.fault.clone().unwrap_or_default(),
        ]);
    }
    let (columns, rows) = (columns(&nodes), columns(&brokers));
    let mut out = format!(
        "cluster {}, as {} sees it (*)\n\n{columns}\n{rows}\n",
        report.cluster, report.node
    );
    out += &slots(report);
    out + &format!("\n{}\n", report.advice)
}

/// Slots, probe, and the room asked for.
fn slots(report: &ClusterReport) -> String {
    let slots = &report.slots;
    let with_home = slots.homes.len() - slots.without_home;
    let mut out = format!(
        "slots   {with_home} of {} have a home; {} requests wait here\n",
        slots.homes.len(),
        slots.waiting
    );
    let probe = match &report.probe {
        Some(probe) => format!(
            "{:.1} ms through home, log and back, {} s ago",
            probe.round_trip_ms,
            probe.age_ms / 1000
        ),
        None => "none has come back yet".to_owned(),
    };
    let _infallible = writeln!(out, "probe   {probe}");
    if let Some(room) = &report.room {
        let home = room.home.as_deref().unwrap_or("nobody");
        let _infallible = writeln!(out, "room    slot {}, home {home}", room.slot);
    }
    out
}

/// Columns as wide as their widest cell.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let widest = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| widest(column).unwrap_or(0));
    let mut out = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        out += cells.collect::<Vec<_>>().join("  ").trim_end();
        out.push('\n');
    }
    out
}
