//! Logged rooms: a flush goes to the archive first, and to the viewers when it is in the spool.

use super::Core;
use crate::base::id::{FrameId, RoomId};
use crate::base::table::Slot;
use crate::net::wire::Wire;
use crate::room::log::Batch;
use crate::shard::command::Answer;
use crate::shard::gateway::Refused;
use crate::shard::handover::{Entry, Offered};
use crate::shard::local::Local;

/// A batch of a logged room, on its way to the audience.
#[derive(Debug)]
pub(super) struct Delivery {
    local: Slot<Local>,
    batch: Batch,
    // Frames for the log: none of a room that is not logged any more.
    logged: u64,
    // With the last batch of a flush: whom to evict, and the API's callers to answer, behind it.
    evictions: Vec<(Box<str>, Box<str>)>,
    answers: Vec<(Answer<FrameId>, FrameId)>,
}

impl<W: Wire> Core<W> {
    /// A flush of a logged room, or of one whose logging ended while deliveries of it are held: these go first,
    /// so what follows takes the same way, for no spool.
    pub(super) fn flush_logged(&mut self, local_slot: Slot<Local>) {
        let Some(Local {
            id,
            home: Some(home),
            ..
        }) = self.locals.get_mut(local_slot)
        else {
            return;
        };
        let (room, targets) = (*id, home.room.settings().archive);
        let mut deliveries = Vec::new();
        home.room.flush(self.now.tick, |batch| {
            deliveries.push(Delivery {
                local: local_slot,
                logged: if targets.is_empty() {
                    0
                } else {
                    u64::from(batch.frames)
                },
                batch,
                evictions: Vec::new(),
                answers: Vec::new(),
            });
        });
        if let Some(last) = deliveries.last_mut() {
            last.evictions = std::mem::take(&mut home.evictions);
            last.answers = std::mem::take(&mut home.answers);
        }
        for delivery in deliveries {
            let entry = Entry {
                room,
                targets,
                frames: delivery.batch.plain.bytes().clone(),
            };
            match self.handover.offer(entry, delivery, self.now.tick) {
                Offered::Held => self.note_held(local_slot, 1),
                Offered::Late(delivery) => {
                    self.metrics.log_late.add(delivery.logged);
                    self.deliver_logged(delivery);
                }
                Offered::Missed(delivery) => {
                    self.metrics.log_missed.add(delivery.logged);
                    let own = self.handover.release_some(|held| held.local == local_slot);
                    for before in own {
                        self.metrics.log_late.add(before.logged);
                        self.deliver_held(before);
                    }
                    self.deliver_logged(delivery);
                }
            }
        }
    }

    /// The archive has spooled so many more entries of this shard.
    pub(super) fn take_spooled(&mut self, count: u32) {
        for _ in 0..count {
            if let Some(delivery) = self.handover.spooled(self.now.tick) {
                self.deliver_held(delivery);
            }
        }
    }

    /// Lets deliveries go ahead when their time is up.
    pub(super) fn release_overdue(&mut self) {
        let deadline = self.handover.deadline();
        if deadline.is_some_and(|deadline| self.now.tick >= deadline) {
            for delivery in self.handover.release() {
                self.metrics.log_late.add(delivery.logged);
                self.deliver_held(delivery);
            }
        }
    }

    /// Answers the API: at once, or when the event is in the spool if the room is logged.
    pub(super) fn answer(
        &mut self,
        room: RoomId,
        answer: Answer<FrameId>,
        outcome: Result<FrameId, Refused>,
    ) {
        let logged = self.handover.is_on();
        if let (Ok(id), true, Some(slot)) = (outcome, logged, self.rooms.get(&room))
            && let Some(Local {
                home: Some(home), ..
            }) = self.locals.get_mut(*slot)
            && !home.room.settings().archive.is_empty()
        {
            home.answers.push((answer, id));
            return;
        }
        let _nobody_waits = answer.send(outcome);
    }

    fn note_held(&mut self, local_slot: Slot<Local>, more: i32) {
        if let Some(Local {
            home: Some(home), ..
        }) = self.locals.get_mut(local_slot)
        {
            home.held = home.held.saturating_add_signed(more);
        }
    }

    fn deliver_held(&mut self, delivery: Delivery) {
        self.note_held(delivery.local, -1);
        self.deliver_logged(delivery);
    }

    fn deliver_logged(&mut self, delivery: Delivery) {
        for (answer, id) in delivery.answers {
            let _nobody_waits = answer.send(Ok(id));
        }
        self.fan_out(delivery.local, delivery.batch, delivery.evictions);
    }
}
