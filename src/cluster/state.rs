//! What a node knows about its cluster, four times a second: whether it is ready, and its figures.

use std::time::Duration;

use crate::exposition::{Exposition, Family};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::{CLUSTER_PROBE_MAX, CLUSTER_SKEW_MAX};
use uproar_proto::cluster::PurseCounts;
use uproar_proto::cluster::engine::Counts;

/// A node's view.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Before its brokers have answered: why they have not.
    pub waits: Option<String>,
    /// Round trip of the newest probe through the home and the log of some hash slot, and when it came back.
    pub probe: Option<(Duration, Tick)>,
    /// How far this machine's clock is ahead of the brokers', in nanoseconds, below 0 if it is behind; as the median of
    /// all streams has it, so that one broker's clock does not count.
    pub skew_nanos: i64,
    /// Whether most nodes' clocks are near this machine's, its own counted.
    pub agrees_with_nodes: bool,
    /// Whether this node hands its hash slots over.
    pub is_draining: bool,
    /// A process that has this node's name, if there is one.
    pub namesake: Option<u32>,
    /// Connections to brokers, of two.
    pub connected: usize,
    /// Name and version of the broker that calls go to.
    pub broker: String,
    /// What a broker is that this node cannot work with, if it is connected to such a one.
    pub unfit: Option<String>,
    pub(super) figures: Figures,
}

/// Counts for `/metrics`.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) nodes: usize,
    pub(super) slots_home: usize,
    pub(super) counts: Counts,
    pub(super) purse: PurseCounts,
    pub(super) kept_bytes: usize,
    pub(super) authored_bytes: usize,
    pub(super) append_nanos: u64,
    pub(super) appends_answered: u64,
    pub(super) apply_lag: Duration,
    pub(super) token_uses: [u64; 3],
    pub(super) token_uses_waiting: usize,
    pub(super) registry_revision: u64,
    pub(super) reconnects: u64,
    pub(super) slow: u64,
}

/// Why viewers are not welcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unready {
    /// No broker has answered since the start.
    #[error("this node waits for its brokers: {0}")]
    Waiting(String),
    /// No probe came back lately.
    #[error(
        "no message went through the cluster and back for {for_s} s: this node, its brokers, or homes of rooms do not work"
    )]
    Probe {
        /// Since the last one.
        for_s: u64,
    },
    /// None ever did.
    #[error("no message went through the cluster and back yet")]
    NoProbe,
    /// The clock is off.
    #[error(
        "this machine's clock is {by_ms} ms off those of the brokers; 2000 are allowed: check NTP"
    )]
    Clock {
        /// By how much.
        by_ms: u64,
    },
    /// The node leaves.
    #[error("this node is draining")]
    Draining,
    /// The broker is unfit.
    #[error("{0}")]
    Broker(String),
    /// Another process has the same name.
    #[error("process {0} is a node of the same name: give each its own cluster.node")]
    Name(u32),
}

/// Whether a clock that differs by this is near.
fn is_near(skew_nanos: i64) -> bool {
    u128::from(skew_nanos.unsigned_abs()) <= CLUSTER_SKEW_MAX.as_nanos()
}

/// Whether this node and those others whose clocks are near its own are more than half of all; alone it is nobody's word.
pub(super) fn is_majority_near(others: impl Iterator<Item = i64>) -> bool {
    let (mut near, mut all) = (0, 1);
    for skew_nanos in others {
        all += 1;
        near += usize::from(is_near(skew_nanos));
    }
    near > 0 && (near + 1) * 2 > all
}

impl State {
    /// Whether viewers are welcome.
    pub(super) fn ready(&self, now: Tick) -> Result<(), Unready> {
        if let Some(cause) = &self.waits {
            return Err(Unready::Waiting(cause.clone()));
        }
        if let Some(what) = &self.unfit {
            return Err(Unready::Broker(what.clone()));
        }
        if let Some(process) = self.namesake {
            return Err(Unready::Name(process));
        }
        if self.is_draining {
            return Err(Unready::Draining);
        }
        if !self.is_clock_near() {
            let by_ms = self.skew_nanos.unsigned_abs() / 1_000_000;
            return Err(Unready::Clock { by_ms });
        }
        if self.probe.is_none() {
            return Err(Unready::NoProbe);
        }
        match self.isolation(now) {
            Duration::ZERO => Ok(()),
            silence => Err(Unready::Probe {
                for_s: silence.as_secs(),
            }),
        }
    }

