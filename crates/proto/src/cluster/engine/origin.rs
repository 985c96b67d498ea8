//! This node as an origin: its requests are kept until their outcome is known.

use super::Engine;
use super::io::{Outcome, Output, Ticket};
use crate::base::clock::{Tick, UnixTime};
use crate::base::id::{FrameId, RoomId};
use crate::base::limits::{CLUSTER_KEPT_BYTES_MAX, CLUSTER_PROBE};
use crate::chat::{ErrorCode, texts};
use crate::cluster::kept::{Kept, Sending};
use crate::cluster::message::{Ask, AskKind, AskTexts, MessageContent};
use crate::cluster::{Epoch, HashSlot, Number, Sequence};
use crate::extension::Speaker;

impl Engine {
    /// A client or caller of this node asks for something.
    pub(super) fn ask(&mut self, ticket: Ticket, ask: Ask) {
        let slot = HashSlot::of(ask.room);
        let kept = Kept {
            waiter: Some(ticket),
            ask,
            asked: self.now.tick,
        };
        if self.kept_bytes + kept.bytes() > CLUSTER_KEPT_BYTES_MAX {
            self.counts.requests_over_bound += 1;
            let outcome = Outcome::Refused(ErrorCode::TooManyRequests, texts::RATE.into());
            let sent = None;
            self.outputs.push_back(Output::Told {
                ticket,
                outcome,
                sent,
            });
            return;
        }
        self.keep(slot, kept);
    }

    fn keep(&mut self, slot: HashSlot, kept: Kept<Option<Ticket>>) {
        self.kept_bytes += kept.bytes();
        self.slots[slot].kept.push(kept);
        self.mark(slot);
    }

    /// Sends a probe to the next hash slot.
    pub(super) fn send_probe(&mut self) {
        self.probe_due = self.now.tick.after(CLUSTER_PROBE);
        if self.peers.heard_since(self.now.tick).is_none() {
            return;
        }
        // Prime to the number of hash slots, so that all have their turn, and far ones follow each other.
        self.probe_slot = self.probe_slot.wrapping_add(37);
        let ask = Ask {
            room: RoomId::from_random(0),
            id: FrameId::from_random(0),
            kind: AskKind::Probe,
            is_from_api: false,
            speaker: Speaker::default(),
            is_exempt: false,
            texts: AskTexts::default(),
        };
        let kept = Kept {
            waiter: None,
            ask,
            asked: self.now.tick,
        };
        self.keep(HashSlot::new(self.probe_slot), kept);
    }

    /// A request has not come into the log, as far as is known.
    pub(super) fn told(&mut self, kept: Kept<Option<Ticket>>, outcome: Outcome) {
        self.ended(kept, outcome, None);
    }

    /// A request has its outcome; with `SendTime` of its frame, if that is in the log.
    pub(super) fn ended(
        &mut self,
        kept: Kept<Option<Ticket>>,
        outcome: Outcome,
        sent: Option<UnixTime>,
    ) {
        self.kept_bytes -= kept.bytes();
        let Some(ticket) = kept.waiter else {
            if outcome == Outcome::Committed {
                let now = self.now.tick;
                self.probe = Some((now.since(kept.asked), now));
            }
            return;
        };
        self.counts.requests_unknown += u64::from(outcome == Outcome::Unknown);
        self.outputs.push_back(Output::Told {
            ticket,
            outcome,
            sent,
        });
    }

    /// Sends what the home has not got, and gives up what waits for too long.
    pub(super) fn ask_home(&mut self, slot: HashSlot) {
        let now = self.now.tick;
        while let Some(kept) = self.slots[slot].kept.expire(now) {
            self.told(kept, Outcome::Unknown);
        }
        if !self.is_home_asked(slot) {
            return;
        }
        while let Some(sending) = self.slots[slot].kept.send() {
            self.send_requests(slot, sending);
        }
        let due = self.slots[slot].kept.resend_due();
        if due.is_some_and(|due| due <= now) {
            self.resend(slot);
        }
    }

    /// When [`Engine::ask_home`] has something to do.
    pub(super) fn ask_due(&self, slot: HashSlot) -> Option<Tick> {
        let kept = &self.slots[slot].kept;
        let resend = kept.resend_due().filter(|_| self.is_home_asked(slot));
        resend.into_iter().chain(kept.expiry_due()).min()
    }

    /// Whether there is a home to ask: one that nobody holds to be dead.
    fn is_home_asked(&self, slot: HashSlot) -> bool {
        let state = &self.slots[slot];
        state.home.is_some_and(|(home, _)| {
            if home == self.me {
                state.author.is_some()
            } else {
                !self.peers.is_suspected(home)
            }
        })
    }

    fn resend(&mut self, slot: HashSlot) {
        let (first, requests) = self.slots[slot].kept.resend(self.now.tick);
        self.counts.requests_resent += u64::try_from(requests.len()).unwrap_or_default();
        self.send_requests(slot, (first, requests));
    }

    fn send_requests(&mut self, slot: HashSlot, (first, requests): Sending) {
        let state = &self.slots[slot];
        let oldest = state.kept.oldest();
        let Some((home, epoch)) = state.home else {
            return;
        };
        if home == self.me {
            return self.requests(home, (slot, epoch), (oldest, first), requests);
        }
        let content = MessageContent::Requests {
            slot,
            epoch,
            oldest,
            first,
            requests,
        };
        self.send(home, content);
    }

    /// The home says what it has.
    pub(super) fn have(&mut self, (slot, epoch): (HashSlot, Epoch), next: Number) {
        let state = &mut self.slots[slot];
        let is_current = state.home.is_some_and(|(_, current)| current == epoch);
        if is_current && state.kept.have(next) {
            self.resend(slot);
        }
    }

    /// The home has refused a request.
    pub(super) fn was_refused(
        &mut self,
        (slot, epoch): (HashSlot, Epoch),
        number: Number,
        code: ErrorCode,
        text: Box<str>,
    ) {
        let state = &mut self.slots[slot];
        if state.home.is_some_and(|(_, current)| current == epoch)
            && let Some(kept) = state.kept.take(number)
        {
            self.told(kept, Outcome::Refused(code, text));
            self.mark(slot);
        }
    }

    /// The log has an epoch that was not read here.
    pub(super) fn not_home(&mut self, slot: HashSlot, epoch: Epoch) {
        let state = &mut self.slots[slot];
        if epoch.0 > state.reader.read().0 {
            state.reader.expect(Sequence(epoch.0), self.now.tick);
            self.mark(slot);
        }
    }
}
