//! A model of JetStream, as far as the log of slots needs it.
//!
//! What it allows, and `tests/clients/python/test_cluster_broker_model.py` sees whether real brokers keep to it:
//!
//! 1. A record is committed only if its condition is the last sequence stored for its subject; 0 if none is stored,
//!    also because all have aged out. Sequences of a stream only rise.
//! 2. A refused append is never committed. A refusal says nothing about the log: it also comes while a proposal of
//!    which nobody knows is in process.
//! 3. An append without an answer is committed once or never, perhaps much later, as long as its condition holds.
//! 4. An ack is the truth: its record stays, at that sequence, until it ages out.
//! 5. A read returns stored records behind a sequence, in order and without a gap, of a log that was the log a moment ago:
//!    a leader that was deposed does not know the newest.
//! 6. What is republished is committed, with its sequence and the one stored before it. A copy may be missing, late, or
//!    come twice.

use std::time::Duration;

use bytes::Bytes;
use uproar_proto::base::clock::Tick;

use crate::simulation::dice::Dice;

/// Streams; slot `s` is a subject of stream `s % STREAMS`.
pub(super) const STREAMS: usize = 8;

/// One committed record.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) sequence: u64,
    /// The condition under which it was taken: the last sequence that was stored for the subject.
    pub(super) condition: u64,
    pub(super) payload: Bytes,
    at: Tick,
}

/// An append that a leader took and that no quorum has yet.
#[derive(Debug)]
struct Proposal {
    id: u64,
    condition: u64,
    payload: Bytes,
    /// It ends with its leader.
    lost: bool,
}

/// The log of one slot.
#[derive(Debug, Default)]
struct Subject {
    /// Everything that was ever committed.
    history: Vec<Stored>,
    /// How many of them are no longer stored.
    gone: usize,
    proposal: Option<Proposal>,
}

/// Why a stream commits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    /// It has no leader.
    NoLeader,
    /// Its leader has no quorum.
    NoQuorum,
}

#[derive(Debug, Default)]
struct Stream {
    last: u64,
    /// The oldest sequence that may be stored.
    first: u64,
    outage: Option<(Outage, Tick)>,
}

/// What a leader makes of an append.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nobody answers.
    Unheard,
    /// The condition does not hold, or a proposal is in process.
    Refused,
    /// It is proposed; `commit` tells its end.
    Proposed(u64),
}

/// How a proposal goes on.
#[derive(Debug)]
pub(super) enum Commit {
    /// It is in the log.
    Done(Stored),
    /// Not before then.
    Later(Tick),
    /// Its leader has ended.
    Never,
}

/// The answer to a read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) records: Vec<(u64, Bytes)>,
    /// Whether there are no more.
    pub(super) is_complete: bool,
    /// The newest; 0: none is stored.
    pub(super) last: u64,
}

/// The brokers, as one machine.
pub(super) struct Broker {
    streams: [Stream; STREAMS],
    subjects: Vec<Subject>,
    proposals: u64,
}

impl Broker {
    /// Makes brokers with empty logs.
    pub(super) fn new(slots: usize) -> Self {
        Self {
            streams: std::array::from_fn(|_| Stream::default()),
            subjects: (0..slots).map(|_| Subject::default()).collect(),
            proposals: 0,
        }
    }

    fn outage(&self, stream: usize, now: Tick) -> Option<(Outage, Tick)> {
        self.streams[stream]
            .outage
            .filter(|(_, until)| now < *until)
    }

    /// An append reaches its leader.
    pub(super) fn arrive(
        &mut self,
        slot: usize,
        expected: u64,
        payload: Bytes,
        (now, dice): (Tick, &mut Dice),
    ) -> Arrival {
        let outage = self.outage(slot % STREAMS, now);
        let stalls = matches!(outage, Some((Outage::NoQuorum, _)));
        if outage.is_some() && !stalls {
            return Arrival::Unheard;
        }
        let subject = &mut self.subjects[slot];
        if subject.proposal.is_some() || subject.last() != expected {
            return Arrival::Refused;
        }
        self.proposals += 1;
        subject.proposal = Some(Proposal {
            id: self.proposals,
            condition: expected,
            payload,
            lost: stalls && dice.below(2) == 0,
        });
        Arrival::Proposed(self.proposals)
    }

