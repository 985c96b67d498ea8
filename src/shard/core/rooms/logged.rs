//! Logged rooms: a flush goes to the archive first, and to the viewers once it is in the spool.

use super::{Delivery, Env, Rooms};
use crate::shard::durability::{LoggedFrames, Offered};
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::table::Slot;

impl Rooms {
    /// Flushes a logged room, or one whose logging ended while deliveries of it are held: later
    /// batches must not overtake these, so they pass the same queue, for no spool. Returns what is
    /// to be delivered now, in order.
    pub(super) fn flush_logged<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        env: &Env<S>,
    ) -> Vec<Delivery> {
        let mut due = Vec::new();
        for (entry, delivery) in self.deliveries(room_slot, env.now.tick) {
            match self.gate.offer(entry, delivery, env.now.tick) {
                Offered::Held => self.note_held(room_slot, 1),
                Offered::Late(delivery) => {
                    env.metrics.log_late.add(delivery.logged);
                    due.push(delivery);
                }
                Offered::Missed(delivery) => {
                    env.metrics.log_missed.add(delivery.logged);
                    let own = |held: &Delivery| held.room_slot == room_slot;
                    for before in self.gate.release_some(own) {
                        env.metrics.log_late.add(before.logged);
                        self.note_held(room_slot, -1);
                        due.push(before);
                    }
                    due.push(delivery);
                }
            }
        }
        due
    }

    /// Cuts a room's messages off as batches, each with its entry for the archive.
    fn deliveries(
        &mut self,
        room_slot: Slot<ShardRoom>,
        now: Tick,
    ) -> Vec<(LoggedFrames, Delivery)> {
        let Some(ShardRoom {
            id,
            home: Some(home),
            ..
        }) = self.table.get_mut(room_slot)
        else {
            return Vec::new();
        };
        let (room, targets) = (*id, home.room.settings().archive);
        let mut deliveries = Vec::new();
        home.room.flush(now, |batch| {
            let entry = LoggedFrames {
                room,
                targets,
                frames: batch.plain.bytes().clone(),
            };
            let logged = if targets.is_empty() {
                0
            } else {
                u64::from(batch.frames)
            };
            let delivery = Delivery {
                room_slot,
                logged,
                batch,
                evictions: Vec::new(),
                answers: Vec::new(),
            };
            deliveries.push((entry, delivery));
        });
        if let Some((_, last)) = deliveries.last_mut() {
            last.evictions = std::mem::take(&mut home.evictions);
            last.answers = std::mem::take(&mut home.answers);
        }
        deliveries
    }

    /// Notes that the archive has spooled one more entry of this shard; returns the delivery that
    /// waited for it.
    pub(in crate::shard::core) fn spooled<S>(&mut self, env: &Env<S>) -> Option<Delivery> {
        let delivery = self.gate.spooled(env.now.tick)?;
        self.note_held(delivery.room_slot, -1);
        Some(delivery)
    }

    /// Releases held deliveries if their deadline has passed, in order.
    pub(in crate::shard::core) fn release_overdue<S>(&mut self, env: &Env<S>) -> Vec<Delivery> {
        let deadline = self.gate.deadline();
        if deadline.is_none_or(|deadline| env.now.tick < deadline) {
            return Vec::new();
        }
        let overdue = self.gate.release();
        for delivery in &overdue {
            env.metrics.log_late.add(delivery.logged);
            self.note_held(delivery.room_slot, -1);
        }
        overdue
    }

    /// When held deliveries must be released.
    pub(in crate::shard::core) fn release_due(&self) -> Option<Tick> {
        self.gate.deadline()
    }

    fn note_held(&mut self, room_slot: Slot<ShardRoom>, more: i32) {
        if let Some(home) = self.home_in(room_slot) {
            home.held = home.held.saturating_add_signed(more);
        }
    }
}
