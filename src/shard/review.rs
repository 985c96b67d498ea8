//! What a shard keeps of messages under review: how one is held, and which rooms must be looked at.

use std::collections::VecDeque;

use super::command::{Action, Posted};
use super::local::{Home, Local, RequestFault};
use super::mailbox::{Post, Refusable};
use super::metrics::ShardMetrics;
use super::settings::{AccountBudgets, ShardSettings};
use crate::base::clock::{Now, Tick, UnixTime};
use crate::base::id::{FrameId, FrameIds, RoomId};
use crate::base::limits::REVIEW_HELD_MAX;
use crate::base::table::Slot;
use crate::protocol::chat::{ErrorCode, texts};
use crate::room::RoomSettings;
use crate::room::review::Ticket;

/// A message that the control thread is asked to have reviewed.
#[derive(Debug)]
pub struct ReviewRequest {
    /// Its room.
    pub room: RoomId,
    /// Names it in the verdict.
    pub ticket: Ticket,
    /// The `Id` it will have.
    pub id: FrameId,
    /// Its texts.
    pub posted: Posted,
    /// What an allowed content is held to.
    pub content_chars_max: u16,
    /// From then on a verdict counts for nothing.
    pub deadline: Tick,
}

impl Refusable for ReviewRequest {}

/// A message under review.
#[derive(Debug)]
pub struct Held {
    /// As it came.
    pub posted: Posted,
    /// Given when it came.
    pub id: FrameId,
    /// When it came: its `SendTime`.
    pub sent: UnixTime,
}

/// The reviews of one shard.
#[derive(Debug)]
pub struct Docket {
    requests: Post<ReviewRequest>,
    // Messages that all rooms hold.
    held: usize,
    // One entry for each message, in order: every review has the same time.
    deadlines: VecDeque<(Tick, Slot<Local>)>,
    // Rooms that may have something to release in this turn.
    deciding: Vec<Slot<Local>>,
}

impl Docket {
    /// Nothing under review; `requests` leads to the control thread.
    pub fn new(requests: Post<ReviewRequest>) -> Self {
        Self {
            requests,
            held: 0,
            deadlines: VecDeque::new(),
            deciding: Vec::new(),
        }
    }

    /// Messages that all rooms hold.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether there is nothing to look at.
    pub fn is_idle(&self) -> bool {
        self.deadlines.is_empty() && self.deciding.is_empty()
    }

    /// Notes that `count` messages have left.
    pub fn left(&mut self, count: usize) {
        self.held -= count;
    }

    /// Notes that a room may have something to release in this turn.
    pub fn note(&mut self, room: Slot<Local>) {
        if self.deciding.last() != Some(&room) {
            self.deciding.push(room);
        }
    }

    /// Moves rooms whose deadline has come to those of this turn. `is_due` says whether a room still
    /// has a message for that deadline: most were decided long before.
    /// Returns the next deadline that counts.
    pub fn expire(
        &mut self,
        now: Tick,
        is_due: impl Fn(Slot<Local>, Tick) -> bool,
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

    /// The rooms of this turn; give the buffer back.
    pub fn take_deciding(&mut self) -> Vec<Slot<Local>> {
        std::mem::take(&mut self.deciding)
    }

    /// Takes the buffer of [`Docket::take_deciding`] back.
    pub fn reuse(&mut self, mut buffer: Vec<Slot<Local>>) {
        buffer.clear();
        self.deciding = buffer;
    }

    /// Wakes the control thread for what was asked of it; returns whether something still waits.
    pub fn flush(&mut self) -> bool {
        self.requests.flush()
    }
}

/// What a home needs from its shard to have a message reviewed.
#[derive(Debug)]
pub struct Intake<'a> {
    /// Source of frame ids.
    pub ids: &'a mut FrameIds,
    /// The shard's reviews.
    pub docket: &'a mut Docket,
    /// The shard's settings.
    pub settings: &'a ShardSettings,
    /// Rates of the account.
    pub budgets: &'a AccountBudgets,
    /// The shard's counters.
    pub metrics: &'a ShardMetrics,
    /// The turn's time.
    pub now: Now,
}

impl Home {
    /// Gives a message its place in the room's order and asks for its review. It is said, or its
    /// sender told, once the verdict is there.
    pub fn hold(
        &mut self,
        (room, slot): (RoomId, Slot<Local>),
        posted: &Posted,
        intake: &mut Intake<'_>,
    ) -> Result<FrameId, RequestFault> {
        let full = (ErrorCode::TooManyRequests, texts::RATE);
        let Intake {
            docket,
            settings,
            now,
            ..
        } = intake;
        if docket.held >= REVIEW_HELD_MAX {
            return Err(full);
        }
        let pending = self.pending.get_or_insert_default();
        let ticket = pending.next_ticket().map_err(|_full| full)?;
        self.charge(Action::Send, now.tick, settings, intake.budgets)?;
        let RoomSettings {
            review,
            content_chars_max,
            ..
        } = self.room.settings();
        let id = intake.ids.next_id();
        let held = Held {
            posted: posted.clone(),
            id,
            sent: now.unix,
        };
        let pending = self.pending.get_or_insert_default();
        let kept = if let Some(fallback) = review {
            let mut deadline = now.tick.after(settings.review_timeout);
            let request = ReviewRequest {
                room,
                ticket,
                id,
                posted: posted.clone(),
                content_chars_max,
                deadline,
            };
            if docket.requests.offer(request).is_ok() {
                docket.deadlines.push_back((deadline, slot));
            } else {
                // The control thread is behind: the fallback decides as soon as order allows.
                intake.metrics.review_shed.inc();
                deadline = now.tick;
            }
            pending.hold(held, deadline, fallback).map(|_ticket| ())
        } else {
            // The handler was detached: order is kept behind what it still decides.
            pending.follow(held)
        };
        kept.map_err(|_full| full)?;
        docket.held += 1;
        docket.note(slot);
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::table::Table;
    use crate::shard::doorbell::Doorbell;
    use crate::shard::mailbox::mailbox;
    use std::sync::Arc;

    /// Goal: a shard wakes for the first deadline that still counts, not for decided messages.
    #[test]
    fn only_live_deadlines_count() {
        let bell = Arc::new(Doorbell::new().expect("an eventfd"));
        let mut docket = Docket::new(mailbox(&bell).0);
        let mut table = Table::default();
        let settings = RoomSettings {
            content_chars_max: 500,
            messages_per_second: 10,
            review: None,
            archive: crate::room::ArchiveTargets::default(),
        };
        let id = RoomId::parse("TC6fLHr7ycLt").expect("an id");
        let [a, b] = [(); 2].map(|()| table.insert(Local::new(id, settings, None)));
        let at = Tick::from_nanos;
        docket
            .deadlines
            .extend([(at(10), a), (at(20), b), (at(30), a)]);
        assert_eq!(docket.expire(at(5), |room, _| room == b), Some(at(20)));
        assert!(docket.take_deciding().is_empty());
        assert_eq!(docket.expire(at(20), |_, _| true), Some(at(30)));
        assert_eq!(docket.take_deciding(), [b]);
        assert_eq!(docket.expire(at(30), |_, _| false), None);
    }
}
