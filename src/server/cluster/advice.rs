//! One line that says what to do next: the first of these that is true.

use super::report::{BrokerReport, ClusterReport, NodeReport, NodeState};

/// A clock that is farther off makes its node unready at 2 s.
const SKEW_MS_MAX: u64 = 1_000;
/// A probe comes back each 5 s.
const PROBE_AGE_MS_MAX: u64 = 15_000;

pub(super) fn advice(report: &ClusterReport) -> String {
    let rules = [
        brokers_away,
        streams_stand,
        one_more_broker,
        slots_stand,
        silent_nodes,
        clocks,
        probe,
        one_node,
        versions,
        leaders,
    ];
    let first = rules.iter().find_map(|rule| rule(report));
    first.unwrap_or_else(|| "All is well: one node and one broker may die.".to_owned())
}

/// Names, or URLs of those that do not say their name.
fn names<'a>(brokers: impl Iterator<Item = &'a BrokerReport>) -> String {
    let names = brokers.map(|broker| broker.name.as_ref().unwrap_or(&broker.server).as_str());
    names.collect::<Vec<_>>().join(", ")
}

fn is_down(broker: &BrokerReport) -> bool {
    broker.fault.is_some()
}

fn brokers_away(report: &ClusterReport) -> Option<String> {
    let down = report.brokers.iter().filter(|broker| is_down(broker));
    let most = report.brokers.len() / 2;
    (down.clone().count() > most).then(|| {
        format!(
            "Chat stands still: too few brokers answer. Start {}.",
            names(down)
        )
    })
}

fn streams_stand(report: &ClusterReport) -> Option<String> {
    let streams = report.streams.as_ref()?;
    let stand = streams
        .iter()
        .filter(|stream| stream.leader.is_none())
        .count();
    (stand > 0).then(|| format!("{stand} streams have no leader, and their rooms stand still; an election takes up to 9 s."))
}

fn one_more_broker(report: &ClusterReport) -> Option<String> {
    let down = report.brokers.iter().filter(|broker| is_down(broker));
    (down.clone().next().is_some()).then(|| {
        format!(
            "Start {}: if one more broker ends, chat stands still.",
            names(down)
        )
    })
}

fn slots_stand(report: &ClusterReport) -> Option<String> {
    let stand = report.slots.without_home;
    (stand > 0).then(|| {
        format!("{stand} slots have no home; a node takes them within 4 s, if one is ready.")
    })
}

fn nodes_named(report: &ClusterReport, which: impl Fn(&&NodeReport) -> bool) -> Option<String> {
    let names: Vec<_> = report
        .nodes
        .iter()
        .filter(which)
        .map(|node| &*node.name)
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn silent_nodes(report: &ClusterReport) -> Option<String> {
    let names = nodes_named(report, |node| node.state == NodeState::Silent)?;
    Some(format!(
        "{names} is not heard: start it, or leave it out of the load balancer."
    ))
}

fn clocks(report: &ClusterReport) -> Option<String> {
    let names = nodes_named(report, |node| node.skew_ms.unsigned_abs() > SKEW_MS_MAX)?;
    Some(format!(
        "The clock of {names} is off: start NTP there. Beyond 2 s a node is not ready."
    ))
}

fn probe(report: &ClusterReport) -> Option<String> {
    let is_fresh = report
        .probe
        .as_ref()
        .is_some_and(|probe| probe.age_ms <= PROBE_AGE_MS_MAX);
    (!is_fresh)
        .then(|| "No probe has come back lately: see /readyz and the log of this node.".to_owned())
}

fn one_node(report: &ClusterReport) -> Option<String> {
    let ready = report
        .nodes
        .iter()
        .filter(|node| node.state == NodeState::Ready)
        .count();
    (ready < 2).then(|| "Start a second node: if this one ends, nobody serves.".to_owned())
}

fn versions(report: &ClusterReport) -> Option<String> {
    let mut versions: Vec<_> = report.nodes.iter().map(|node| &*node.version).collect();
    versions.sort_unstable();
    versions.dedup();
    (versions.len() > 1).then(|| {
        format!(
            "Nodes have the versions {}: end the upgrade.",
            versions.join(" and ")
        )
    })
}

fn leaders(report: &ClusterReport) -> Option<String> {
    let leads = report.brokers.iter().filter_map(|broker| broker.leads);
    let (most, least) = (leads.clone().max()?, leads.min()?);
    (most > least + 2).then(|| {
        format!("One broker leads {most} streams, another {least}: `uproar cluster balance` spreads them.")
    })
}
