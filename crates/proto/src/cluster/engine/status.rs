//! What operators see of the engine.

use std::time::Duration;

use super::Engine;
use crate::base::clock::Tick;
use crate::cluster::here::Here;
use crate::cluster::{Epoch, Incarnation, PurseCounts, Sequence};

/// What operators see.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Each hash slot, by number.
    pub slots: Vec<SlotStatus>,
    /// Each node that was heard, this one included.
    pub peers: Vec<PeerStatus>,
    /// Bytes of requests kept.
    pub kept_bytes: usize,
    /// Bytes of frames that wait for the log.
    pub authored_bytes: usize,
    /// Round trip of the newest probe that came back, and when it did.
    pub probe: Option<(Duration, Tick)>,
    /// Whether this node hears its own signs of life: brokers are reached.
    pub is_heard: bool,
    /// Sums since the start.
    pub counts: Counts,
    /// Sums since the start, of the account's rates.
    pub purse: PurseCounts,
}

/// One hash slot, as this node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotStatus {
    /// Its home; `None`: it has none, or the log was not read yet.
    pub home: Option<Incarnation>,
    /// The home's epoch.
    pub epoch: Epoch,
    /// The newest record read.
    pub sequence: Sequence,
    /// Whether an operator moved it to where it is; known to its home alone.
    pub is_pinned: bool,
    /// Requests of this node that wait for their outcome.
    pub kept: usize,
}

/// One node, as this one hears it.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// What it said last.
    pub here: Here,
    /// When.
    pub heard: Tick,
    /// Whether it is held to be alive.
    pub is_live: bool,
    /// Its wall clock against ours when it was heard, in nanoseconds, its way here included: above 0 if it is ahead.
    pub skew_nanos: i64,
}

/// Sums since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Take-overs by this node of a home that died or fell silent.
    pub takeovers_failed_home: u64,
    /// Take-overs by this node that the home before it had asked for.
    pub takeovers_planned: u64,
    /// Take-overs by this node of logs without a home.
    pub takeovers_vacant: u64,
    /// Times that this node was home and another took over unasked.
    pub fenced: u64,
    /// Records appended.
    pub appends: u64,
    /// Entries in them.
    pub appended_entries: u64,
    /// Refused conditions after which the record was found in the log.
    pub conflicts_own: u64,
    /// Refused conditions after which another's record was found.
    pub conflicts_foreign: u64,
    /// Refused conditions although nothing had changed.
    pub conflicts_nothing: u64,
    /// Appends without an answer.
    pub appends_unknown: u64,
    /// Gaps that were read from the log.
    pub gaps_filled: u64,
    /// Gaps that were skipped.
    pub gaps_skipped: u64,
    /// Records that came again.
    pub duplicates: u64,
    /// Logs that went back.
    pub regressions: u64,
    /// Requests sent again.
    pub requests_resent: u64,
    /// Requests that ended as unknown.
    pub requests_unknown: u64,
    /// Requests refused because too many are kept.
    pub requests_over_bound: u64,
    /// Messages, records and signs of life that could not be read.
    pub unreadable: u64,
}

impl Engine {
    /// Returns the facts for operators. Costs an allocation for each list: once a second, not each turn.
    pub fn status(&self) -> Status {
        let now = self.now.tick;
        let slots = self.slots.iter().map(|slot| SlotStatus {
            home: slot.home.map(|(home, _)| home),
            epoch: slot.home.map_or(Epoch::default(), |(_, epoch)| epoch),
            sequence: slot.reader.read(),
            is_pinned: (slot.author.as_ref()).is_some_and(|author| author.is_pinned),
            kept: slot.kept.len(),
        });
        let peers = self.peers.all().iter().map(|peer| PeerStatus {
            here: peer.here.clone(),
            heard: peer.heard,
            is_live: self.peers.is_live(peer.here.incarnation, now),
            skew_nanos: peer.skew_nanos,
        });
        Status {
            slots: slots.collect(),
            peers: peers.collect(),
            kept_bytes: self.kept_bytes,
            authored_bytes: self.authored_bytes,
            probe: self.probe,
            is_heard: self.peers.heard_since(now).is_some(),
            counts: self.counts,
            purse: self.purse.counts,
        }
    }
}
