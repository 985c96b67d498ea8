//! One log, read in order: what comes twice is dropped, what is missing is read from the stream's leader.
//!
//! Owns: the position, records that came before those in front of them, and whether a read is wanted.
//! Never: what records mean.

use std::collections::BTreeMap;

use super::Sequence;
use super::engine::FetchFrom;
use super::record::{Content, Record};
use crate::base::clock::Tick;
use crate::base::limits::{
    CLUSTER_HELD_BYTES_MAX, CLUSTER_QUIET, CLUSTER_RETRY, CLUSTER_WENT_BACK,
};

use std::time::Duration;

/// What to do with a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one: it counts.
    Next(Record),
    /// It shows that the log went back: it counts, and what lies between is lost.
    Back(Record),
    /// It is kept until those before it are read.
    Later,
    /// One with its sequence, or a higher one, was read.
    Old(Record),
}

/// An unanswered read counts as failed after this: the program around the engine answers long before.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Reads that the leader answers without what is known to be there, until that is taken for an error.
const TRIES_MAX: u8 = 20;

/// A log's reader.
#[derive(Debug)]
pub(super) struct Reader {
    // Whether the log's end was found. Before, nothing counts.
    is_started: bool,
    // The newest record that counted; 0: none.
    read: Sequence,
    // The newest record that is known to exist.
    seen: Sequence,
    // What follows a gap, with the bytes that it takes.
    held: BTreeMap<Sequence, (Record, usize)>,
    // Invariant: the sum of those bytes.
    held_bytes: usize,
    fetch: Fetch,
    // When something was read last, or the leader said that there is nothing.
    quiet_since: Tick,
    // Reads since the last progress.
    tries: u8,
    // The log's end if the leader says that it is before `read`, and since when each read was answered so.
    end: Option<(Sequence, Tick)>,
    // The `Takeover` by which the log was last found to have gone back.
    back_at: Sequence,
    // The newest record that was read when the log was last found to have gone back: what was lost up to it is counted.
    told: Sequence,
    // Where the log ended when it was found to have gone back, until its end is read again.
    went_back_to: Option<Sequence>,
}

/// The state of reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fetch {
    Idle,
    /// One is wanted at this time.
    Wanted(Tick),
    Pending(FetchFrom, Tick),
}

impl Reader {
    /// Makes a reader that first reads the log's end.
    pub(super) fn new(now: Tick) -> Self {
        Self {
            is_started: false,
            read: Sequence::default(),
            seen: Sequence::default(),
            held: BTreeMap::new(),
            held_bytes: 0,
            fetch: Fetch::Wanted(now),
            quiet_since: now,
            tries: 0,
            end: None,
            back_at: Sequence::default(),
            told: Sequence::default(),
            went_back_to: None,
        }
    }

    /// Whether the log's end was found.
    pub(super) fn is_started(&self) -> bool {
        self.is_started
    }

    /// Wants no read by itself, until something shows that one is needed.
    pub(super) fn rest(&mut self) {
        self.fetch = Fetch::Idle;
    }

    /// The newest record that counted.
    pub(super) fn read(&self) -> Sequence {
        self.read
    }

    /// When the newest record was read, or the log was last found to have no newer one: no home before has appended since.
    pub(super) fn quiet_since(&self) -> Tick {
        self.quiet_since
    }

    /// The condition of an append; `None` while records are missing, so that it could not hold.
    pub(super) fn condition(&self) -> Option<Sequence> {
        let is_at_end = self.is_started && self.seen <= self.read;
        is_at_end.then(|| self.end.map_or(self.read, |(end, _)| end))
    }

    /// Judges a record. One that waits is put aside, and a read is wanted.
    pub(super) fn arrive(
        &mut self,
        sequence: Sequence,
        record: Record,
        bytes: usize,
        now: Tick,
    ) -> Arrival {
        if !self.is_started {
            self.seen = self.seen.max(sequence);
            return Arrival::Later;
        }
        if sequence <= self.read {
            if let Content::Takeover { known, .. } = record.content
                && known >= sequence
                && sequence != self.back_at
            {
                self.back_at = sequence;
                return Arrival::Back(record);
            }
            return Arrival::Old(record);
        }
        if record.previous == self.read {
            return Arrival::Next(record);
        }
        self.hold(sequence, record, bytes);
        self.expect(sequence, now);
        Arrival::Later
    }

    /// Whether records that nobody can read any more were between what was read and this one, which seems to follow it: its
    /// writer had read some that the log does not have, and whose loss was not counted here.
    pub(super) fn lacks(&self, record: &Record) -> bool {
        matches!(record.content, Content::Takeover { known, .. }
            if record.previous == self.read && known > self.read.max(self.told))
    }

