//! Messages under review on one shard: how they are held, and which rooms may release some.

use std::collections::VecDeque;

use super::command::PublishRequest;
use super::mailbox::{MailboxSender, Refusable};
use super::metrics::ShardMetrics;
use super::settings::{AccountBudgets, ShardSettings};
use super::shard_room::{HomeRoom, RequestFault, ShardRoom};
use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::id::{FrameId, FrameIds, RoomId};
use uproar_proto::base::limits::REVIEW_HELD_MAX;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{Action, ErrorCode, texts};
use uproar_proto::room::RoomSettings;
use uproar_proto::room::review::Ticket;
use uproar_proto::ws::Deflater;

/// Asks the control thread for the review of a message.
#[derive(Debug)]
pub struct ReviewRequest {
    /// Its room.
    pub room: RoomId,
    /// Identifies the message in the verdict.
    pub ticket: Ticket,
    /// The `Id` the message will have.
    pub id: FrameId,
    /// Its texts.
    pub publish_request: PublishRequest,
    /// Most characters of a rewritten content.
    pub content_chars_max: u16,
    /// A verdict after this instant is ignored.
    pub deadline: Tick,
}

impl Refusable for ReviewRequest {}

/// A message under review.
#[derive(Debug)]
pub struct Held {
    /// The sender's request.
    pub publish_request: PublishRequest,
    /// The `Id`, assigned when the request arrived.
    pub id: FrameId,
    /// When the request arrived: the message's `SendTime`.
    pub sent: UnixTime,
}

/// The messages under review on one shard.
#[derive(Debug)]
pub struct ReviewQueue {
    requests: MailboxSender<ReviewRequest>,
    // Number of messages that all rooms hold.
    held: usize,
    // One entry for each message, in order: every review has the same time.
    deadlines: VecDeque<(Tick, Slot<ShardRoom>)>,
    // Rooms that may have something to release in this turn.
    deciding: Vec<Slot<ShardRoom>>,
}

impl ReviewQueue {
    /// Makes an empty queue; `requests` leads to the control thread.
    pub fn new(requests: MailboxSender<ReviewRequest>) -> Self {
        Self {
            requests,
            held: 0,
            deadlines: VecDeque::new(),
            deciding: Vec::new(),
        }
    }

    /// Number of messages that all rooms hold.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether no message is under review.
    pub fn is_idle(&self) -> bool {
        self.deadlines.is_empty() && self.deciding.is_empty()
    }

    /// Notes that `count` messages have left.
    pub fn left(&mut self, count: usize) {
        self.held -= count;
    }

    /// Notes that a room may have something to release in this turn.
    pub fn note(&mut self, room: Slot<ShardRoom>) {
        if self.deciding.last() != Some(&room) {
            self.deciding.push(room);
        }
    }

