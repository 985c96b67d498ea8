//! A node's part in the cluster: inputs and time in, outputs out.
//!
//! Drive it so: hand every [`Input`] to [`Engine::input`] as it comes, take [`Engine::next_output`] until it is
//! empty, then wait for an input or for [`Engine::due`], whichever is first; at that time the input is
//! [`Input::Tick`]. Several inputs before the outputs are taken make fewer and larger messages.
//!
//! Its parts, by what they decide: `log` what is read, `append` what is appended, `home` requests to this node,
//! `origin` requests of this node, `presence` who is there and who takes over, `purse` the account's rates.

mod append;
mod home;
mod inherit;
mod io;
mod log;
mod origin;
mod presence;
mod purse;
mod slot;
mod status;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

pub use inherit::LogsEstate;
pub use io::{
    AppendOutcome, EngineSettings, FetchFrom, Fetched, Input, MessageRates, Outcome, Output,
    RequestKey, SkipCause, Ticket,
};
pub use status::{Counts, PeerStatus, SlotStatus, Status};

use super::message::{Message, MessageContent};
use super::peers::Peers;
use super::purse::{Bank, Purse};
use super::{Epoch, HashSlot, Incarnation};
use crate::base::clock::{Now, Tick};
use crate::base::id::RoomId;
use io::Waiter;
use slot::Slots;

/// The machine.
#[derive(Debug)]
pub struct Engine {
    settings: EngineSettings,
    me: Incarnation,
    facts: super::here::Facts,
    is_draining: bool,
    now: Now,
    slots: Slots,
    peers: Peers,
    outputs: VecDeque<Output>,
    // Hash slots with something to do, each once.
    dirty: Vec<HashSlot>,
    // When hash slots have something to do next; each is there once at most.
    timers: BTreeSet<(Tick, HashSlot)>,
    // When the next sign of life goes out, and the next probe.
    here_due: Tick,
    probe_due: Tick,
    probe_slot: u8,
    // When the first home that is silent by then will be held to be dead.
    silence_due: Option<Tick>,
    // Hash slots that this node hands over.
    moves: Vec<HashSlot>,
    is_rebalance_due: bool,
    // Round trip of the newest probe, and when it came back.
    probe: Option<(Duration, Tick)>,
    // Bytes of kept requests; never above `CLUSTER_KEPT_BYTES_MAX`.
    kept_bytes: usize,
    // Bytes of entries that wait for the log.
    authored_bytes: usize,
    counts: Counts,
    rates: MessageRates,
    purse: Purse<Waiter>,
    // The account's budgets, while this node is the home of hash slot 0.
    bank: Bank,
}

impl Engine {
    /// Makes an engine that knows nothing. Its first outputs read the end of each log.
    pub fn new(settings: EngineSettings, now: Now) -> Self {
        Self {
            me: settings.me,
            facts: super::here::Facts::default(),
            is_draining: false,
            now,
            slots: {
                let mut slots = Slots::new(now.tick);
                for slot in HashSlot::all() {
                    slots[slot].is_dirty = true;
                }
                slots
            },
            peers: Peers::new(settings.me),
            outputs: VecDeque::new(),
            dirty: HashSlot::all().collect(),
            timers: BTreeSet::new(),
            here_due: now.tick,
            probe_due: now.tick,
            // So that the nodes' probes are at different hash slots.
            probe_slot: settings.me.bits().to_le_bytes()[0],
            silence_due: None,
            moves: Vec::new(),
            is_rebalance_due: false,
            probe: None,
            kept_bytes: 0,
            authored_bytes: 0,
            counts: Counts::default(),
            rates: MessageRates::default(),
            purse: Purse::default(),
            bank: Bank::default(),
            settings,
        }
    }

    /// Takes an input.
    pub fn input(&mut self, input: Input, now: Now) {
        self.now = now;
        match input {
            Input::Ask { ticket, ask } => self.ask(ticket, ask),
            Input::Authored { slot, epoch, entry } => self.authored(slot, epoch, entry),
            Input::RefusedByShard { key, code, text } => self.refused(key, code, text),
            Input::Record {
                slot,
                sequence,
                payload,
            } => self.record(slot, sequence, &payload),
            Input::Appended {
                slot,
                attempt,
                outcome,
            } => self.appended(slot, attempt, outcome),
            Input::Fetched { slot, from, found } => self.fetched(slot, from, found),
            Input::Message(payload) => self.message(&payload),
            Input::Here(payload) => self.hear(&payload),
            Input::NoResponders(incarnation) => self.no_responders(incarnation),
            Input::Interrupted => self.interrupted(),
            Input::Reconnected => self.here(),
            Input::Facts(facts) => self.set_facts(facts),
            Input::Rates(rates) => self.set_rates(rates),
            Input::Charge {
                ticket,
                quota,
                rate,
            } => self.charge(quota, rate, Waiter::Call(ticket)),
            Input::Archived {
                slot,
                epoch,
                sequence,
            } => self.archived((slot, epoch), sequence),
            Input::Drain(is_draining) => self.drain(is_draining),
            Input::Move { slot, to } => self.move_slot(slot, to, true),
            Input::Balance => self.balance(true),
            Input::Tick => {}
        }
        self.ring();
    }

