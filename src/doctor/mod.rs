//! `uproar doctor`: does this machine carry so many connections, and what must change for it.
//!
//! Owns: facts of the machine, what is needed, a verdict on each with its reason, files with the remedies.
//! Never: a change to the machine; [`host`] only reads, everything else is pure.

mod checks;
pub mod facts;
pub mod files;
pub mod host;
mod need;
#[cfg(test)]
mod tests;

pub use checks::examine;
pub use need::Target;

/// What to think of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not for so many connections.
    Change,
    /// Cannot be read here; the reason says what to look at.
    Unknown,
}

impl Verdict {
    /// As it is printed.
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
    /// Of the kernel.
    Sysctl {
        /// With dots.
        key: &'static str,
        /// As `sysctl` takes it.
        value: String,
    },
    /// Of the systemd unit, in `[Service]`.
    Unit {
        /// Without `=`.
        directive: &'static str,
        /// Behind it.
        value: String,
    },
}

/// One line of the table.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// As it is.
    pub found: String,
    /// As it should be.
    pub needed: String,
    /// Whether that is enough.
    pub verdict: Verdict,
    /// Why it matters, in one line.
    pub reason: String,
    /// The most connections that what was found allows, where one can say.
    pub connections_max: Option<u64>,
    /// What to set; only with [`Verdict::Change`].
    pub remedy: Option<Remedy>,
}

/// The finding that allows the fewest connections, of those to change.
pub fn worst(findings: &[Finding]) -> Option<&Finding> {
    findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Change)
        .min_by_key(|finding| finding.connections_max.unwrap_or(u64::MAX))
}

/// What a server of so many connections should say at its start, if anything: the finding that keeps
/// viewers outside. Not what a start says by itself: kernel, rings and open files.
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
        finding.connections_max.is_some() && !checks::SAID_BY_A_START.contains(&&*finding.check)
    });
    worst(&findings).cloned()
}
