//! A finding: what was checked, what it is, what it must be, and the setting that changes it.

/// The judgement of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Sufficient.
    Ok,
    /// Not sufficient for the target.
    Change,
    /// Cannot be read here; the reason names what to check.
    Unknown,
}

impl Verdict {
    /// The printed name.
    pub(crate) fn name(self) -> &'static str {
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
pub(crate) enum Remedy {
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
pub(crate) struct Finding {
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
pub(crate) fn worst(findings: &[Finding]) -> Option<&Finding> {
    findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Change)
        .min_by_key(|finding| finding.connections_max.unwrap_or(u64::MAX))
}

/// A finding without a bound and a remedy.
pub(super) fn finding(
    check: &str,
    found: impl ToString,
    needed: impl ToString,
    verdict: Verdict,
    reason: impl ToString,
) -> Finding {
    Finding {
        check: check.to_owned(),
        found: found.to_string(),
        needed: needed.to_string(),
        verdict,
        reason: reason.to_string(),
        connections_max: None,
        remedy: None,
    }
}

impl Finding {
    pub(super) fn allows(mut self, connections: Option<u64>) -> Self {
        self.connections_max = connections;
        self
    }

    pub(super) fn sysctl(mut self, key: &'static str, value: impl ToString) -> Self {
        if self.verdict == Verdict::Change {
            let value = value.to_string();
            self.remedy = Some(Remedy::Sysctl { key, value });
        }
        self
    }

    pub(super) fn unit(mut self, directive: &'static str, value: impl ToString) -> Self {
        if self.verdict == Verdict::Change {
            let value = value.to_string();
            self.remedy = Some(Remedy::Unit { directive, value });
        }
        self
    }
}

/// Whether `found` is at least `needed`.
pub(super) fn enough(found: Option<u64>, needed: u64) -> Verdict {
    match found {
        None => Verdict::Unknown,
        Some(found) if found >= needed => Verdict::Ok,
        Some(_) => Verdict::Change,
    }
}