    /// Commits a proposal, unless its stream cannot.
    pub(super) fn commit(&mut self, slot: usize, id: u64, now: Tick) -> Commit {
        if let Some((_, until)) = self.outage(slot % STREAMS, now) {
            return Commit::Later(until);
        }
        let subject = &mut self.subjects[slot];
        let proposal = subject.proposal.take_if(|proposal| proposal.id == id);
        let proposal = proposal.expect("one proposal at a time, and each ends here");
        if proposal.lost {
            return Commit::Never;
        }
        let stream = &mut self.streams[slot % STREAMS];
        stream.last += 1;
        let stored = Stored {
            sequence: stream.last,
            condition: proposal.condition,
            payload: proposal.payload,
            at: now,
        };
        subject.history.push(stored.clone());
        Commit::Done(stored)
    }

    /// Reads records behind `after`, or the newest alone; at most `most` of them, the newest `hidden` left out. `None`:
    /// nobody answers.
    pub(super) fn read(
        &self,
        slot: usize,
        after: Option<u64>,
        (most, hidden): (usize, usize),
        now: Tick,
    ) -> Option<Read> {
        if let Some((Outage::NoLeader, _)) = self.outage(slot % STREAMS, now) {
            return None;
        }
        let subject = &self.subjects[slot];
        let stored = &subject.history[subject.gone..];
        let stored = &stored[..stored.len().saturating_sub(hidden)];
        let start = match after {
            Some(after) => stored.partition_point(|record| record.sequence <= after),
            None => stored.len().saturating_sub(1),
        };
        let found = stored[start..].iter().take(most);
        Some(Read {
            records: found
                .map(|record| (record.sequence, record.payload.clone()))
                .collect(),
            is_complete: stored.len() - start <= most,
            last: stored.last().map_or(0, |record| record.sequence),
        })
    }

    /// A stream commits nothing until then. Each proposal ends with the leader or outlives it.
    pub(super) fn fail(&mut self, stream: usize, outage: Outage, until: Tick, dice: &mut Dice) {
        self.streams[stream].outage = Some((outage, until));
        for subject in self.subjects.iter_mut().skip(stream).step_by(STREAMS) {
            if let Some(proposal) = &mut subject.proposal {
                proposal.lost |= dice.below(2) == 0;
            }
        }
    }

    /// All outages end.
    pub(super) fn heal(&mut self, now: Tick) {
        for stream in &mut self.streams {
            stream.outage = stream.outage.map(|(why, until)| (why, until.min(now)));
        }
    }

    /// Forgets what is older than `age` in every stream.
    pub(super) fn age_out(&mut self, age: Duration, now: Tick) {
        for stream in 0..STREAMS {
            self.forget(stream, |record| now.since(record.at) > age);
        }
    }

    /// Forgets the oldest records of a stream, `share` of 8 parts.
    pub(super) fn forget_oldest(&mut self, stream: usize, share: u64) {
        let Stream { first, last, .. } = self.streams[stream];
        let until = first + (last - first.min(last)) * share / 8;
        self.forget(stream, |record| record.sequence < until);
    }

    /// Forgets all records of a stream.
    pub(super) fn empty(&mut self, stream: usize) {
        self.forget(stream, |_| true);
    }

    fn forget(&mut self, stream: usize, is_old: impl Fn(&Stored) -> bool) {
        let mut first = self.streams[stream].last + 1;
        for subject in self.subjects.iter_mut().skip(stream).step_by(STREAMS) {
            let stored = &subject.history[subject.gone..];
            subject.gone += stored.partition_point(&is_old);
            if let Some(oldest) = subject.history.get(subject.gone) {
                first = first.min(oldest.sequence);
            }
        }
        let known = &mut self.streams[stream].first;
        *known = first.max(*known);
    }

    /// The last stored sequence of a slot.
    pub(super) fn last(&self, slot: usize) -> u64 {
        self.subjects[slot].last()
    }

