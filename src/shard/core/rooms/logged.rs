//! Logged rooms: a flush goes to the archive first, and to the viewers once it is in the spool.

use super::{Delivery, Env, Rooms};
use crate::shard::cluster::ToCluster;
use crate::shard::durability::{LoggedFrames, Offered};
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::table::Slot;
use uproar_proto::cluster::record::Entry;
use uproar_proto::cluster::{Epoch, HashSlot, Sequence};

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
            accepted,
            ..
        }) = self.table.get_mut(room_slot)
        else {
            return Vec::new();
        };
        let (room, targets) = (*id, home.room.settings().archive);
        let accepted = accepted.take().unwrap_or(now);
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
                accepted,
                moderated: None,
                evictions: Vec::new(),
                answers: Vec::new(),
            };
            deliveries.push((entry, delivery));
        });
        if let Some((_, last)) = deliveries.last_mut() {
            last.evictions = std::mem::take(&mut home.evictions);
            last.moderated = home.moderated.take();
            last.answers = std::mem::take(&mut home.answers);
        }
        deliveries
    }

    /// Notes that the archive has spooled one more entry of this shard; returns the delivery that
    /// waited for it.
    pub(in crate::shard::core) fn spooled<S>(&mut self, env: &Env<S>) -> Option<Delivery> {
        let delivery = self.gate.spooled(env.now.tick);
        if let Some(archived) = &mut self.archived {
            archived.spooled(self.gate.answered());
        }
        let delivery = delivery?;
        self.note_held(delivery.room_slot, -1);
        Some(delivery)
    }

    /// Hands committed entries of logged rooms to this node's archive. Members do not wait for it, because the entries are
    /// in the cluster's log: the next home hands over what this one did not.
    pub(in crate::shard::core) fn log_committed<S>(
        &mut self,
        (slot, epoch, sequence): (HashSlot, Epoch, Sequence),
        entries: &[Entry],
        env: &Env<S>,
    ) {
        let mut last = None;
        for entry in entries {
            let Some((_, home)) = self.home_mut(entry.room) else {
                continue;
            };
            let targets = home.room.settings().archive;
            if targets.is_empty() || entry.frame.is_empty() {
                continue;
            }
            let logged = LoggedFrames {
                room: entry.room,
                targets,
                frames: entry.frame.clone(),
            };
            match self.gate.hand(logged) {
                Some(number) => last = Some(number),
                None => env.metrics.log_missed.inc(),
            }
        }
        if let Some(archived) = &mut self.archived {
            archived.handed((slot, epoch), sequence, last);
        }
    }

    /// Tells the cluster how far its logs are in the archive of this node, as far as that changed. Call it once a second
    /// or so: that much is logged twice if the node dies.
    pub(in crate::shard::core) fn tell_archived<S>(&mut self, env: &mut Env<S>) {
        if let Some(archived) = &mut self.archived {
            for (slot, epoch, sequence) in archived.take_news() {
                env.outbox.tell_cluster(ToCluster::Archived {
                    slot,
                    epoch,
                    sequence,
                });
            }
        }
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
