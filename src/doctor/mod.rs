//! `uproar doctor`: whether this machine carries a number of connections, and what must change for it.
//!
//! Owns: facts of the machine, requirements, a verdict on each with its reason, files with the remedies. Never: a
//! change to the machine; [`host`] only reads, everything else is pure.

mod checks;
pub mod facts;
pub mod files;
pub mod host;
mod need;
#[cfg(test)]
mod tests;

pub use checks::examine;
pub use need::Target;

/// The judgement of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Sufficient.
    Ok,
    /// Not sufficient for the target.
    Change,
    /// Cannot be read here; the reason names what to check.
    Unknown,
}

impl Verdict {
    /// The printed name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Change => "change",
            Self::Unknown => "unknown",
        }
    }
}

/// One setting that a file can hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Remedy {
    /// A kernel setting.
    Sysctl {
        /// Its name, with dots.
        key: &'static str,
        /// Its value, as for `sysctl`.
        value: String,
    },
    /// A directive of the systemd unit, in `[Service]`.
    Unit {
        /// Its name, without `=`.
        directive: &'static str,
        /// Its value.
        value: String,
    },
}

/// One line of the table.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Finding {
    /// The checked setting.
    pub check: String,
    /// Its current value.
    pub found: String,
    /// The required value.
    pub needed: String,
    /// Whether it is sufficient.
    pub verdict: Verdict,
    /// Why it matters, in one line.
    pub reason: String,
    /// The most connections that the current value allows, if known.
    pub connections_max: Option<u64>,
    /// The setting to change; only with [`Verdict::Change`].
    pub remedy: Option<Remedy>,
}

/// Of the findings to change, the one that allows the fewest connections.
pub fn worst(findings: &[Finding]) -> Option<&Finding> {
    findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Change)
        .min_by_key(|finding| finding.connections_max.unwrap_or(u64::MAX))
}

/// The finding that a server should log at its start, if any: the one that keeps viewers out. Excludes what a start
/// reports by itself: kernel, rings and open files.
pub fn at_start(host: &impl facts::Source, connections: u64, shards: u64) -> Option<Finding> {
    let facts = facts::Facts::read(host, "self");
    let mut target = Target {
        connections,
        shards,
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
