//! Logged rooms: a flush goes to the archive first, and to the viewers once it is in the spool.

use super::Core;
use crate::net::io::Io;
use crate::shard::command::Refused;
use crate::shard::command::{Answer, Eviction};
use crate::shard::durability::{Entry, Offered};
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::table::Slot;
use uproar_proto::room::log::Batch;

/// A batch of a logged room that waits for the spool before it goes to the audience.
#[derive(Debug)]
pub(super) struct Delivery {
    shard_room: Slot<ShardRoom>,
    batch: Batch,
    // Frames for the archive; zero once the room is not logged any more.
    logged: u64,
    // With the last batch of a flush: users to evict and API calls to answer after it.
    evictions: Vec<Eviction>,
    answers: Vec<(Answer<FrameId>, FrameId)>,
}

impl<W: Io> Core<W> {
    /// Flushes a logged room, or one whose logging ended while deliveries of it are held: later batches must not
    /// overtake these, so they pass the same queue, for no spool.
    pub(super) fn flush_logged(&mut self, room_slot: Slot<ShardRoom>) {
        let Some(ShardRoom {
            id,
            home: Some(home),
            ..
        }) = self.shard_rooms.get_mut(room_slot)
        else {
            return;
        };
        let (room, targets) = (*id, home.room.settings().archive);
        let mut deliveries = Vec::new();
        home.room.flush(self.now.tick, |batch| {
            deliveries.push(Delivery {
                shard_room: room_slot,
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
            match self.durability.offer(entry, delivery, self.now.tick) {
                Offered::Held => self.note_held(room_slot, 1),
                Offered::Late(delivery) => {
                    self.metrics.log_late.add(delivery.logged);
                    self.deliver_logged(delivery);
                }
                Offered::Missed(delivery) => {
                    self.metrics.log_missed.add(delivery.logged);
                    let own = self
                        .durability
                        .release_some(|held| held.shard_room == room_slot);
                    for before in own {
                        self.metrics.log_late.add(before.logged);
                        self.deliver_held(before);
                    }
                    self.deliver_logged(delivery);
                }
            }
        }
    }

    /// Notes that the archive has spooled `count` more entries of this shard.
    pub(super) fn take_spooled(&mut self, count: u32) {
        for _ in 0..count {
            if let Some(delivery) = self.durability.spooled(self.now.tick) {
                self.deliver_held(delivery);
            }
        }
    }

    /// Releases held deliveries whose deadline has passed.
    pub(super) fn release_overdue(&mut self) {
        let deadline = self.durability.deadline();
        if deadline.is_some_and(|deadline| self.now.tick >= deadline) {
            for delivery in self.durability.release() {
                self.metrics.log_late.add(delivery.logged);
                self.deliver_held(delivery);
            }
        }
    }

    /// Answers an API call: at once, or once the event is in the spool if the room is logged.
    pub(super) fn answer(
        &mut self,
        room: RoomId,
        answer: Answer<FrameId>,
        outcome: Result<FrameId, Refused>,
    ) {
        let logged = self.durability.is_on();
        if let (Ok(id), true, Some(slot)) = (outcome, logged, self.rooms.get(&room))
            && let Some(ShardRoom {
                home: Some(home), ..
            }) = self.shard_rooms.get_mut(*slot)
            && !home.room.settings().archive.is_empty()
        {
            home.answers.push((answer, id));
            return;
        }
        let _caller_gone = answer.send(outcome);
    }

    fn note_held(&mut self, room_slot: Slot<ShardRoom>, more: i32) {
        if let Some(ShardRoom {
            home: Some(home), ..
        }) = self.shard_rooms.get_mut(room_slot)
        {
            home.held = home.held.saturating_add_signed(more);
        }
    }

    fn deliver_held(&mut self, delivery: Delivery) {
        self.note_held(delivery.shard_room, -1);
        self.deliver_logged(delivery);
    }

    fn deliver_logged(&mut self, delivery: Delivery) {
        for (answer, id) in delivery.answers {
            let _caller_gone = answer.send(Ok(id));
        }
        self.fan_out(delivery.shard_room, delivery.batch, delivery.evictions);
    }
}