    /// The newest record of a slot that is not stored any more; 0: all are.
    pub(super) fn newest_gone(&self, slot: usize) -> u64 {
        let subject = &self.subjects[slot];
        let gone = subject.history[..subject.gone].last();
        gone.map_or(0, |record| record.sequence)
    }

    /// Loses the newest record of a slot, as no broker may.
    pub(super) fn lose_newest(&mut self, slot: usize) {
        self.subjects[slot].history.pop();
    }

    /// Everything that was ever committed for a slot, in its order.
    pub(super) fn history(&self, slot: usize) -> &[Stored] {
        &self.subjects[slot].history
    }

    /// Whether a record that was committed is still stored.
    pub(super) fn is_stored(&self, slot: usize, sequence: u64) -> bool {
        let subject = &self.subjects[slot];
        let stored = &subject.history[subject.gone..];
        stored
            .first()
            .is_some_and(|oldest| oldest.sequence <= sequence)
    }
}

impl Subject {
    /// The last stored sequence.
    fn last(&self) -> u64 {
        let stored = &self.history[self.gone..];
        stored.last().map_or(0, |record| record.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick::from_nanos(1_000_000_000);

    fn append(broker: &mut Broker, expected: u64) -> Arrival {
        broker.arrive(3, expected, Bytes::new(), (NOW, &mut Dice::seed(1)))
    }

    fn commit(broker: &mut Broker, arrival: Arrival, now: Tick) -> Option<u64> {
        let Arrival::Proposed(id) = arrival else {
            panic!("{arrival:?}")
        };
        match broker.commit(3, id, now) {
            Commit::Done(stored) => Some(stored.sequence),
            Commit::Later(until) => panic!("not before {until:?}"),
            Commit::Never => None,
        }
    }

    /// Goal: a condition holds once. Method: two appends with one condition, beside each other and in order.
    #[test]
    fn one_append_for_each_condition() {
        let mut broker = Broker::new(8);
        let first = append(&mut broker, 0);
        assert_eq!(
            append(&mut broker, 0),
            Arrival::Refused,
            "one is in process"
        );
        assert_eq!(commit(&mut broker, first, NOW), Some(1));
        assert_eq!(append(&mut broker, 0), Arrival::Refused);
        let second = append(&mut broker, 1);
        assert_eq!(commit(&mut broker, second, NOW), Some(2));
        let read = broker.read(3, Some(1), (9, 0), NOW).unwrap();
        assert_eq!((read.records.len(), read.is_complete), (1, true));
        assert_eq!(broker.history(3)[1].condition, 1);
    }

    /// Goal: without stored records the condition is 0, and readers are told. Method: a stream is emptied.
    #[test]
    fn an_emptied_log_begins_anew() {
        let mut broker = Broker::new(8);
        let first = append(&mut broker, 0);
        commit(&mut broker, first, NOW);
        broker.empty(3);
        assert!(!broker.is_stored(3, 1));
        assert_eq!(append(&mut broker, 1), Arrival::Refused);
        let again = append(&mut broker, 0);
        assert_eq!(commit(&mut broker, again, NOW), Some(2));
        assert_eq!(broker.history(3)[1].condition, 0);
        let read = broker.read(3, Some(0), (9, 0), NOW).unwrap();
        assert_eq!((read.records[0].0, read.last), (2, 2));
    }

    /// Goal: a leader without quorum refuses while nothing changes, and what it took is there later or never.
    #[test]
    fn a_leader_without_quorum_refuses_for_nothing() {
        let mut ends = [0, 0];
        for seed in 0..32 {
            let (mut broker, mut dice) = (Broker::new(8), Dice::seed(seed));
            let until = NOW.after(Duration::from_secs(5));
            broker.fail(3, Outage::NoQuorum, until, &mut dice);
            let taken = broker.arrive(3, 0, Bytes::new(), (NOW, &mut dice));
            assert_eq!(append(&mut broker, 0), Arrival::Refused);
            assert!(broker.history(3).is_empty());
            let end = commit(&mut broker, taken, until);
            ends[usize::from(end.is_some())] += 1;
        }
        assert!(ends[0] > 4 && ends[1] > 4, "{ends:?}");
    }
}
