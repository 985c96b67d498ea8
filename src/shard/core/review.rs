//! Reviewed rooms: verdicts in, messages released in their order, senders told of denials.
//!
//! The home shard is the authority over the deadline: a verdict that comes later, twice or never
//! changes nothing.

use super::Core;
use crate::base::clock::Tick;
use crate::base::id::RoomId;
use crate::base::table::Slot;
use crate::net::wire::Wire;
use crate::protocol::chat::review::Verdict;
use crate::protocol::chat::{ErrorCode, texts};
use crate::room::order::Said;
use crate::room::review::{Denied, Ticket};
use crate::shard::local::{Home, Local};
use crate::shard::review::Held;

impl<W: Wire> Core<W> {
    /// What a review came to. An allowed message is released at the end of the turn.
    pub(super) fn take_verdict(&mut self, room: RoomId, ticket: Ticket, verdict: Option<Verdict>) {
        let Some(local_slot) = self.rooms.get(&room).copied() else {
            return;
        };
        let local = self.locals.get_mut(local_slot);
        let pending = local
            .and_then(|local| local.home.as_mut())
            .and_then(|home| home.pending.as_mut());
        let Some(pending) = pending else { return };
        let denied = pending.decide(ticket, verdict, self.now.tick);
        self.docket.note(local_slot);
        if let Some(denied) = denied {
            self.tell_denied(&denied);
        }
    }

    /// Says what is decided and next in its room's order; returns the next deadline of a review.
    pub(super) fn release_reviewed(&mut self) -> Option<Tick> {
        if self.docket.is_idle() {
            return None;
        }
        let locals = &self.locals;
        let is_due = |slot, deadline| {
            locals
                .get(slot)
                .and_then(|local: &Local| local.home.as_ref()?.pending.as_ref()?.next_deadline())
                .is_some_and(|next| next <= deadline)
        };
        let next = self.docket.expire(self.now.tick, is_due);
        let deciding = self.docket.take_deciding();
        for local_slot in &deciding {
            self.release(*local_slot);
        }
        self.docket.reuse(deciding);
        self.metrics.review_held.set(self.docket.held() as u64);
        next
    }

    /// Releases one room's messages as far as they are decided.
    fn release(&mut self, local_slot: Slot<Local>) {
        let Some(Local {
            home: Some(home), ..
        }) = self.locals.get_mut(local_slot)
        else {
            return;
        };
        let Home { room, pending, .. } = &mut **home;
        let Some(queue) = pending else { return };
        let before = queue.len();
        let mut all_denied = Vec::new();
        let expired = queue.expire(self.now.tick, |denied| all_denied.push(denied));
        let mut released = 0;
        while let Some((held, rewrite)) = queue.release() {
            released += 1;
            let [content, attributes_json, request_id, sender_json] = held.posted.texts();
            let said = match &rewrite {
                None => Said {
                    content,
                    attributes_json,
                    request_id,
                    sender_json,
                },
                Some(rewrite) => Said {
                    content: &rewrite.content,
                    attributes_json: rewrite
                        .attributes_json
                        .as_deref()
                        .unwrap_or(attributes_json),
                    request_id,
                    sender_json,
                },
            };
            room.publish(&mut self.deflater, held.id, held.sent, said);
        }
        self.docket.left(before - queue.len());
        if queue.is_empty() && room.settings().review.is_none() {
            *pending = None;
        }
        self.metrics.review_expired.add(expired as u64);
        self.metrics.review_allowed.add(released);
        if released > 0 {
            self.note_speaking(local_slot);
        }
        for denied in all_denied {
            self.tell_denied(&denied);
        }
    }

    fn tell_denied(&mut self, denied: &Denied<Held>) {
        self.metrics.review_denied.inc();
        let Held { posted, id, .. } = &denied.message;
        let reason = match &*denied.reason {
            "" => texts::DENIED,
            reason => reason,
        };
        self.refuse_sender(posted, *id, ErrorCode::NotAcceptable, reason);
    }
}
