//! A home's part of one hash slot: takes requests in order, collects frames, and appends one record at a time.
//!
//! Owns: what it has of each origin, the frames that wait for the log, when the next record is due.
//! Never: how rooms decide, how records are appended.

use std::collections::VecDeque;
use std::time::Duration;

use super::message::Ask;
use super::record::Entry;
use super::{Epoch, Incarnation, Number};
use crate::base::clock::Tick;
use crate::base::limits::{
    CLUSTER_BATCH_BYTES_MAX, CLUSTER_PULSE, CLUSTER_PULSE_SOON, CLUSTER_REFUSALS_MAX,
};
use crate::chat::ErrorCode;

/// A refusal that its origin may not have got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The request.
    pub number: Number,
    /// Why.
    pub code: ErrorCode,
    /// The text for the client.
    pub text: Box<str>,
}

/// What a home has of one origin.
#[derive(Debug)]
struct Origin {
    incarnation: Incarnation,
    // The number wanted next.
    next: Number,
    // Refusals that the origin may not have got, oldest first.
    refusals: VecDeque<Refusal>,
}

/// Whom a home hands its hash slot to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Successor {
    /// The next home.
    pub to: Incarnation,
    /// Whether an operator wants it so.
    pub is_pinned: bool,
}

/// What is to be appended next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextRecord {
    /// These frames.
    Batch(Vec<Entry>),
    /// Nothing, to show that nothing follows.
    Pulse,
    /// The end of this epoch.
    Release(Successor),
}

/// What came of a message with requests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// The requests that are new, in order.
    pub asks: Vec<(Number, Ask)>,
    /// Whether the origin should hear what this home has: something came again, or is missing.
    pub is_answer_wanted: bool,
}

/// A home in one epoch.
#[derive(Debug)]
pub(super) struct Author {
    epoch: Epoch,
    // Few: a node each.
    origins: Vec<Origin>,
    pending: VecDeque<Entry>,
    // Invariant: the sum of their bytes.
    pending_bytes: usize,
    // When the pending entries are appended at the latest.
    flush_due: Option<Tick>,
    // When the newest record was handed out, with what becomes due after it.
    appended: Tick,
    pulse_after: Duration,
    /// To whom it goes, once it is decided. No request is taken from then on.
    pub successor: Option<Successor>,
    /// Whether an operator moved it here.
    pub is_pinned: bool,
}

impl Author {
    /// Begins an epoch.
    pub(super) fn new(epoch: Epoch, is_pinned: bool, now: Tick) -> Self {
        Self {
            epoch,
            origins: Vec::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            flush_due: None,
            appended: now,
            pulse_after: CLUSTER_PULSE_SOON,
            successor: None,
            is_pinned,
        }
    }

