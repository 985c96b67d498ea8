//! The one append of a hash slot that is pending, until the log shows what became of it.
//!
//! An attempt may end without an answer, and a refused condition is no verdict either: the record may be in the log
//! by an earlier attempt. So the same record is tried again under the same condition until it is found in the
//! log, or another one is. It cannot be there twice.

use std::time::Duration;

use bytes::Bytes;

use super::Sequence;
use super::record::{Content, Record};
use crate::base::clock::Tick;

/// An attempt without an outcome counts as unanswered after this: the program around the engine answers long before.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Why a node takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The home before is dead, or lost its log.
    Failed,
    /// The home before asked for it.
    Planned,
    /// There was none.
    Vacant,
}

/// Where the append is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// An attempt was made at this time.
    Pending(Tick),
    /// The next attempt is at this time.
    Retry(Tick),
    /// The condition was refused: the log is being read.
    Verify,
}

/// When the first attempt of an append was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    /// Then.
    pub at: Tick,
    /// From then on the home before decides nothing alone any more, if the append is a `Takeover`.
    pub free: Tick,
}

/// A pending append.
#[derive(Debug)]
pub(super) struct PendingAppend {
    /// The record; its `previous` is the condition.
    pub record: Record,
    /// The record, encoded.
    pub payload: Bytes,
    /// Why, if it is a `Takeover`.
    pub cause: Option<Cause>,
    /// Number of its entries.
    pub entries: usize,
    /// Bytes of its entries.
    pub entry_bytes: usize,
    /// Where it is.
    pub state: State,
    /// When it began.
    pub begun: Begun,
    // The attempts that were made, first and newest: all are for this record.
    attempts: (u64, u64),
}

impl PendingAppend {
    /// Makes one whose first attempt is made now. `free`: see [`Begun::free`].
    pub(super) fn new(
        record: Record,
        cause: Option<Cause>,
        attempt: u64,
        (now, free): (Tick, Tick),
    ) -> Self {
        Self {
            payload: record.encode(),
            entries: record.entries().len(),
            entry_bytes: record
                .entries()
                .iter()
                .map(super::record::Entry::bytes)
                .sum(),
            record,
            cause,
            state: State::Pending(now),
            begun: Begun { at: now, free },
            attempts: (attempt, attempt),
        }
    }

    /// The condition.
    pub(super) fn expected(&self) -> Sequence {
        self.record.previous
    }

    /// Takes the record out, entries and all; its head stays, by which it is known.
    pub(super) fn take_record(&mut self) -> Record {
        let entries = match &mut self.record.content {
            Content::Batch(batch) => std::mem::take(&mut batch.entries),
            Content::Takeover { .. } | Content::Release { .. } => Vec::new(),
        };
        let mut record = self.record.clone();
        if let Content::Batch(batch) = &mut record.content {
            batch.entries = entries;
        }
        record
    }

    /// Whether an attempt was for this record.
    pub(super) fn covers(&self, attempt: u64) -> bool {
        let (first, newest) = self.attempts;
        (first..=newest).contains(&attempt)
    }

    /// Whether an attempt is the newest one.
    pub(super) fn is_newest(&self, attempt: u64) -> bool {
        self.attempts.1 == attempt
    }

    /// Makes another attempt. Attempts of other records never have numbers between those of one, for
    /// `covers`: the caller counts attempts for each hash slot.
    pub(super) fn again(&mut self, attempt: u64, now: Tick) {
        self.attempts.1 = attempt;
        self.state = State::Pending(now);
    }

    /// When another attempt is due; `None` while the log is being read.
    pub(super) fn due(&self) -> Option<Tick> {
        match self.state {
            State::Pending(since) => Some(since.after(ANSWER_MAX)),
            State::Retry(at) => Some(at),
            State::Verify => None,
        }
    }
}
