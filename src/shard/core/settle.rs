//! The end of a turn: deadlines, admissions, reviews, flushes, sends, in this order.

use std::time::Duration;

use super::admission::Admitted;
use super::rooms::flush::FlushDue;
use super::rooms::{Delivery, Flushed, Rooms};
use super::stage::Stage;
use super::{Core, Plan, Turn};
use crate::logging::Overdue;
use crate::net::io::Io;
use crate::shard::close_reason::CloseReason;
use crate::shard::command::{AdmitError, Command, Eviction};
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::table::Slot;
use uproar_proto::room::RoomSettings;

impl<W: Io> Core<W> {
    /// Ends a turn: deadlines, admissions, flushes, sends. Returns when the next one is due.
    pub fn settle(&mut self) -> Plan {
        debug_assert_eq!(self.turn, Turn::Begun, "settle follows begin");
        self.turn = Turn::Settled;
        self.say_asides();
        let plan = if self.freeze.stage == Stage::Serving {
            self.settle_serving()
        } else {
            self.settle_freezing()
        };
        let metrics = &self.env.metrics;
        metrics.connections.set_len(self.connections.len());
        metrics.open.set_len(self.connections.open());
        metrics.deflated.set(self.env.deflater.messages());
        plan
    }

    /// Ends a turn of a shard that serves.
    pub(super) fn settle_serving(&mut self) -> Plan {
        self.connections.count_sample(&self.env);
        let (rooms, env) = (&mut self.rooms, &mut self.env);
        self.connections.check_deadlines(rooms, env);
        self.age();
        self.admit();
        let cluster_due = self.expire_cluster();
        let review_due = self.release_reviewed();
        let tallies_due = self.rooms.turn_tallies(&mut self.env);
        for delivery in self.rooms.release_overdue(&self.env) {
            self.deliver(delivery);
        }
        let flush_due = self.flush_rooms();
        let drain_due = self.drain();
        let waits = self.connections.serve(&mut self.rooms, &mut self.env) | self.search();
        let (Plan::Wait(flush_due), Plan::Wait(drain_due), false) = (flush_due, drain_due, waits)
        else {
            return Plan::Now;
        };
        let mut wake = self.connections.next_deadline();
        wake = wake.min(flush_due).min(drain_due);
        let (release_due, next) = (self.rooms.release_due(), self.next_aging);
        let viewers_due = self.rooms.viewers_due(next);
        let held_due = Rooms::held_due(next, &self.env);
        for due in [
            cluster_due,
            review_due,
            tallies_due,
            release_due,
            viewers_due,
            held_due,
        ] {
            wake = due.map_or(wake, |due| wake.min(due));
        }
        Plan::Wait(wake)
    }

    /// Ages used tokens, room logs and counted log lines, once in [`AGING_INTERVAL`].
    fn age(&mut self) {
        let now = self.env.now.tick;
        if now >= self.next_aging {
            self.next_aging = now.after(AGING_INTERVAL);
            self.admission.expire(&self.env);
            self.rooms.age_logs(&self.env);
            self.rooms.count_sizes(&self.env.metrics.room_sizes);
            self.note_unsent();
            self.rooms.age_modes(&self.env);
            self.rooms.end_held(&mut self.env);
            self.say_asides();
            self.rooms.tell_viewers(&mut self.env);
            self.rooms.tell_archived(&mut self.env);
            self.env.lines.overdue(now).for_each(Overdue::log);
        }
    }

    /// Notes how old the oldest message is that members still have to get.
    fn note_unsent(&self) {
        let since = [self.rooms.serving_since(), self.connections.sample_since()];
        let age = since.into_iter().flatten().min();
        let age = age.map(|since| self.env.now.tick.since(since).as_millis());
        let millis = u64::try_from(age.unwrap_or_default()).unwrap_or(u64::MAX);
        self.env.metrics.unsent_millis.set(millis);
    }

    /// Admits this turn's pending connections.
    fn admit(&mut self) {
        let admitted = self.admission.judge_all(&self.rooms, &mut self.env);
        for admitted in admitted {
            self.place(admitted);
        }
    }

    /// Places a connection that may join its room.
    pub(super) fn place(&mut self, admitted: Admitted<W::Socket>) {
        let (rooms, env) = (&mut self.rooms, &mut self.env);
        if admitted.pending.arrival.reopens {
            // Before it comes anywhere: its own shard gets that first, too.
            let token = admitted.pending.token;
            env.outbox.send_to_others(|| Command::Replace(token));
            self.connections.replace(token, rooms, env);
        }
        if let Some((admitted, settings)) = self.admission.place(admitted, rooms, env) {
            self.install(admitted, settings);
        }
    }

    /// Gives up what the cluster has not answered in time; returns when to look again.
    fn expire_cluster(&mut self) -> Option<Tick> {
        if !self.rooms.is_clustered() {
            return None;
        }
        let parked = self.admission.expire_parked(&self.env);
        let requests = self.rooms.end_cluster_turn(&mut self.env);
        [parked, requests].into_iter().flatten().min()
    }

