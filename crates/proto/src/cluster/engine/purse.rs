//! Rates of the account: what this node grants, and what it keeps for all as the home of hash slot 0.

use super::Engine;
use super::io::{MessageRates, Output, RequestKey, Waiter};
use crate::base::rate::Rate;
use crate::chat::{ErrorCode, texts};
use crate::cluster::message::{Ask, AskKind, MessageContent};
use crate::cluster::purse::{Grant, PurseCounts, Quota, Wish};
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
            AskKind::DeleteMessage => (Quota::DELETIONS, moderations),
            AskKind::DisconnectUser => (Quota::DISCONNECTS, moderations),
            // The control plane has charged an event; a probe is nobody's.
            AskKind::Event | AskKind::Tally | AskKind::Probe => (Quota::SENDS, None),
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
        let is_here = state.author.is_some();
        let is_there = |home| is_here || (home != self.me && !self.peers.is_suspected(home));
        let Some((home, epoch)) = state.home.filter(|(home, _)| is_there(*home)) else {
            return self.purse.go_alone(now);
        };
        let Some((number, wishes)) = self.purse.draw(home, now) else {
            return;
        };
        if home != self.me {
            let draw = MessageContent::Draw {
                epoch,
                number,
                wishes,
            };
            return self.send(home, draw);
        }
        let nodes = self.peers.live(now);
        let grants = self.bank.serve(epoch, &wishes, nodes, now);
        self.purse.granted(number, &grants.unwrap_or_default());
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

    /// This node keeps the budgets from now on, if it is the home of their hash slot.
    pub(super) fn take_bank(&mut self, slot: HashSlot, epoch: Epoch) {
        if slot == BANK {
            self.bank.take_office(epoch, self.now.tick);
        }
    }

    /// A node draws.
    pub(super) fn serve_draw(
        &mut self,
        to: Incarnation,
        (epoch, number): (Epoch, u64),
        wishes: &[Wish],
    ) {
        let now = self.now.tick;
        let nodes = self.peers.live(now);
        // One who believes in a home before this one hears nothing, and reads of it soon.
        if let Some(grants) = self.bank.serve(epoch, wishes, nodes, now) {
            self.send(to, MessageContent::Grant { number, grants });
        }
    }

    /// The bank has answered.
    pub(super) fn was_granted(&mut self, number: u64, grants: &[Grant]) {
        self.purse.granted(number, grants);
    }
}