    /// Learns that a record exists.
    pub(super) fn expect(&mut self, sequence: Sequence, now: Tick) {
        self.seen = self.seen.max(sequence);
        if self.is_started && self.seen > self.read {
            self.want(now);
        }
    }

    /// A record counts: it is the newest one read.
    pub(super) fn advance(&mut self, sequence: Sequence, now: Tick) {
        if sequence < self.read {
            self.seen = sequence;
            self.drop_held();
        }
        self.is_started = true;
        self.quiet_since = now;
        self.read = sequence;
        self.seen = self.seen.max(sequence);
        self.end = None;
        self.tries = 0;
    }

    /// Takes the next of the records that waited.
    pub(super) fn release(&mut self) -> Option<(Sequence, Record)> {
        while let Some(entry) = self.held.first_entry() {
            let is_new = *entry.key() > self.read;
            let is_next = is_new && entry.get().0.previous == self.read;
            if is_new && !is_next {
                break;
            }
            let (sequence, (record, bytes)) = entry.remove_entry();
            self.held_bytes -= bytes;
            if is_next {
                return Some((sequence, record));
            }
        }
        None
    }

    fn hold(&mut self, sequence: Sequence, record: Record, bytes: usize) {
        if self.held_bytes + bytes > CLUSTER_HELD_BYTES_MAX {
            // The read that is coming has them too.
            self.drop_held();
        }
        if let Some((_, twice)) = self.held.insert(sequence, (record, bytes)) {
            self.held_bytes -= twice;
        }
        self.held_bytes += bytes;
    }

    fn drop_held(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }

    /// Wants a read at this time, or when one was wanted before that.
    pub(super) fn want(&mut self, at: Tick) {
        self.fetch = match self.fetch {
            Fetch::Idle => Fetch::Wanted(at),
            Fetch::Wanted(before) => Fetch::Wanted(before.min(at)),
            pending @ Fetch::Pending(..) => pending,
        };
    }

    /// When [`Reader::fetch`] has something to do.
    pub(super) fn due(&self) -> Tick {
        match self.fetch {
            Fetch::Idle => self.quiet_since.after(CLUSTER_QUIET),
            Fetch::Wanted(at) => at,
            Fetch::Pending(_, since) => since.after(ANSWER_MAX),
        }
    }

    /// Begins a read, if one is wanted now.
    pub(super) fn fetch(&mut self, now: Tick) -> Option<FetchFrom> {
        if self.due() > now {
            return None;
        }
        let from = if self.is_started {
            FetchFrom::After(self.read)
        } else {
            FetchFrom::Last
        };
        self.fetch = Fetch::Pending(from, now);
        Some(from)
    }

    /// Whether the answer to this read is awaited; it is not any more.
    pub(super) fn answered(&mut self, from: FetchFrom) -> bool {
        let is_awaited = matches!(self.fetch, Fetch::Pending(pending, _) if pending == from);
        if is_awaited {
            self.fetch = Fetch::Idle;
        }
        is_awaited
    }

    /// A read has no answer: another one is wanted. What the leader would have said is not known, so answers before it and
    /// after it are not one unbroken word that the log is shorter.
    pub(super) fn unanswered(&mut self, now: Tick) {
        if let Some((_, since)) = &mut self.end {
            *since = now;
        }
        self.want(now.after(CLUSTER_RETRY));
    }

    /// The log's end was found. Returns whether reading begins there: if the log went back, and has grown since, it
    /// begins where the log ended then, for nobody here has the records behind that.
    pub(super) fn begin(&mut self, last: Sequence, now: Tick) -> bool {
        let begin = self.went_back_to.take().map_or(last, |end| end.min(last));
        self.advance(begin, now);
        self.expect(last, now);
        begin == last
    }

    /// The log is read to its end, which the leader says is `last`. Returns whether it went back: then the reader begins
    /// anew.
    pub(super) fn at_end(&mut self, last: Sequence, now: Tick) -> bool {
        self.is_started = true;
        self.quiet_since = now;
        if last >= self.read {
            self.end = None;
        } else {
            // A shorter log is not believed at once, for a deposed leader reads so too.
            let since = self.end.map_or(now, |(_, since)| since);
            self.end = Some((last, since));
            if now.since(since) >= CLUSTER_WENT_BACK {
                *self = Self {
                    back_at: self.back_at,
                    told: self.told.max(self.read),
                    went_back_to: Some(last),
                    ..Self::new(now)
                };
                return true;
            }
            self.want(now.after(Duration::from_secs(1)));
        }
        if self.seen > self.read {
            self.tries += 1;
            if self.tries > TRIES_MAX {
                self.seen = self.read;
                self.tries = 0;
            } else {
                self.want(now.after(CLUSTER_RETRY));
            }
        }
        false
    }
}