    /// Its epoch.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Bytes of entries that wait.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    fn origin(&mut self, incarnation: Incarnation) -> &mut Origin {
        let known = (self.origins.iter()).position(|origin| origin.incarnation == incarnation);
        let index = known.unwrap_or_else(|| {
            self.origins.push(Origin {
                incarnation,
                next: Number::FIRST,
                refusals: VecDeque::new(),
            });
            self.origins.len() - 1
        });
        self.origins.get_mut(index).expect("found or just added")
    }

    /// Takes an origin's requests: 1, 2, 3, each once. `oldest` is the first whose outcome the origin does not know.
    pub(super) fn take(
        &mut self,
        from: Incarnation,
        (oldest, first): (Number, Number),
        requests: Vec<Option<Ask>>,
    ) -> Taken {
        let origin = self.origin(from);
        origin.refusals.retain(|refusal| refusal.number >= oldest);
        let mut taken = Taken {
            asks: Vec::with_capacity(requests.len()),
            is_answer_wanted: requests.is_empty() || first != origin.next,
        };
        if first > origin.next {
            return taken;
        }
        let known = usize::try_from(origin.next.0 - first.0).unwrap_or(usize::MAX);
        for request in requests.into_iter().skip(known) {
            let number = origin.next;
            origin.next = Number(number.0 + 1);
            taken.asks.extend(request.map(|ask| (number, ask)));
        }
        taken
    }

    /// The number that it wants of an origin, and the refusals that the origin may not have got.
    pub(super) fn answer(&mut self, to: Incarnation) -> (Number, impl Iterator<Item = Refusal>) {
        let origin = self.origin(to);
        (origin.next, origin.refusals.iter().cloned())
    }

    /// Remembers a refusal, to repeat it.
    pub(super) fn refuse(&mut self, origin: Incarnation, refusal: Refusal) {
        let refusals = &mut self.origin(origin).refusals;
        if refusals.len() >= CLUSTER_REFUSALS_MAX {
            refusals.pop_front();
        }
        refusals.push_back(refusal);
    }

    /// Puts a frame into the order.
    pub(super) fn push(&mut self, entry: Entry, linger: Duration, now: Tick) {
        // Who was silent does not wait: the interval counts from the record before.
        let due = if entry.is_urgent {
            now
        } else {
            now.max(self.appended.after(linger))
        };
        self.flush_due = Some(self.flush_due.map_or(due, |before| before.min(due)));
        self.pending_bytes += entry.bytes();
        self.pending.push_back(entry);
    }

    /// Appends a record now, though there may be nothing to say.
    pub(super) fn want_pulse(&mut self, now: Tick) {
        self.flush_due = Some(self.flush_due.map_or(now, |before| before.min(now)));
    }

    /// When a record is to be appended.
    pub(super) fn due(&self) -> Tick {
        if self.successor.is_some() || self.pending_bytes >= CLUSTER_BATCH_BYTES_MAX {
            return Tick::default();
        }
        let pulse = self.appended.after(self.pulse_after);
        self.flush_due.map_or(pulse, |flush| flush.min(pulse))
    }

    /// Takes what is to be appended now.
    pub(super) fn next_record(&mut self, now: Tick) -> Option<NextRecord> {
        if self.due() > now {
            return None;
        }
        self.appended = now;
        if self.pending.is_empty() {
            self.pulse_after = CLUSTER_PULSE;
            self.flush_due = None;
            return Some(
                self.successor
                    .map_or(NextRecord::Pulse, NextRecord::Release),
            );
        }
        self.pulse_after = CLUSTER_PULSE_SOON;
        let mut bytes = 0;
        let fitting = self.pending.iter().take_while(|entry| {
            let before = bytes;
            bytes += entry.bytes();
            before == 0 || bytes <= CLUSTER_BATCH_BYTES_MAX
        });
        let count = fitting.count();
        let entries: Vec<_> = self.pending.drain(..count).collect();
        self.pending_bytes -= entries.iter().map(Entry::bytes).sum::<usize>();
        // The rest waited long enough.
        self.flush_due = (!self.pending.is_empty()).then_some(now);
        Some(NextRecord::Batch(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::UnixTime;
    use crate::base::id::{FrameId, RoomId};
    use crate::cluster::message::{AskKind, AskTexts};
    use crate::extension::Speaker;

    const LINGER: Duration = Duration::from_millis(5);
    const ORIGIN: Incarnation = Incarnation::new(7);

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    fn author() -> Author {
        Author::new(Epoch(3), false, at(0))
    }

    fn entry(number: u64, is_urgent: bool) -> Entry {
        Entry {
            origin: ORIGIN,
            number: Number(number),
            room: RoomId::from_random(1),
            sent: UnixTime::default(),
            is_urgent,
            eviction: None,
            frame: bytes::Bytes::from_static(b"frame"),
        }
    }

    fn asks(count: usize) -> Vec<Option<Ask>> {
        let ask = Ask {
            room: RoomId::from_random(1),
            id: FrameId::from_random(1),
            kind: AskKind::SendMessage,
            is_from_api: false,
            speaker: Speaker::default(),
            is_exempt: false,
            texts: AskTexts::new(&mut bytes::BytesMut::new(), [""; 5]),
        };
        vec![Some(ask); count]
    }

    fn take(author: &mut Author, first: u64, count: usize) -> (Vec<u64>, bool) {
        let taken = author.take(ORIGIN, (Number(1), Number(first)), asks(count));
        let numbers = taken.asks.into_iter().map(|(number, _)| number.0);
        (numbers.collect(), taken.is_answer_wanted)
    }

    /// Goal: requests are taken once each and in order, whatever comes again or is missing; given-up ones are passed over.
    #[test]
    fn requests_are_taken_once_and_in_order() {
        let mut author = author();
        assert_eq!(take(&mut author, 1, 2), (vec![1, 2], false));
        assert_eq!(take(&mut author, 5, 1), (vec![], true), "3 is missing");
        assert_eq!(take(&mut author, 2, 2), (vec![3], true), "2 came again");
        assert_eq!(take(&mut author, 1, 3), (vec![], true), "all came again");
        assert_eq!(take(&mut author, 4, 0), (vec![], true), "asks what is here");
        let mut requests = asks(1);
        requests.insert(0, None);
        let taken = author.take(ORIGIN, (Number(4), Number(4)), requests);
        assert_eq!(taken.asks.first().map(|(number, _)| number.0), Some(5));
        let other = author.take(Incarnation::new(8), (Number(1), Number(1)), asks(1));
        assert_eq!(other.asks.len(), 1, "numbers are of each origin");
        assert_eq!(author.answer(ORIGIN).0, Number(6));
    }

    /// Goal: a refusal is repeated until its origin has it.
    #[test]
    fn refusals_are_repeated_until_they_arrived() {
        let mut author = author();
        take(&mut author, 1, 3);
        for number in [1, 3] {
            let (code, text) = (ErrorCode::TooManyRequests, "".into());
            let number = Number(number);
            author.refuse(ORIGIN, Refusal { number, code, text });
        }
        assert_eq!(author.answer(ORIGIN).1.count(), 2);
        author.take(ORIGIN, (Number(2), Number(4)), vec![]);
        let left: Vec<_> = author
            .answer(ORIGIN)
            .1
            .map(|refusal| refusal.number.0)
            .collect();
        assert_eq!(left, [3]);
    }

    /// Goal: the first frame after silence does not wait, those that follow are collected, an urgent one takes
    /// all before it along.
    #[test]
    fn frames_are_collected_unless_one_is_urgent() {
        let mut author = author();
        author.push(entry(1, false), LINGER, at(100));
        assert_eq!(author.due(), at(100));
        assert_eq!(
            author.next_record(at(100)),
            Some(NextRecord::Batch(vec![entry(1, false)]))
        );
        author.push(entry(2, false), LINGER, at(101));
        assert_eq!((author.due(), author.next_record(at(104))), (at(105), None));
        author.push(entry(3, true), LINGER, at(104));
        let both = vec![entry(2, false), entry(3, true)];
        assert_eq!(author.next_record(at(104)), Some(NextRecord::Batch(both)));
    }

    /// Goal: a home shows that nothing follows soon after it spoke, then every 15 s.
    #[test]
    fn a_silent_home_pulses() {
        let mut author = author();
        assert_eq!(author.due(), at(1_000), "after its Takeover");
        assert_eq!(author.next_record(at(1_000)), Some(NextRecord::Pulse));
        assert_eq!(author.due(), at(16_000));
        author.push(entry(1, false), LINGER, at(2_000));
        assert!(author.next_record(at(2_000)).is_some());
        assert_eq!(author.due(), at(3_000));
    }

    /// Goal: a record has a bound, and a home that goes appends what it has first.
    #[test]
    fn a_home_that_goes_appends_what_it_has() {
        let mut author = author();
        let mut large = entry(1, false);
        large.frame = vec![0; CLUSTER_BATCH_BYTES_MAX / 2].into();
        for _ in 0..3 {
            author.push(large.clone(), LINGER, at(0));
        }
        let successor = Successor {
            to: ORIGIN,
            is_pinned: true,
        };
        author.successor = Some(successor);
        for _ in 0..3 {
            let record = author.next_record(at(0));
            assert_eq!(record, Some(NextRecord::Batch(vec![large.clone()])));
        }
        assert_eq!(author.pending_bytes(), 0);
        assert_eq!(
            author.next_record(at(0)),
            Some(NextRecord::Release(successor))
        );
    }
}
