//! Reviewed rooms: takes verdicts and releases messages in order.
//!
//! The home shard decides when a deadline has passed: a verdict that comes later or twice is
//! ignored.

use super::{Env, Rooms};
use crate::shard::review::Held;
use crate::shard::shard_room::{HomeRoom, ShardRoom};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::review::Verdict;
use uproar_proto::room::review::{Denied, Ticket};

impl Rooms {
    /// Takes the verdict of a review; returns the message if it denies one. An allowed message is
    /// released at the end of the turn.
    pub(in crate::shard::core) fn take_verdict(
        &mut self,
        room: RoomId,
        ticket: Ticket,
        verdict: Option<Verdict>,
        now: Tick,
    ) -> Option<Denied<Held>> {
        let (room_slot, home) = self.home_mut(room)?;
        let denied = home.pending.as_mut()?.decide(ticket, verdict, now);
        self.review_queue.note(room_slot);
        denied
    }

    /// Releases the messages that are decided and next in their room's order. Returns those that a
    /// deadline denied, and the next deadline of a review.
    pub(in crate::shard::core) fn release_reviewed<S>(
        &mut self,
        env: &mut Env<S>,
    ) -> (Vec<Denied<Held>>, Option<Tick>) {
        let mut denied = Vec::new();
        if self.review_queue.is_idle() {
            return (denied, None);
        }
        let table = &self.table;
        let is_due = |slot, deadline| {
            table
                .get(slot)
                .and_then(|shard_room: &ShardRoom| {
                    shard_room.home.as_ref()?.pending.as_ref()?.next_deadline()
                })
                .is_some_and(|next| next <= deadline)
        };
        let next = self.review_queue.expire(env.now.tick, is_due);
        let deciding = self.review_queue.take_deciding();
        for room_slot in &deciding {
            self.release(*room_slot, &mut denied, env);
        }
        self.review_queue.reuse(deciding);
        env.metrics.review_held.set_len(self.review_queue.held());
        (denied, next)
    }

    /// Releases one room's messages up to the first undecided one.
    fn release<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        denied: &mut Vec<Denied<Held>>,
        env: &mut Env<S>,
    ) {
        let Some(HomeRoom { room, pending, .. }) = self
            .table
            .get_mut(room_slot)
            .and_then(|shard_room| shard_room.home.as_deref_mut())
        else {
            return;
        };
        let Some(queue) = pending else { return };
        let before = queue.len();
        let expired = queue.expire(env.now.tick, |message| denied.push(message));
        let mut released = 0;
        while let Some((held, rewrite)) = queue.release() {
            released += 1;
            let mut message = held.publish_request.message();
            if let Some(rewrite) = &rewrite {
                message.content = &rewrite.content;
                if let Some(attributes_json) = rewrite.attributes_json.as_deref() {
                    message.attributes_json = attributes_json;
                }
            }
            room.order(&mut env.deflater, held.id, held.sent, message);
        }
        self.review_queue.left(before - queue.len());
        if queue.is_empty() && room.settings().review.is_none() {
            *pending = None;
        }
        env.metrics.review_expired.add_len(expired);
        env.metrics.review_allowed.add(released);
        if released > 0 {
            self.note_unflushed(room_slot);
        }
    }
}
