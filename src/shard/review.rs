//! Messages under review on one shard: how they are held, and which rooms may release some.

use std::collections::VecDeque;

use super::command::PublishRequest;
use super::mailbox::{MailboxSender, Refusable};
use uproar_proto::base::clock::{Tick, UnixTime};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::REVIEW_HELD_MAX;
use uproar_proto::chat::review::Rewrite;
use uproar_proto::cluster::engine::RequestKey;
use uproar_proto::room::order::NewMessage;
use uproar_proto::room::review::Ticket;

/// Asks the control thread for the review of a message.
#[derive(Debug, Clone)]
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
    /// The function that reviews it after its delivery, as an ARN; `None`: the room's handler decides before.
    pub afterwards: Option<Box<str>>,
}

impl ReviewRequest {
    /// Asks a function about a message that is said.
    pub fn afterwards(
        (room, id): (RoomId, FrameId),
        publish_request: PublishRequest,
        function: Box<str>,
        deadline: Tick,
    ) -> Self {
        Self {
            room,
            ticket: Ticket::NONE,
            id,
            publish_request,
            content_chars_max: u16::MAX,
            deadline,
            afterwards: Some(function),
        }
    }
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
    /// Names it to the cluster, if it came from there: it gets what is decided.
    pub key: Option<RequestKey>,
}

impl Held {
    /// Returns the message as its verdict lets it be delivered.
    pub fn allowed<'a>(&'a self, rewrite: Option<&'a Rewrite>) -> NewMessage<'a> {
        let mut message = self.publish_request.message();
        if let Some(rewrite) = rewrite {
            message.content = &rewrite.content;
            if let Some(attributes_json) = rewrite.attributes_json.as_deref() {
                message.attributes_json = attributes_json;
            }
        }
        message
    }
}

/// The messages under review on one shard, whose owner knows rooms by `R`.
#[derive(Debug)]
pub struct ReviewQueue<R> {
    // To the control thread.
    requests: MailboxSender<ReviewRequest>,
    // Number of messages that all rooms hold, decided or not; at most `REVIEW_HELD_MAX`.
    held: usize,
    // The deadline of each message that the control thread was asked about, until it has passed or
    // nothing older is undecided. In order: every review has the same time.
    deadlines: VecDeque<(Tick, R)>,
    // Rooms that may have something to release in this turn; one may be in it several times.
    deciding: Vec<R>,
}

impl<R: Copy + PartialEq> ReviewQueue<R> {
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

    /// Whether the shard holds as many messages as it may.
    pub fn is_full(&self) -> bool {
        self.held >= REVIEW_HELD_MAX
    }

    /// Notes that `room` holds one more message.
    pub fn hold(&mut self, room: R) {
        debug_assert!(!self.is_full(), "the holder asks before");
        self.held += 1;
        self.note(room);
    }

    /// Asks for a review of a message of `room`; `false`: the control thread is behind.
    #[must_use]
    pub fn ask(&mut self, room: R, request: ReviewRequest) -> bool {
        let deadline = request.deadline;
        let is_asked = self.requests.offer(request).is_ok();
        if is_asked {
            self.deadlines.push_back((deadline, room));
        }
        is_asked
    }

    /// Asks for a review of a message that is said; `false`: the control thread is behind.
    #[must_use]
    pub fn ask_afterwards(&mut self, request: ReviewRequest) -> bool {
        self.requests.offer(request).is_ok()
    }

    /// Whether no message is under review.
    pub fn is_idle(&self) -> bool {
        self.deadlines.is_empty() && self.deciding.is_empty()
    }

    /// Rooms that hold messages, or did so a moment ago; some of them several times.
    pub fn holders(&self) -> impl Iterator<Item = R> {
        let undecided = self.deadlines.iter().map(|(_, room)| *room);
        undecided.chain(self.deciding.iter().copied())
    }

    /// Notes that `count` messages have left.
    pub fn left(&mut self, count: usize) {
        self.held -= count;
    }

    /// Notes that a room may have something to release in this turn.
    pub fn note(&mut self, room: R) {
        if self.deciding.last() != Some(&room) {
            self.deciding.push(room);
        }
    }

    /// Adds rooms whose deadline has passed to those of this turn. `is_due` tells whether a room
    /// still has a message for that deadline: most were decided long before. Returns the next
    /// deadline of an undecided message.
    pub fn expire(&mut self, now: Tick, is_due: impl Fn(R, Tick) -> bool) -> Option<Tick> {
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
    pub fn take_deciding(&mut self) -> Vec<R> {
        std::mem::take(&mut self.deciding)
    }

    /// Takes the buffer of [`ReviewQueue::take_deciding`] back.
    pub fn reuse(&mut self, mut buffer: Vec<R>) {
        buffer.clear();
        self.deciding = buffer;
    }

    /// Wakes the control thread for new requests; returns whether some still wait.
    pub fn flush(&mut self) -> bool {
        self.requests.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::doorbell::Doorbell;
    use crate::shard::mailbox::mailbox;
    use std::sync::Arc;

    /// Goal: a shard wakes for the first deadline of an undecided message, not for decided ones.
    #[test]
    fn only_deadlines_of_undecided_messages_count() {
        let bell = Arc::new(Doorbell::new().expect("an eventfd"));
        let mut review_queue = ReviewQueue::new(mailbox(&bell).0);
        let [a, b] = ['a', 'b'];
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
