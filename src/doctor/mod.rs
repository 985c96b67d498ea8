//! `uproar doctor`: whether this machine carries a number of connections, and what must change for it.
//!
//! Owns: facts of the machine, requirements, a verdict on each with its reason, files with the remedies. Never: a
//! change to the machine; [`host`] only reads, everything else is pure.

mod brokers;
mod checks;
pub(crate) mod facts;
pub(crate) mod files;
mod finding;
pub(crate) mod host;
mod need;
mod show;
#[cfg(test)]
mod tests;

use crate::net::backend::Kind;

pub(crate) use brokers::examine_brokers;
pub(crate) use checks::examine;
pub(crate) use finding::{Finding, Remedy, Verdict, worst};
pub(crate) use need::Target;

/// The finding that a server should log at its start, if any: the one that keeps viewers out. Excludes what a start
/// reports by itself: kernel, rings and open files.
pub(crate) fn at_start(
    host: &impl facts::Source,
    connections: u64,
    shards: u64,
    io: Kind,
) -> Option<Finding> {
    let facts = facts::Facts::read(host, "self");
    let mut target = Target {
        connections,
        shards,
        io,
        opens: false,
    };
    if let Some(limit) = facts.nofile {
        let admitted = target.connections_of_descriptors(limit.hard);
        target.connections = connections.min(admitted);
    }
    let mut findings = examine(&facts, &target);
    findings.retain(|finding| {
        finding.connections_max.is_some() && !checks::REPORTED_AT_START.contains(&&*finding.check)
    });
    worst(&findings).cloned()
}
