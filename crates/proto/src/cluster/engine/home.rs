//! This node as a home: requests of all nodes become records.

use super::Engine;
use super::io::{Output, RequestKey};
use super::slot::Early;
use crate::base::clock::UnixTime;
use crate::base::limits::{CLUSTER_AUTHORED_BYTES_MAX, CLUSTER_EARLY_MESSAGES_MAX};
use crate::chat::ErrorCode;
use crate::cluster::append::{Cause, State};
use crate::cluster::author::{Author, Refusal};
use crate::cluster::message::{Ask, AskKind, MessageContent};
use crate::cluster::record::Entry;
use crate::cluster::{Epoch, HashSlot, Incarnation, Number, Sequence};

impl Engine {
    /// This node is the home from now on.
    pub(super) fn take_office(
        &mut self,
        slot: HashSlot,
        epoch: Epoch,
        is_pinned: bool,
        cause: Option<Cause>,
    ) {
        let author = Author::new(epoch, is_pinned, self.now.tick);
        self.slots[slot].author = Some(Box::new(author));
        self.count_takeover(cause);
    }

    /// Nothing is appended in the epoch of before any more. Returns whether this node was its home.
    pub(super) fn end_epoch(&mut self, slot: HashSlot) -> bool {
        let append = self.slots[slot].append.as_ref();
        self.counts.conflicts_foreign +=
            u64::from(append.is_some_and(|append| append.state == State::Verify));
        self.drop_append(slot);
        self.slots[slot].recovery = None;
        self.leave_bank(slot);
        let Some(author) = self.slots[slot].author.take() else {
            return false;
        };
        self.authored_bytes -= author.pending_bytes();
        let epoch = author.epoch();
        self.outputs.push_back(Output::Fenced { slot, epoch });
        true
    }

    /// An origin asks this node to decide requests.
    pub(super) fn requests(
        &mut self,
        from: Incarnation,
        (slot, epoch): (HashSlot, Epoch),
        numbers: (Number, Number),
        requests: Vec<Option<Ask>>,
    ) {
        let state = &mut self.slots[slot];
        if epoch.0 > state.reader.read().0 {
            // Its sender has read our `Takeover` before us.
            if state.early.len() < CLUSTER_EARLY_MESSAGES_MAX {
                state.early.push(Early {
                    from,
                    epoch,
                    numbers,
                    requests,
                });
            }
            if state.append.is_none() {
                state.reader.expect(Sequence(epoch.0), self.now.tick);
                self.mark(slot);
            }
            return;
        }
        let not_before = state.sent;
        let author = state.author.as_mut();
        let Some(author) = author.filter(|author| author.epoch() == epoch) else {
            if let Some((_, known)) = state.home.filter(|(_, known)| *known > epoch) {
                self.send(from, MessageContent::NotHome { slot, epoch: known });
            }
            return;
        };
        if author.successor.is_some() || self.authored_bytes >= CLUSTER_AUTHORED_BYTES_MAX {
            // The origin sends them again: to the next home, or here.
            return;
        }
        let taken = author.take(from, numbers, requests);
        for (number, ask) in taken.asks {
            let key = RequestKey {
                slot,
                epoch,
                origin: from,
                number,
                not_before,
            };
            if ask.kind == AskKind::Probe {
                self.authored(slot, epoch, probe_entry(key, &ask));
            } else {
                self.admit(key, ask);
            }
        }
        if from == self.me {
            self.note_own(slot);
        } else if taken.is_answer_wanted {
            self.answer(slot, epoch, from);
        }
    }

    /// What this node takes of its own requests needs no message.
    fn note_own(&mut self, slot: HashSlot) {
        let state = &mut self.slots[slot];
        if let Some(author) = &mut state.author {
            let (next, _) = author.answer(self.me);
            state.kept.have(next);
        }
    }

    fn answer(&mut self, slot: HashSlot, epoch: Epoch, to: Incarnation) {
        let Some(author) = &mut self.slots[slot].author else {
            return;
        };
        let (next, refusals) = author.answer(to);
        let refusals: Vec<_> = refusals.collect();
        self.send(to, MessageContent::Have { slot, epoch, next });
        for refusal in refusals {
            self.send(to, refused_message(slot, epoch, refusal));
        }
    }

    /// A room's shard has decided: the frame goes into the log.
    pub(super) fn authored(&mut self, slot: HashSlot, epoch: Epoch, entry: Entry) {
        let state = &mut self.slots[slot];
        let author = state.author.as_mut();
        if let Some(author) = author.filter(|author| author.epoch() == epoch) {
            self.authored_bytes += entry.bytes();
            author.push(entry, self.settings.linger, self.now.tick);
            self.mark(slot);
        }
    }

    /// A room's shard has refused.
    pub(super) fn refused(&mut self, key: RequestKey, code: ErrorCode, text: Box<str>) {
        let state = &mut self.slots[key.slot];
        let author = state.author.as_mut();
        let Some(author) = author.filter(|author| author.epoch() == key.epoch) else {
            return;
        };
        let number = key.number;
        if key.origin == self.me {
            return self.was_refused((key.slot, key.epoch), number, code, text);
        }
        let refusal = Refusal { number, code, text };
        author.refuse(key.origin, refusal.clone());
        let message = refused_message(key.slot, key.epoch, refusal);
        self.send(key.origin, message);
    }
}

fn refused_message(slot: HashSlot, epoch: Epoch, refusal: Refusal) -> MessageContent {
    MessageContent::Refused {
        slot,
        epoch,
        number: refusal.number,
        code: refusal.code,
        text: refusal.text,
    }
}

/// A probe's entry: no room gets it.
fn probe_entry(key: RequestKey, ask: &Ask) -> Entry {
    Entry {
        origin: key.origin,
        number: key.number,
        room: ask.room,
        sent: UnixTime::default(),
        is_urgent: false,
        eviction: None,
        frame: bytes::Bytes::new(),
    }
}