    /// Adds rooms whose deadline has passed to those of this turn. `is_due` tells whether a room
    /// still has a message for that deadline: most were decided long before. Returns the next
    /// deadline of an undecided message.
    pub fn expire(
        &mut self,
        now: Tick,
        is_due: impl Fn(Slot<ShardRoom>, Tick) -> bool,
    ) -> Option<Tick> {
        while let Some((deadline, room)) = self.deadlines.front().copied() {
            if is_due(room, deadline) {
                if deadline > now {
                    return Some(deadline);
                }
                self.note(room);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Takes the rooms of this turn; the caller gives the buffer back.
    pub fn take_deciding(&mut self) -> Vec<Slot<ShardRoom>> {
        std::mem::take(&mut self.deciding)
    }

    /// Takes the buffer of [`ReviewQueue::take_deciding`] back.
    pub fn reuse(&mut self, mut buffer: Vec<Slot<ShardRoom>>) {
        buffer.clear();
        self.deciding = buffer;
    }

    /// Wakes the control thread for new requests; returns whether some still wait.
    pub fn flush(&mut self) -> bool {
        self.requests.flush()
    }
}

/// The parts of a shard that a request needs.
#[derive(Debug)]
pub struct PublishContext<'a> {
    /// Source of frame ids.
    pub ids: &'a mut FrameIds,
    /// Compresses for the members that take compressed messages.
    pub deflater: &'a mut Deflater,
    /// The shard's messages under review.
    pub review_queue: &'a mut ReviewQueue,
    /// The shard's settings.
    pub settings: &'a ShardSettings,
    /// Rates of the account.
    pub budgets: &'a AccountBudgets,
    /// The shard's counters.
    pub metrics: &'a ShardMetrics,
    /// The time of this turn.
    pub now: Now,
}

impl HomeRoom {
    /// Gives a message its place in the room's order and asks for its review. The verdict appends
    /// it to the room, or its sender gets a refusal.
    pub(super) fn hold(
        &mut self,
        (room, slot): (RoomId, Slot<ShardRoom>),
        publish_request: &PublishRequest,
        context: &mut PublishContext<'_>,
    ) -> Result<FrameId, RequestFault> {
        let full = (ErrorCode::TooManyRequests, texts::RATE);
        let PublishContext {
            review_queue,
            settings,
            now,
            ..
        } = context;
        if review_queue.held >= REVIEW_HELD_MAX {
            return Err(full);
        }
        let pending = self.pending_queue();
        let ticket = pending.next_ticket().map_err(|_full| full)?;
        self.charge(Action::SendMessage, now.tick, settings, context.budgets)?;
        let RoomSettings {
            review,
            content_chars_max,
            ..
        } = self.room.settings();
        let id = context.ids.next_id();
        let held = Held {
            publish_request: publish_request.clone(),
            id,
            sent: now.unix,
        };
        let pending = self.pending_queue();
        let kept = if let Some(fallback) = review {
            let mut deadline = now.tick.after(settings.review_timeout);
            let request = ReviewRequest {
                room,
                ticket,
                id,
                publish_request: publish_request.clone(),
                content_chars_max,
                deadline,
            };
            if review_queue.requests.offer(request).is_ok() {
                review_queue.deadlines.push_back((deadline, slot));
            } else {
                // The control thread is behind: the fallback decides once the message is next in
                // order.
                context.metrics.review_shed.inc();
                deadline = now.tick;
            }
            pending.hold(held, deadline, fallback).map(|_ticket| ())
        } else {
            // The handler was detached: the message waits behind those that it still decides.
            pending.follow(held)
        };
        kept.map_err(|_full| full)?;
        review_queue.held += 1;
        review_queue.note(slot);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::doorbell::Doorbell;
    use crate::shard::mailbox::mailbox;
    use std::sync::Arc;
    use uproar_proto::base::table::Table;

    /// Goal: a shard wakes for the first deadline of an undecided message, not for decided ones.
    #[test]
    fn only_deadlines_of_undecided_messages_count() {
        let bell = Arc::new(Doorbell::new().expect("an eventfd"));
        let mut review_queue = ReviewQueue::new(mailbox(&bell).0);
        let mut table = Table::default();
        let settings = RoomSettings {
            content_chars_max: 500,
            messages_per_second: 10,
            review: None,
            archive: uproar_proto::room::ArchiveTargets::default(),
        };
        let id = RoomId::parse("TC6fLHr7ycLt").expect("an id");
        let [a, b] = [(); 2].map(|()| table.insert(ShardRoom::new(id, settings, None)));
        let at = Tick::from_nanos;
        review_queue
            .deadlines
            .extend([(at(10), a), (at(20), b), (at(30), a)]);
        assert_eq!(
            review_queue.expire(at(5), |room, _| room == b),
            Some(at(20))
        );
        assert!(review_queue.take_deciding().is_empty());
        assert_eq!(review_queue.expire(at(20), |_, _| true), Some(at(30)));
        assert_eq!(review_queue.take_deciding(), [b]);
        assert_eq!(review_queue.expire(at(30), |_, _| false), None);
    }
}
