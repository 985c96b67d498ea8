//! Reviewed rooms: takes verdicts, releases messages in order, tells senders of denials.
//!
//! The home shard decides when a deadline has passed: a verdict that comes later or twice is ignored.

use super::Core;
use crate::net::io::Io;
use crate::shard::review::Held;
use crate::shard::shard_room::{HomeRoom, ShardRoom};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::review::Verdict;
use uproar_proto::chat::{ErrorCode, texts};
use uproar_proto::room::review::{Denied, Ticket};

impl<W: Io> Core<W> {
    /// Takes the verdict of a review. An allowed message is released at the end of the turn.
    pub(super) fn take_verdict(&mut self, room: RoomId, ticket: Ticket, verdict: Option<Verdict>) {
        let Some(room_slot) = self.rooms.get(&room).copied() else {
            return;
        };
        let shard_room = self.shard_rooms.get_mut(room_slot);
        let pending = shard_room
            .and_then(|shard_room| shard_room.home.as_mut())
            .and_then(|home| home.pending.as_mut());
        let Some(pending) = pending else { return };
        let denied = pending.decide(ticket, verdict, self.now.tick);
        self.review_queue.note(room_slot);
        if let Some(denied) = denied {
            self.tell_denied(&denied);
        }
    }

    /// Releases the messages that are decided and next in their room's order; returns the next deadline of a review.
    pub(super) fn release_reviewed(&mut self) -> Option<Tick> {
        if self.review_queue.is_idle() {
            return None;
        }
        let shard_rooms = &self.shard_rooms;
        let is_due = |slot, deadline| {
            shard_rooms
                .get(slot)
                .and_then(|shard_room: &ShardRoom| {
                    shard_room.home.as_ref()?.pending.as_ref()?.next_deadline()
                })
                .is_some_and(|next| next <= deadline)
        };
        let next = self.review_queue.expire(self.now.tick, is_due);
        let deciding = self.review_queue.take_deciding();
        for room_slot in &deciding {
            self.release(*room_slot);
        }
        self.review_queue.reuse(deciding);
        self.metrics
            .review_held
            .set(self.review_queue.held() as u64);
        next
    }

    /// Releases one room's messages up to the first undecided one.
    fn release(&mut self, room_slot: Slot<ShardRoom>) {
        let Some(ShardRoom {
            home: Some(home), ..
        }) = self.shard_rooms.get_mut(room_slot)
        else {
            return;
        };
        let HomeRoom { room, pending, .. } = &mut **home;
        let Some(queue) = pending else { return };
        let before = queue.len();
        let mut all_denied = Vec::new();
        let expired = queue.expire(self.now.tick, |denied| all_denied.push(denied));
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
            room.order(&mut self.deflater, held.id, held.sent, message);
        }
        self.review_queue.left(before - queue.len());
        if queue.is_empty() && room.settings().review.is_none() {
            *pending = None;
        }
        self.metrics.review_expired.add(expired as u64);
        self.metrics.review_allowed.add(released);
        if released > 0 {
            self.note_unflushed(room_slot);
        }
        for denied in all_denied {
            self.tell_denied(&denied);
        }
    }

    fn tell_denied(&mut self, denied: &Denied<Held>) {
        self.metrics.review_denied.inc();
        let Held {
            publish_request,
            id,
            ..
        } = &denied.message;
        let reason = match &*denied.reason {
            "" => texts::DENIED,
            reason => reason,
        };
        self.refuse_sender(publish_request, *id, ErrorCode::NotAcceptable, reason);
    }
}
