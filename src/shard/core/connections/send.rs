//! Completed sends, continuations in their turn, and the walk over members with new batches.

use std::io;
use std::time::Duration;

use super::{Connections, membership};
use crate::net::io::{Io, Key, SendBuffer};
use crate::shard::close_reason::CloseReason;
use crate::shard::connection::Phase;
use crate::shard::core::env::Env;
use crate::shard::core::outbound::{Completed, ConnectionSlot, Continuation};
use crate::shard::core::rooms::{Rooms, Spread};
use crate::shard::room_sizes::size_class;
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::SENDS_PER_TURN_MAX;
use uproar_proto::base::table::Slot;

impl<W: Io> Connections<W> {
    /// Handles a completed send, perhaps a partial one. Each delivery ends here: called instead of inlined it costs 31
    /// instructions more.
    #[inline]
    pub(in crate::shard::core) fn sent(
        &mut self,
        key: Key,
        outgoing: SendBuffer,
        result: &io::Result<usize>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let slot = Slot::from_bits(key);
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        let membership = membership(connection, rooms);
        let completed = self
            .outbound
            .completed(slot, connection, membership, outgoing, result, env);
        match completed {
            Completed::Partial => {}
            Completed::Failed => {
                self.cut(slot, CloseReason::Client, rooms, env);
                self.remove_if_over(slot);
            }
            Completed::Continue => {
                if self.outbound.continues_now(slot, connection) {
                    self.deliver_or_end(slot, rooms, env);
                }
            }
            Completed::UpToDate if connection.phase == Phase::Open => {}
            Completed::UpToDate => self.end_or_remove(slot, rooms, env),
        }
    }

    /// Notes that a socket has become writable: the waiting rest is sent in its turn.
    pub(in crate::shard::core) fn writable(&mut self, key: Key, rest: SendBuffer) {
        let slot = Slot::from_bits(key);
        let connection = self.table.get_mut(slot);
        self.outbound.queue_rest(slot, connection, rest);
    }

    /// Serves the queue of continuations: with the rest of the turn's budget, and `more` on top.
    fn continue_sends(&mut self, more: usize, rooms: &mut Rooms, env: &mut Env<W::Socket>) {
        for _ in 0..self.outbound.take_budget() + more {
            if self.outbound.is_sealed_up() {
                return;
            }
            let Some(Continuation { slot, rest }) = self.outbound.next_continuation() else {
                return;
            };
            let Some(connection) = self.table.get_mut(slot) else {
                continue;
            };
            if let Some(rest) = rest {
                let (shard_room, member) =
                    (rooms.get_mut(connection.shard_room), connection.member);
                let redacted = shard_room.and_then(|room| room.audience.redacted_since(member));
                self.outbound
                    .send_rest(slot, connection, (rest, redacted), env);
            } else {
                connection.continues = false;
                self.deliver_or_end(slot, rooms, env);
            }
        }
    }

    fn deliver_or_end(
        &mut self,
        slot: ConnectionSlot<W>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        self.deliver(slot, rooms, env);
        self.end_or_remove(slot, rooms, env);
    }

    /// Serves members of rooms with new batches, a slice of each room in turn, and continuations
    /// before and after. Returns whether members or continuations still wait.
    pub(in crate::shard::core) fn serve(
        &mut self,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) -> bool {
        self.continue_sends(0, rooms, env);
        self.outbound.keep_for_walks();
        let mut sends_left = SENDS_PER_TURN_MAX;
        while !self.outbound.is_sealed_up()
            && let Some((room_slot, slice)) = rooms.next_slice(sends_left)
        {
            let (served, last) = self.serve_slice(room_slot, slice, rooms, env);
            sends_left -= served;
            self.spreads.note(rooms.end_slice(room_slot), last);
        }
        if !rooms.is_walking() {
            self.continue_sends(sends_left, rooms, env);
        }
        rooms.is_walking() || self.outbound.has_continuations()
    }

    /// Serves up to `slice` members of a room; returns how many, and the last one.
    fn serve_slice(
        &mut self,
        room_slot: Slot<ShardRoom>,
        slice: usize,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) -> (usize, Option<ConnectionSlot<W>>) {
        let (mut served, mut last) = (0, None);
        while served < slice && !self.outbound.is_sealed_up() {
            let Some(shard_room) = rooms.get_mut(room_slot) else {
                break;
            };
            let Some((member, key)) = shard_room.audience.walk() else {
                break;
            };
            served += 1;
            let slot = Slot::from_bits(key);
            last = Some(slot);
            let Some(connection) = self.table.get_mut(slot) else {
                debug_assert!(false, "every member has a connection");
                continue;
            };
            debug_assert_eq!(connection.member, Some(member), "it points back");
            let membership = Some((member, &mut shard_room.audience));
            let delivered = self.outbound.deliver(slot, connection, membership, env);
            self.follow(slot, delivered, rooms, env);
        }
        (served, last)
    }

    /// Counts the walks of this turn, whose sends were submitted in `elapsed`.
    pub(in crate::shard::core) fn count_spreads(
        &mut self,
        elapsed: Duration,
        env: &Env<W::Socket>,
    ) {
        let now = env.now.tick.after(elapsed);
        for since in self.spreads.moderated.drain(..) {
            env.metrics.moderation.observe(now.since(since));
        }
        for Spread { since, members } in self.spreads.ended.drain(..) {
            if let Some(times) = env.metrics.fanout.get(size_class(members)) {
                times.observe(now.since(since));
            }
        }
    }

    /// When the message was accepted whose last send is followed.
    pub(in crate::shard::core) fn sample_since(&self) -> Option<Tick> {
        self.spreads.sample.map(|(_, since)| since)
    }

    /// Counts the sample if its send has completed; one that was cut says nothing.
    pub(in crate::shard::core) fn count_sample(&mut self, env: &Env<W::Socket>) {
        let Some((slot, since)) = self.spreads.sample else {
            return;
        };
        match self.table.get(slot) {
            Some(connection) if connection.has_send() => return,
            Some(connection) if connection.phase != Phase::Dead => {
                env.metrics.delivery.observe(env.now.tick.since(since));
            }
            Some(_) | None => {}
        }
        self.spreads.sample = None;
    }
}
