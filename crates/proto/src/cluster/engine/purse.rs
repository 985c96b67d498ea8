//! Rates of the account: what this node grants, and what it keeps for all as the home of hash slot 0.

use super::Engine;
use super::io::{MessageRates, Output, RequestKey, Waiter};
use crate::base::clock::Tick;
use crate::base::limits::{CLUSTER_BANK_LEASE, CLUSTER_DRAW_MAX};
use crate::base::rate::Rate;
use crate::chat::{ErrorCode, texts};
use crate::cluster::append::Begun;
use crate::cluster::message::{Ask, AskKind, MessageContent};
use crate::cluster::purse::{Draw, Grant, PurseCounts, Quota, Wish};
use crate::cluster::{Epoch, HashSlot, Incarnation};

/// The home of this hash slot keeps the budgets.
const BANK: HashSlot = HashSlot::new(0);

impl Engine {
    pub(super) fn set_rates(&mut self, rates: MessageRates) {
        self.rates = rates;
    }

    /// A request is charged, and goes to its room's shard.
    pub(super) fn admit(&mut self, key: RequestKey, ask: Ask) {
        let MessageRates { sends, moderations } = self.rates;
        let (quota, rate) = match ask.kind {
            AskKind::SendMessage => (Quota::SENDS, sends),
            AskKind::DeleteMessage | AskKind::Purge | AskKind::Clear => {
                (Quota::DELETIONS, moderations)
            }
            AskKind::DisconnectUser => (Quota::DISCONNECTS, moderations),
            // The control plane has charged an event, and a held message was charged when it came; a probe is nobody's.
            AskKind::Event | AskKind::Tally | AskKind::Decide | AskKind::Held | AskKind::Probe => {
                (Quota::SENDS, None)
            }
        };
        match rate {
            Some(rate) => self.charge(quota, rate, Waiter::Request(key, ask)),
            None => self.outputs.push_back(Output::Author { key, ask }),
        }
    }

    pub(super) fn charge(&mut self, quota: Quota, rate: Rate, waiter: Waiter) {
        let now = self.now.tick;
        self.purse.take(quota, rate, waiter, now);
    }

    /// What was drawn, and what was granted without the bank.
    pub fn purse_counts(&self) -> PurseCounts {
        self.purse.counts
    }

    /// Draws what is wanted, and tells what was decided.
    pub(super) fn settle(&mut self) {
        let now = self.now.tick;
        if self.purse.wants(now) {
            self.purse.set_nodes(self.peers.live(now));
            self.ask_bank();
        }
        while let Some((waiter, is_granted)) = self.purse.next_decided() {
            self.decided(waiter, is_granted);
        }
    }

    fn ask_bank(&mut self) {
        let now = self.now.tick;
        let state = &self.slots[BANK];
        if let (None, Some(next)) = (state.home, state.successor)
            && now < state.vacant_since.after(CLUSTER_DRAW_MAX)
        {
            // It moves: its next home is asked when it is read of.
            let _later = self.purse.draw(next.to, now);
            return;
        }
        let is_here = state.author.is_some();
        let is_there = |home| is_here || (home != self.me && !self.peers.is_suspected(home));
        let Some((home, epoch)) = state.home.filter(|(home, _)| is_there(*home)) else {
            return self.purse.go_alone(now);
        };
        let Some((number, wishes)) = self.purse.draw(home, now) else {
            return;
        };
        if home == self.me {
            self.serve_draw(home, (epoch, number), wishes);
        } else {
            let draw = MessageContent::Draw {
                epoch,
                number,
                wishes,
            };
            self.send(home, draw);
        }
    }

    fn decided(&mut self, waiter: Waiter, is_granted: bool) {
        match waiter {
            Waiter::Call(ticket) => self
                .outputs
                .push_back(Output::Charged { ticket, is_granted }),
            Waiter::Request(key, ask) => {
                let author = self.slots[key.slot].author.as_ref();
                // Its origin sends it to the next home.
                if author.is_none_or(|author| author.epoch() != key.epoch) {
                    return;
                }
                if is_granted {
                    self.outputs.push_back(Output::Author { key, ask });
                } else {
                    self.refused(key, ErrorCode::TooManyRequests, texts::RATE.into());
                }
            }
        }
    }

    /// There is a new home of a hash slot. If that is the bank's and this node is it, it keeps the budgets from now on, for
    /// which the append of its `Takeover` counts; they fill as soon as the home before grants nothing any more.
    pub(super) fn move_bank(&mut self, slot: HashSlot, is_ours: bool, takeover: Option<Begun>) {
        if slot != BANK {
            return;
        }
        let now = self.now.tick;
        self.purse.bank_moved(now);
        if is_ours {
            let free = takeover.map_or(now.after(CLUSTER_BANK_LEASE), |takeover| takeover.free);
            self.bank
                .take_office(now.max(free), takeover.map(|takeover| takeover.at));
            self.serve_draws();
        }
    }

    /// The home of a hash slot is one no more.
    pub(super) fn leave_bank(&mut self, slot: HashSlot) {
        if slot == BANK {
            self.bank.leave();
        }
    }

    /// A record of this home is in its log, whose append began then.
    pub(super) fn confirm_bank(&mut self, slot: HashSlot, begun: Tick) {
        if slot == BANK {
            self.bank.confirm(begun);
            self.serve_draws();
        }
    }

    /// A node draws.
    pub(super) fn serve_draw(
        &mut self,
        from: Incarnation,
        (epoch, number): (Epoch, u64),
        wishes: Vec<Wish>,
    ) {
        // One who believes in a home before this one hears nothing, and reads of it soon. Who believes in a later one has read
        // our `Takeover` before us.
        self.bank.queue(Draw {
            from,
            epoch,
            number,
            wishes,
            came: self.now.tick,
        });
        self.serve_draws();
    }

    /// Answers the draws that wait, if this node is the bank for certain; else it makes sure.
    fn serve_draws(&mut self) {
        let now = self.now.tick;
        let state = &mut self.slots[BANK];
        // Who hands over has granted its last.
        let author = state.author.as_mut();
        let Some(author) = author.filter(|author| author.successor.is_none()) else {
            return;
        };
        let epoch = author.epoch();
        if self.bank.is_asked() && self.bank.is_lease_old(now) && state.append.is_none() {
            author.want_pulse(now);
            self.mark(BANK);
        }
        if !self.bank.has_lease(now) {
            return;
        }
        let nodes = self.peers.live(now);
        while let Some(draw) = self.bank.next_draw(epoch, now) {
            let grants = self.bank.grant(&draw.wishes, nodes, now);
            if draw.from == self.me {
                self.purse.granted(draw.number, &grants);
            } else {
                let number = draw.number;
                self.send(draw.from, MessageContent::Grant { number, grants });
            }
        }
    }

    /// The bank has answered.
    pub(super) fn was_granted(&mut self, number: u64, grants: &[Grant]) {
        self.purse.granted(number, grants);
    }
}