    /// Installs a connection that another shard admitted. One that said more than its request head is dropped while
    /// this shard freezes: its requests would come after those of all others have ended.
    pub(super) fn install_or_drop(
        &mut self,
        admitted: Admitted<W::Socket>,
        settings: RoomSettings,
    ) {
        if self.freeze.stage == Stage::Serving || admitted.pending.leftover.is_empty() {
            return self.install(admitted, settings);
        }
        let (room, counts) = (admitted.pending.room, admitted.pending.counts());
        self.rooms.absent(room, counts, &mut self.env);
    }

    /// Installs an admitted connection here.
    pub(super) fn install(&mut self, admitted: Admitted<W::Socket>, settings: RoomSettings) {
        let Admitted {
            pending,
            reservation,
        } = admitted;
        let (room, sender_json) = (pending.room, &pending.grant.sender_json);
        if self.is_banned(room, sender_json, pending.ip) {
            // The ban came while the connection was on its way.
            self.rooms.absent(room, pending.counts(), &mut self.env);
            return self
                .admission
                .reject(pending, AdmitError::Banned, &self.env);
        }
        let (rooms, env) = (&mut self.rooms, &mut self.env);
        let terms = (settings, reservation);
        let installed = self.connections.install(*pending, terms, rooms, env);
        if let (Some(_), Some(drain)) = (installed, &mut self.drain) {
            drain.arrived();
        }
        if let (Some(slot), true) = (installed, self.stopping) {
            self.connections.cut(slot, CloseReason::Drain, rooms, env);
        }
    }

    /// Takes the turns that are due in a drain; returns when the next one is.
    fn drain(&mut self) -> Plan {
        let Some(drain) = &mut self.drain else {
            return Plan::Wait(Tick::from_nanos(u64::MAX));
        };
        let (rooms, env) = (&mut self.rooms, &mut self.env);
        if self.connections.drain(drain, rooms, env) {
            return Plan::Now;
        }
        Plan::Wait(drain.next(self.env.now.tick))
    }

    /// Releases reviewed messages and tells the senders of those that a deadline denied; returns
    /// the next deadline.
    fn release_reviewed(&mut self) -> Option<Tick> {
        let (denied, next) = self.rooms.release_reviewed(&mut self.env);
        for denied in &denied {
            let (rooms, env) = (&mut self.rooms, &mut self.env);
            self.connections.refuse_denied(denied, rooms, env);
        }
        next
    }

    /// Flushes every room that is due; returns when the next one will be.
    fn flush_rooms(&mut self) -> Plan {
        let mut next = Tick::from_nanos(u64::MAX);
        let mut is_held = false;
        let mut unflushed = self.rooms.take_unflushed();
        unflushed.retain(
            |room_slot| match self.rooms.flush_due(*room_slot, &self.env) {
                FlushDue::Now => {
                    self.rooms.tell_viewers_along(*room_slot, &mut self.env);
                    let flushed = self.rooms.flush(*room_slot, &mut self.env);
                    self.follow_flush(*room_slot, flushed);
                    false
                }
                FlushDue::At(due) => {
                    next = next.min(due);
                    true
                }
                FlushDue::Held => {
                    is_held = true;
                    true
                }
                FlushDue::Never => false,
            },
        );
        self.rooms.put_back_unflushed(unflushed);
        for event in self.rooms.take_unsaid() {
            let (rooms, env) = (&mut self.rooms, &mut self.env);
            self.connections.tell_user(&event, rooms, env);
        }
        if is_held { Plan::Now } else { Plan::Wait(next) }
    }

    /// Does what a flush leaves to be done.
    pub(super) fn follow_flush(&mut self, room_slot: Slot<ShardRoom>, flushed: Flushed) {
        match flushed {
            Flushed::Sent(evictions) => self.evict_all(room_slot, evictions),
            Flushed::Logged(deliveries) => {
                for delivery in deliveries {
                    self.deliver(delivery);
                }
            }
        }
    }

    /// Delivers a batch of a logged room, then evicts the users that its events name.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let (room_slot, evictions) = self.rooms.deliver(delivery, &mut self.env);
        self.evict_all(room_slot, evictions);
    }

    /// Evicts users of a room at home here, on all shards.
    fn evict_all(&mut self, room_slot: Slot<ShardRoom>, evictions: Vec<Eviction>) {
        let Some(room) = self.rooms.get(room_slot).map(|shard_room| shard_room.id) else {
            return;
        };
        for eviction in evictions {
            let outbox = &mut self.env.outbox;
            outbox.send_to_others(|| Command::Evict(room, eviction.clone()));
            let (rooms, env) = (&mut self.rooms, &mut self.env);
            self.connections.evict(room, &eviction, rooms, env);
        }
    }
}

/// Interval at which room logs and used tokens are aged.
pub(super) const AGING_INTERVAL: Duration = Duration::from_secs(1);