    /// Returns what to do next; `None`: nothing until the next input or [`Engine::due`].
    pub fn next_output(&mut self) -> Option<Output> {
        while self.outputs.is_empty() {
            if self.purse.has_work(self.now.tick) {
                self.settle();
            } else if let Some(slot) = self.dirty.pop() {
                self.slots[slot].is_dirty = false;
                self.work(slot);
            } else if self.is_rebalance_due {
                self.rebalance();
            } else {
                return None;
            }
        }
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Tick`] is wanted.
    pub fn due(&self) -> Option<Tick> {
        let timer = self.timers.first().map(|(due, _)| *due);
        let all = [
            Some(self.here_due),
            Some(self.probe_due),
            self.silence_due,
            self.purse.due(),
            timer,
        ];
        all.into_iter().flatten().min()
    }

    /// Returns who this is.
    pub fn me(&self) -> Incarnation {
        self.me
    }

    /// Returns the home of a room's hash slot, and its epoch.
    pub fn home_of(&self, room: RoomId) -> Option<(Incarnation, Epoch)> {
        self.slots[HashSlot::of(room)].home
    }

    /// Does what the time asks for.
    fn ring(&mut self) {
        let now = self.now.tick;
        while let Some((due, slot)) = self.timers.first().copied() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            self.slots[slot].scheduled = None;
            self.mark(slot);
        }
        if self.here_due <= now {
            self.here();
        } else if self.silence_due.is_some_and(|due| due <= now) {
            self.look();
        }
        self.purse.expire(now);
        if self.probe_due <= now {
            self.send_probe();
        }
    }

    /// A hash slot has something to do.
    fn mark(&mut self, slot: HashSlot) {
        if !std::mem::replace(&mut self.slots[slot].is_dirty, true) {
            self.dirty.push(slot);
        }
    }

    /// Does what a hash slot has to do, and sets its timer.
    fn work(&mut self, slot: HashSlot) {
        self.read(slot);
        self.append(slot);
        self.ask_home(slot);
        let state = &self.slots[slot];
        let recovery = state.recovery.and_then(|recovery| recovery.wanted);
        let due = [
            Some(state.reader.due()),
            recovery,
            self.append_due(slot),
            self.ask_due(slot),
        ];
        self.schedule(slot, due.into_iter().flatten().min());
    }

    fn schedule(&mut self, slot: HashSlot, due: Option<Tick>) {
        let before = std::mem::replace(&mut self.slots[slot].scheduled, due);
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.timers.remove(&(before, slot));
        }
        if let Some(due) = due {
            self.timers.insert((due, slot));
        }
    }

    fn message(&mut self, payload: &Bytes) {
        let Ok(Message { from, content }) = Message::decode(payload) else {
            self.counts.unreadable += 1;
            return;
        };
        match content {
            MessageContent::Requests {
                slot,
                epoch,
                oldest,
                first,
                requests,
            } => self.requests(from, (slot, epoch), (oldest, first), requests),
            MessageContent::Have { slot, epoch, next } => self.have((slot, epoch), next),
            MessageContent::Refused {
                slot,
                epoch,
                number,
                code,
                text,
            } => self.was_refused((slot, epoch), number, code, text),
            MessageContent::NotHome { slot, epoch } => self.not_home(slot, epoch),
            MessageContent::Suspect { incarnation } => self.suspect(incarnation, false),
            MessageContent::Move { slot, to } => self.move_slot(slot, to, false),
            MessageContent::Balance => self.balance(false),
            MessageContent::Draw {
                epoch,
                number,
                wishes,
            } => self.serve_draw(from, (epoch, number), wishes),
            MessageContent::Grant { number, grants } => self.was_granted(number, &grants),
        }
    }

    fn send(&mut self, to: Incarnation, content: MessageContent) {
        let from = self.me;
        let payload = Message { from, content }.encode();
        self.outputs.push_back(Output::Send { to, payload });
    }
}
