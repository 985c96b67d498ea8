//! Appends and reads, from an engine to the brokers and back.

use std::time::Duration;

use bytes::Bytes;
use uproar_proto::cluster::engine::{AppendOutcome, FetchFrom, Fetched, Input};
use uproar_proto::cluster::record::{Content, Record};
use uproar_proto::cluster::{HashSlot, Sequence};

use super::broker::{Arrival, Commit, Stored};
use super::fault::Fault;
use super::flight::{Appending, Asking};
use super::link::Lane;
use super::planted::Planted;
use super::world::{Event, World};

/// A process gives up an append after this time.
const ACK_WAIT: Duration = Duration::from_secs(2);
/// A process repeats a read after this time.
const READ_WAIT: Duration = Duration::from_secs(1);

impl World {
    /// An engine appends.
    pub(super) fn append(
        &mut self,
        node: usize,
        (slot, attempt): (usize, u64),
        expected: u64,
        payload: Bytes,
    ) {
        let now = self.now.tick;
        let life = self.nodes[node].life();
        life.appends.insert((slot, attempt));
        let append = Appending {
            node,
            life: life.id,
            slot,
            attempt,
            expected,
            payload,
        };
        self.later(
            ACK_WAIT,
            Event::Outcome(append.clone(), AppendOutcome::Unknown),
        );
        if self.plants(Planted::DeliveredEarly) {
            self.deliver_early(node, (slot, expected + 1), &append.payload);
        }
        if self.chaos.strikes(Fault::AppendLost) {
            return;
        }
        let delay = Duration::from_micros(50) + self.below(400);
        if self.chaos.strikes(Fault::AppendLate) {
            let late = self.below(8_000_000);
            self.later(ACK_WAIT + late, Event::Arrive(append));
        } else if let Some(at) = self.nodes[node].link.up(now, delay) {
            self.at(at, Event::Arrive(append));
        }
    }

    /// What a home appends is delivered before it is in the log, as no engine may.
    fn deliver_early(&mut self, node: usize, place: (usize, u64), payload: &Bytes) {
        let record = Record::decode(payload).expect("it was just written");
        if let Content::Batch(batch) = record.content {
            self.deliver(node, place, (batch.epoch, true), &batch.entries);
        }
    }

    /// An append comes to the leader of its stream.
    pub(super) fn arrive(&mut self, append: Appending) {
        if self.chaos.strikes(Fault::RefusedForNothing) {
            self.answer(append, AppendOutcome::WrongLast);
            return;
        }
        let expected = if self.plants(Planted::ConditionsIgnored) {
            self.broker.last(append.slot)
        } else {
            append.expected
        };
        let payload = append.payload.clone();
        let now = self.now.tick;
        let dice = &mut self.chaos.dice;
        match self
            .broker
            .arrive(append.slot, expected, payload, (now, dice))
        {
            // Brokers say that nobody listens, or nothing.
            Arrival::Unheard if self.chaos.dice.below(2) == 0 => {
                self.answer(append, AppendOutcome::Unknown);
            }
            Arrival::Unheard => {}
            Arrival::Refused => self.answer(append, AppendOutcome::WrongLast),
            Arrival::Proposed(proposal) => {
                let delay = Duration::from_micros(250) + self.below(2_000);
                self.later(delay, Event::Commit(append, proposal));
            }
        }
    }

    /// A proposal is committed, or not.
    pub(super) fn commit(&mut self, append: Appending, proposal: u64) {
        let stored = match self.broker.commit(append.slot, proposal, self.now.tick) {
            Commit::Done(stored) => stored,
            Commit::Later(until) => {
                let until = until.after(Duration::from_micros(1));
                self.at(until, Event::Commit(append, proposal));
                return;
            }
            Commit::Never => return,
        };
        self.oracle.committed(append.slot, &stored);
        self.republish(append.slot, &stored);
        if self.plants(Planted::RecordForgotten) {
            self.broker.lose_newest(append.slot);
        }
        if self.chaos.strikes(Fault::AckLost) {
            return;
        }
        self.answer(append, AppendOutcome::Ok(Sequence(stored.sequence)));
    }

    /// An answer goes back to the process.
    fn answer(&mut self, append: Appending, outcome: AppendOutcome) {
        let mut delay = Duration::from_micros(50) + self.below(400);
        if self.chaos.strikes(Fault::AckLate) {
            delay += self.below(3_000_000);
        }
        let now = self.now.tick;
        if let Some(at) = self.nodes[append.node].link.down(Lane::Rest, now, delay) {
            self.at(at, Event::Outcome(append, outcome));
        }
    }