    /// How long no message has gone through the cluster and back, if that is longer than an interval of probes or two.
    pub(super) fn isolation(&self, now: Tick) -> Duration {
        let silence = self.probe.map(|(_, back)| now.since(back));
        silence
            .filter(|silence| *silence > CLUSTER_PROBE_MAX)
            .unwrap_or_default()
    }

    /// Whether this machine's clock is near those of the brokers, or of most nodes: a broker that leads most streams, and whose
    /// clock steps, would make all nodes unready at once.
    pub(super) fn is_clock_near(&self) -> bool {
        is_near(self.skew_nanos) || self.agrees_with_nodes
    }

    /// Adds the figures to `/metrics`.
    pub(super) fn render(&self, page: &mut Exposition, now: Tick) {
        let Figures { counts, .. } = &self.figures;
        let figures = &self.figures;
        page.single(&NODES, figures.nodes);
        page.single(&BROKERS, self.connected);
        page.single(&SLOTS, figures.slots_home);
        let mut series = page.family(&TAKEOVERS);
        series.add(&[("cause", "failed_home")], counts.takeovers_failed_home);
        series.add(&[("cause", "planned")], counts.takeovers_planned);
        series.add(&[("cause", "vacant")], counts.takeovers_vacant);
        page.single(&FENCED, counts.fenced);
        let sum = Duration::from_nanos(figures.append_nanos).as_secs_f64();
        page.family(&APPEND_SECONDS)
            .summary(&[], sum, figures.appends_answered);
        page.single(&APPENDS, counts.appends);
        page.single(&ENTRIES, counts.appended_entries);
        let mut series = page.family(&CONFLICTS);
        series.add(&[("result", "own")], counts.conflicts_own);
        series.add(&[("result", "foreign")], counts.conflicts_foreign);
        series.add(&[("result", "nothing")], counts.conflicts_nothing);
        series.add(&[("result", "unknown")], counts.appends_unknown);
        let roundtrip = self.probe.map_or(0.0, |(took, _)| took.as_secs_f64());
        page.single(&ROUNDTRIP, roundtrip);
        page.single(&ISOLATED, self.isolation(now).as_secs());
        page.single(&LAG, figures.apply_lag.as_secs_f64());
        let mut series = page.family(&GAPS);
        series.add(&[("result", "filled")], counts.gaps_filled);
        series.add(&[("result", "skipped")], counts.gaps_skipped);
        page.single(&REPEATED, counts.duplicates);
        page.single(&KEPT, figures.kept_bytes);
        page.single(&AUTHORED, figures.authored_bytes);
        page.single(&RESENT, counts.requests_resent);
        page.single(&UNKNOWN, counts.requests_unknown);
        page.single(&OVER_BOUND, counts.requests_over_bound);
        page.single(&DRAWS, figures.purse.draws);
        page.single(&ALONE, figures.purse.alone);
        page.single(&UNREADABLE, counts.unreadable);
        page.single(&REGRESSIONS, counts.regressions);
        let mut series = page.family(&TOKENS);
        for (outcome, count) in ["first", "again", "unknown"].iter().zip(figures.token_uses) {
            series.add(&[("outcome", outcome)], count);
        }
        page.single(&TOKENS_WAITING, figures.token_uses_waiting);
        page.single(&RECONNECTS, figures.reconnects);
        page.single(&SLOW, figures.slow);
        page.single(&REVISION, figures.registry_revision);
        page.single(&SKEW, Skew(self.skew_nanos));
    }
}

/// Nanoseconds as seconds, with their sign.
struct Skew(i64);

impl std::fmt::Display for Skew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let size = Duration::from_nanos(self.0.unsigned_abs());
        write!(f, "{sign}{}", size.as_secs_f64())
    }
}

