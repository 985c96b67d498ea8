//! Log lines that name a cause: brokers that go and come, streams without a quorum, hash slots that move.
//!
//! What happens to many hash slots at once is one line. None of this can be caused by a stranger.

use std::time::{Duration, Instant};

use crate::cluster::calls::CallFault;
use crate::cluster::names::part_of;
use uproar_proto::cluster::engine::{Counts, SkipCause};
use uproar_proto::cluster::{Epoch, HashSlot, Sequence};

/// What is to be said.
#[derive(Debug, Default)]
pub(super) struct Lines {
    fenced: Vec<u8>,
    // Streams whose appends fail, by their bit, and why.
    failing: u8,
    cause: String,
    // Whether that was said, and when.
    said: Option<Instant>,
    counts: Counts,
    foreign: u64,
    // When it was last said that a connection cannot be made.
    unconnected: Option<Instant>,
    // When a complaint of a broker was last said.
    complaint: Option<Instant>,
    // Whether it is; `None` before it ever was.
    is_heard: Option<bool>,
}

/// How often a trouble that lasts is said again.
const AGAIN: Duration = Duration::from_secs(10);

impl Lines {
    pub(super) fn append_failed(&mut self, slot: HashSlot, fault: &CallFault) {
        self.failing |= 1 << part_of(slot);
        self.cause = fault.to_string();
    }

    pub(super) fn read_failed(&mut self, slot: HashSlot, fault: &CallFault) {
        self.append_failed(slot, fault);
    }

    pub(super) fn token_use_failed(&mut self, fault: &CallFault) {
        self.cause = fault.to_string();
    }

    /// A connection could not be made, and is tried again.
    pub(super) fn unconnected(&mut self, connection: &str, cause: &str, now: Instant) {
        let is_due = |said| now.duration_since(said) >= AGAIN;
        if self.unconnected.is_none_or(is_due) {
            self.unconnected = Some(now);
            tracing::warn!(
                connection,
                cause,
                "cluster: a broker cannot be reached; all are tried in turn"
            );
        }
    }

    /// A broker complains.
    pub(super) fn complaint(&mut self, connection: &str, cause: &str, now: Instant) {
        let is_due = |said| now.duration_since(said) >= AGAIN;
        if self.complaint.is_none_or(is_due) {
            self.complaint = Some(now);
            tracing::warn!(
                connection,
                cause,
                "cluster: a broker complains; of a slow consumer: this node does not keep up; of permissions: docs/cluster.md has those that a node needs"
            );
        }
    }

    pub(super) fn fenced(&mut self, slot: HashSlot, _epoch: Epoch) {
        self.fenced.push(slot.number());
    }

    pub(super) fn foreign(&mut self, subject: &str) {
        self.foreign += 1;
        tracing::debug!(subject, "cluster: a message that is no record");
    }

    #[expect(clippy::unused_self, reason = "said where the others are")]
    pub(super) fn skipped(
        &self,
        slot: HashSlot,
        after: Sequence,
        upto: Sequence,
        cause: SkipCause,
    ) {
        let (after, upto) = (after.0, upto.0);
        match cause {
            SkipCause::Aged => {
                tracing::error!(%slot, after, upto, "cluster: messages of a hash slot are skipped: they were older than the log keeps them when this node asked for them");
            }
            SkipCause::WentBack => {
                tracing::error!(%slot, after, upto, "cluster: the log of a hash slot went back: brokers lost what they had acknowledged, or the streams were made anew; this node reads on from the log's end");
            }
            SkipCause::Unreadable => {
                tracing::error!(%slot, after, upto, "cluster: a record of a hash slot cannot be read: a node of another version wrote it, or somebody else");
            }
        }
    }

    /// Says what has gathered. `counts` are the engine's, `is_heard` whether the node hears its own signs of life.
    pub(super) fn tell(&mut self, counts: Counts, is_heard: bool, now: Instant) {
        self.tell_moves(counts);
        if self.failing != 0 {
            if self
                .said
                .is_none_or(|said| now.duration_since(said) >= AGAIN)
            {
                self.said = Some(now);
                let parts = (0..8).filter(|part| self.failing & 1 << part != 0);
                let streams: Vec<_> = parts.map(|part: u8| part.to_string()).collect();
                let streams = streams.join(",");
                let cause = &self.cause;
                tracing::warn!(
                    streams,
                    cause,
                    "cluster: log streams do not answer, and messages of their rooms wait; brokers elect a leader or have \
                     no quorum, unless the cause says otherwise"
                );
            }
            self.failing = 0;
        } else if self
            .said
            .is_some_and(|said| now.duration_since(said) >= Duration::from_secs(2))
        {
            self.said = None;
            tracing::info!("cluster: all log streams answer again");
        }
        if self.is_heard != Some(is_heard) && (is_heard || self.is_heard.is_some()) {
            self.is_heard = Some(is_heard);
            if is_heard {
                tracing::info!("cluster: this node is heard");
            } else {
                tracing::warn!(
                    "cluster: this node is cut off: it does not hear its own signs of life; others take over its hash \
                     slots after 3 s, and its viewers wait"
                );
            }
        }
    }

    fn tell_moves(&mut self, counts: Counts) {
        let before = std::mem::replace(&mut self.counts, counts);
        let causes = [
            (
                "their home died or fell silent",
                counts.takeovers_failed_home - before.takeovers_failed_home,
            ),
            (
                "their home handed them over",
                counts.takeovers_planned - before.takeovers_planned,
            ),
            (
                "they had no home",
                counts.takeovers_vacant - before.takeovers_vacant,
            ),
        ];
        for (cause, slots) in causes {
            if slots > 0 {
                tracing::info!(slots, cause, "cluster: hash slots taken over");
            }
        }
        if !self.fenced.is_empty() {
            let slots = self.fenced.len();
            self.fenced.clear();
            let unasked = counts.fenced - before.fenced;
            tracing::info!(slots, unasked, "cluster: hash slots have another home now");
        }
    }
}
