//! Reviewed rooms: takes verdicts and releases messages in order.
//!
//! The home shard decides when a deadline has passed: a verdict that comes later or twice is
//! ignored.

use super::cluster::refuse_request;
use super::{Env, Rooms};
use crate::shard::cluster::{ToCluster, entry};
use crate::shard::command::Said;
use crate::shard::review::Held;
use crate::shard::shard_room::ShardRoom;
use crate::shard::shard_room::ruled::{KEPT, give_back};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::ErrorCode;
use uproar_proto::chat::review::Verdict;
use uproar_proto::cluster::engine::RequestKey;
use uproar_proto::room::review::{Denied, Pending, Ticket};

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
        let denied = home.reviewed_mut()?.decide(ticket, verdict, now);
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
                    shard_room.home.as_ref()?.reviewed()?.next_deadline()
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
        let Some(ShardRoom {
            id,
            home: Some(home),
            ..
        }) = self.table.get_mut(room_slot)
        else {
            return;
        };
        let Some(queue) = home.reviewed_mut() else {
            return;
        };
        let before = queue.len();
        let expired = queue.expire(env.now.tick, |message| denied.push(message));
        let (mut released, mut ordered) = (0, false);
        while let Some((held, rewrite)) = home.reviewed_mut().and_then(Pending::release) {
            released += 1;
            let message = held.allowed(rewrite.as_ref());
            let mut context = env.publish_context(&mut self.review_queue);
            if held.publish_request.speaker.is_shadowed {
                give_back((*id, held.id), message, &mut context);
                tell_kept(held.key, env);
                continue;
            }
            let said = || held.publish_request.saying(message.content);
            home.ask_afterwards((*id, held.id), said, &mut context);
            if let (Some(key), Some(requests)) = (held.key, &mut self.requests) {
                let room = &mut home.room;
                let sent = room.author_message(&mut requests.buffer, held.id, held.sent, message);
                let entry = entry(key, *id, sent, requests.buffer.split().freeze());
                let (epoch, outbox) = (key.epoch, &mut env.outbox);
                outbox.tell_cluster(ToCluster::Authored { epoch, entry });
            } else {
                ordered = true;
                home.room
                    .order(&mut env.deflater, held.id, held.sent, message);
                if let Some(answer) = self.speakers.remove(&held.id) {
                    let (id, sent) = (held.id, home.room.last_sent());
                    home.answer(answer, Said { id, sent }, self.gate.is_on());
                }
            }
        }
        self.review_queue
            .left(before - home.reviewed().map_or(0, Pending::len));
        if home.room.settings().review.is_none() {
            home.end_reviews();
        }
        env.metrics.review_expired.add_len(expired);
        env.metrics.review_allowed.add(released);
        if ordered {
            self.note_unflushed(room_slot, env.now.tick);
        }
    }
}

/// Tells the cluster, if a message came from there, that its user alone has it.
fn tell_kept<S>(key: Option<RequestKey>, env: &mut Env<S>) {
    if let Some(key) = key {
        refuse_request(key, (ErrorCode::NotAcceptable, KEPT), env);
    }
}