const NODES: Family = Family::gauge(
    "uproar_cluster_nodes",
    "Nodes that are alive, this one included.",
);
const BROKERS: Family = Family::gauge(
    "uproar_cluster_brokers_connected",
    "Connections to brokers, of two.",
);
const SLOTS: Family = Family::gauge(
    "uproar_cluster_slots_home",
    "Hash slots whose home is this node.",
);
const TAKEOVERS: Family = Family::counter(
    "uproar_cluster_takeovers_total",
    "Hash slots that this node took over.",
);
const FENCED: Family = Family::counter(
    "uproar_cluster_fenced_total",
    "Hash slots that another node took over from this one unasked.",
);
const APPEND_SECONDS: Family = Family::summary(
    "uproar_cluster_append_seconds",
    "From an append to its acknowledgement by a quorum.",
);
const APPENDS: Family = Family::counter(
    "uproar_cluster_appends_total",
    "Records appended by this node.",
);
const ENTRIES: Family = Family::counter(
    "uproar_cluster_appended_frames_total",
    "Frames in records appended by this node.",
);
const CONFLICTS: Family = Family::counter(
    "uproar_cluster_append_conflicts_total",
    "Appends that were not acknowledged at once.",
);
const ROUNDTRIP: Family = Family::gauge(
    "uproar_cluster_roundtrip_seconds",
    "Of the newest probe: to a home, into the log, and back.",
);
const ISOLATED: Family = Family::gauge(
    "uproar_cluster_isolated_seconds",
    "Since the newest probe came back, once that is longer than 5 s; 0: messages go through the cluster.",
);
const LAG: Family = Family::gauge(
    "uproar_cluster_apply_lag_seconds",
    "From the time stamp of the newest record of the brokers to its reading here, clocks compared.",
);
const GAPS: Family = Family::counter(
    "uproar_cluster_gaps_total",
    "Gaps in the published records: read from the log, or older than it.",
);
const REPEATED: Family = Family::counter(
    "uproar_cluster_repeated_records_total",
    "Records that came again, and were dropped.",
);
const KEPT: Family = Family::gauge(
    "uproar_cluster_requests_kept_bytes",
    "Requests of this node without an outcome.",
);
const AUTHORED: Family = Family::gauge(
    "uproar_cluster_authored_bytes",
    "Frames of this home that wait for the log.",
);
const RESENT: Family = Family::counter(
    "uproar_cluster_requests_resent_total",
    "Requests that were sent to a home again.",
);
const UNKNOWN: Family = Family::counter(
    "uproar_cluster_requests_unknown_total",
    "Requests whose outcome was not known in time.",
);
const OVER_BOUND: Family = Family::counter(
    "uproar_cluster_requests_refused_total",
    "Requests refused because too many wait for their outcome.",
);
const DRAWS: Family = Family::counter(
    "uproar_cluster_budget_draws_total",
    "Draws from the account's budgets, which the home of hash slot 0 keeps.",
);
const ALONE: Family = Family::counter(
    "uproar_cluster_budget_alone_total",
    "Requests and calls granted without that home, from this node's part of the rates.",
);
const UNREADABLE: Family = Family::counter(
    "uproar_cluster_unreadable_total",
    "Records and messages that this version cannot read.",
);
const REGRESSIONS: Family = Family::counter(
    "uproar_cluster_log_regressions_total",
    "Logs that lost records which brokers had acknowledged, or that were made anew.",
);
const TOKENS: Family = Family::counter(
    "uproar_cluster_token_uses_total",
    "Uses of tokens that the cluster was asked about.",
);
const TOKENS_WAITING: Family = Family::gauge(
    "uproar_cluster_token_uses_waiting",
    "Uses of tokens without an answer yet.",
);
const RECONNECTS: Family = Family::counter(
    "uproar_cluster_reconnects_total",
    "Connections to brokers that were made anew.",
);
const SLOW: Family = Family::counter(
    "uproar_cluster_slow_consumer_total",
    "Times that this node was too slow for its brokers, and read from the log.",
);
const REVISION: Family = Family::gauge(
    "uproar_cluster_registry_revision",
    "Newest change of the registry that this node has.",
);
const SKEW: Family = Family::gauge(
    "uproar_cluster_clock_skew_seconds",
    "How far this machine's clock is ahead of the brokers'.",
);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000_000;

    /// Goal: a machine's wrong clock makes its own node unready alone, and a broker's none, whichever streams it leads. Method:
    /// what each node sees of the brokers' stamps and of the other nodes.
    #[test]
    fn one_wrong_clock_is_told_from_the_others() {
        for (brokers, others, is_fine) in [
            (0, &[0, 0][..], true),
            // This machine's is wrong, or another node's.
            (HOUR, &[-HOUR, -HOUR], false),
            (0, &[HOUR, 0], true),
            (0, &[HOUR], true),
            (HOUR, &[-HOUR], false),
            // Brokers' are: no other clock speaks for a node alone.
            (HOUR, &[1_000_000, -1_000_000], true),
            (-HOUR, &[0, HOUR], true),
            (HOUR, &[], false),
            // Two of five are no majority.
            (HOUR, &[0, HOUR, HOUR, HOUR], false),
        ] {
            let state = State {
                skew_nanos: brokers,
                agrees_with_nodes: is_majority_near(others.iter().copied()),
                ..State::default()
            };
            assert_eq!(state.is_clock_near(), is_fine, "{brokers} {others:?}");
        }
    }
}
