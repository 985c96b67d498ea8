//! Messages of a reviewed room between their arrival and its log.

use super::ruled::KEPT;
use super::{HomeRoom, OVER_RATE, PublishContext, RequestFault, ShardRoom};
use crate::shard::estate::rooms::Decided;
use crate::shard::review::{Held, ReviewRequest};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::table::Slot;
use uproar_proto::chat::ErrorCode;
use uproar_proto::cluster::engine::RequestKey;
use uproar_proto::extension::Speech;
use uproar_proto::extension::rules::Action;
use uproar_proto::room::review::{Fallback, Full};

/// The end of a request whose message is kept from the room; on a node of a cluster its home is told.
fn kept(id: FrameId, key: Option<RequestKey>) -> Result<FrameId, RequestFault> {
    match key {
        Some(_) => Err((ErrorCode::NotAcceptable, KEPT.into())),
        None => Ok(id),
    }
}

impl HomeRoom {
    /// Gives a message its place in the room's order and asks for its review. The verdict appends
    /// it to the room, or its sender gets a refusal.
    pub(super) fn hold(
        &mut self,
        (room, slot): (RoomId, Slot<ShardRoom>),
        held: Held,
        speech: &Speech<'_>,
        context: &mut PublishContext<'_>,
    ) -> Result<FrameId, RequestFault> {
        if context.review_queue.is_full() {
            return Err(OVER_RATE);
        }
        let ticket = self.pending_queue().next_ticket();
        ticket.map_err(|_full| OVER_RATE)?;
        let id = held.id;
        let ruling = self.admit(room, speech, context)?;
        let held = match ruling {
            None => held,
            Some(ruling) => {
                let Held {
                    publish_request,
                    key,
                    ..
                } = held;
                let publish_request = ruling.applied(publish_request);
                if ruling.action != Action::Mask {
                    self.keep((room, id), publish_request, &ruling, context);
                    return kept(id, key);
                }
                Held {
                    publish_request,
                    ..held
                }
            }
        };
        let kept = match self.room.settings().review {
            Some(fallback) => self.ask((room, slot), held, fallback, context),
            // The handler was detached: the message waits behind those that it still decides.
            None => self.pending_queue().follow(held),
        };
        kept.map_err(|_full| OVER_RATE)?;
        context.review_queue.hold(slot);
        Ok(id)
    }

    /// Holds a message and asks for its review.
    fn ask(
        &mut self,
        (room, slot): (RoomId, Slot<ShardRoom>),
        held: Held,
        fallback: Fallback,
        context: &mut PublishContext<'_>,
    ) -> Result<(), Full> {
        let content_chars_max = self.room.settings().content_chars_max;
        let pending = self.pending_queue();
        let mut deadline = context.now.tick.after(context.settings.review_timeout);
        let request = ReviewRequest {
            room,
            ticket: pending.next_ticket()?,
            id: held.id,
            publish_request: held.publish_request.clone(),
            content_chars_max,
            deadline,
            afterwards: None,
        };
        if !context.review_queue.ask(slot, request) {
            // The fallback decides once the message is next in order.
            context.metrics.review_shed.inc();
            deadline = context.now.tick;
        }
        pending.hold(held, deadline, fallback).map(|_ticket| ())
    }

    /// Puts a message that another process held at the end of the queue; one without a verdict is reviewed again. It
    /// was charged there.
    pub(in crate::shard) fn inherit_held(
        &mut self,
        place: (RoomId, Slot<ShardRoom>),
        held: Held,
        decided: Decided,
        context: &mut PublishContext<'_>,
    ) {
        let kept = match decided {
            _ if context.review_queue.is_full() => Err(Full),
            Decided::Waits(fallback) => self.ask(place, held, fallback, context),
            Decided::Allowed(rewrite) => self.pending_queue().inherit_allowed(held, rewrite),
        };
        match kept {
            Ok(()) => context.review_queue.hold(place.1),
            // It had room in a process with the same bounds.
            Err(Full) => context.metrics.review_shed.inc(),
        }
    }
}