    /// A process hears the outcome of an append, unless it has given it up.
    pub(super) fn outcome(&mut self, append: Appending, outcome: AppendOutcome) {
        let Appending {
            node,
            life,
            slot,
            attempt,
            ..
        } = append;
        if !self.nodes[node].is(life) {
            return;
        }
        let appends = &mut self.nodes[node].life().appends;
        if !appends.remove(&(slot, attempt)) {
            return;
        }
        let slot = hash_slot(slot);
        self.feed(
            node,
            Input::Appended {
                slot,
                attempt,
                outcome,
            },
        );
    }

    /// The leader sends a record to all who listen.
    fn republish(&mut self, slot: usize, stored: &Stored) {
        if self.chaos.strikes(Fault::NeverRepublished) {
            return;
        }
        let now = self.now.tick;
        for node in 0..self.nodes.len() {
            let Some(life) = self.nodes[node].life.as_ref().map(|life| life.id) else {
                continue;
            };
            if self.chaos.strikes(Fault::NotRepublished) {
                continue;
            }
            let delay = Duration::from_micros(50) + self.below(600);
            let Some(mut at) = self.nodes[node].link.down(Lane::Records, now, delay) else {
                continue;
            };
            if self.chaos.strikes(Fault::RepublishedLate) {
                at = at.after(self.below(2_000_000));
            }
            if self.plants(Planted::TakeoversHidden) && is_takeover(&stored.payload) {
                continue;
            }
            self.at(at, Event::Input(node, life, record(slot, stored)));
            if self.chaos.strikes(Fault::RepublishedTwice) {
                let again = at.after(self.below(1_500_000));
                self.at(again, Event::Input(node, life, record(slot, stored)));
            }
        }
    }

    /// An engine reads a log.
    pub(super) fn fetch(&mut self, node: usize, slot: usize, from: FetchFrom) {
        let now = self.now.tick;
        self.reads += 1;
        let read = self.reads;
        let life = self.nodes[node].life();
        let id = life.id;
        life.reads.insert(read);
        let asking = Asking {
            node,
            life: id,
            slot,
            read,
            from,
        };
        self.later(READ_WAIT, Event::Fetched(asking, None));
        let delay = Duration::from_micros(50) + self.below(400);
        if self.chaos.strikes(Fault::ReadLost) {
            return;
        }
        if let Some(at) = self.nodes[node].link.up(now, delay) {
            self.at(at, Event::Read(asking));
        }
    }

    /// A leader answers a read.
    pub(super) fn read(&mut self, asking: Asking) {
        let is_stale = self.chaos.strikes(Fault::ReadStale);
        let hidden = if is_stale {
            1 + self.chaos.dice.below(3)
        } else {
            0
        };
        let parts = self.chaos.strikes(Fault::ReadInParts);
        let most = if parts {
            1 + self.chaos.dice.below(3)
        } else {
            256
        };
        let now = self.now.tick;
        let after = match asking.from {
            FetchFrom::Last => None,
            FetchFrom::After(after) => Some(after.0),
        };
        let found = self.broker.read(asking.slot, after, (most, hidden), now);
        let Some(mut found) = found else { return };
        if asking.from == FetchFrom::Last && found.records.is_empty() {
            let gone = self.broker.newest_gone(asking.slot);
            self.oracle.begins_behind(asking.life, asking.slot, gone);
        }
        if found.records.len() > 1 && self.plants(Planted::ReadsWithHoles) {
            found.records.remove(0);
        }
        if self.plants(Planted::TakeoversHidden) {
            found.records.retain(|(_, payload)| !is_takeover(payload));
        }
        let records = found.records.into_iter();
        let fetched = Fetched {
            records: records
                .map(|(sequence, payload)| (Sequence(sequence), payload))
                .collect(),
            is_complete: found.is_complete,
            last: Sequence(found.last),
        };
        let delay = Duration::from_micros(50) + self.below(1_000);
        let link = &mut self.nodes[asking.node].link;
        if let Some(at) = link.down(Lane::Rest, now, delay) {
            self.at(at, Event::Fetched(asking, Some(fetched)));
        }
    }

    /// A process gets what it read, unless it has given it up.
    pub(super) fn fetched(&mut self, asking: Asking, found: Option<Fetched>) {
        let Asking {
            node,
            life,
            slot,
            read,
            from,
        } = asking;
        if !self.nodes[node].is(life) {
            return;
        }
        if !self.nodes[node].life().reads.remove(&read) {
            return;
        }
        let slot = hash_slot(slot);
        self.feed(node, Input::Fetched { slot, from, found });
    }
}

fn is_takeover(payload: &Bytes) -> bool {
    let record = Record::decode(payload);
    record.is_ok_and(|record| matches!(record.content, Content::Takeover { .. }))
}

/// The slot of this number.
pub(super) fn hash_slot(slot: usize) -> HashSlot {
    HashSlot::new(slot.try_into().expect("a slot is a byte"))
}

fn record(slot: usize, stored: &Stored) -> Input {
    Input::Record {
        slot: hash_slot(slot),
        sequence: Sequence(stored.sequence),
        payload: stored.payload.clone(),
    }
}
