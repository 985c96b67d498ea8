//! From the open end of a room's log to every shard's audience: flushes, pace, ageing.

use super::{Core, Plan};
use crate::net::io::Io;
use crate::shard::command::{Command, Eviction};
use crate::shard::mailbox::MailboxSender;
use crate::shard::settings::ShardId;
use crate::shard::shard_room::{HomeRoom, ShardRoom};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::table::Slot;
use uproar_proto::room::audience::Audience;
use uproar_proto::room::log::{Batch, Window};

impl<W: Io> Core<W> {
    /// Notes that a room at home here has something to flush.
    pub(super) fn note_unflushed(&mut self, room_slot: Slot<ShardRoom>) {
        if let Some(shard_room) = self.shard_rooms.get_mut(room_slot)
            && !shard_room.unflushed
        {
            shard_room.unflushed = true;
            self.unflushed.push(room_slot);
        }
    }

    /// Flushes every room that is due; returns when the next one will be. A room with members on a shard that
    /// does not keep up waits for it on all shards, because a room has one order.
    pub(super) fn flush_rooms(&mut self) -> Plan {
        let mut next = Tick::from_nanos(u64::MAX);
        let mut waits = false;
        let mut unflushed = std::mem::take(&mut self.unflushed);
        unflushed.retain(|room_slot| {
            let Some(ShardRoom {
                home: Some(home),
                audience,
                unflushed,
                ..
            }) = self.shard_rooms.get_mut(*room_slot)
            else {
                return false;
            };
            let interval = self.pace.interval(most_members(home, audience.len()));
            match home.room.flush_due(interval, self.now.tick) {
                Some(due) if due > self.now.tick => {
                    next = next.min(due);
                    true
                }
                Some(_) if !has_room_for(home, self.id, &self.mailboxes) => {
                    waits = true;
                    true
                }
                Some(_) => {
                    *unflushed = false;
                    self.flush(*room_slot);
                    false
                }
                None => {
                    *unflushed = false;
                    false
                }
            }
        });
        // No room was added meanwhile: a flush appends no messages.
        self.unflushed = unflushed;
        if waits { Plan::Now } else { Plan::Wait(next) }
    }

    pub(super) fn flush(&mut self, room_slot: Slot<ShardRoom>) {
        let (now, window) = (self.now.tick, self.settings.window);
        let Some(ShardRoom {
            id,
            home: Some(home),
            audience,
            ..
        }) = self.shard_rooms.get_mut(room_slot)
        else {
            return;
        };
        let logged = !home.room.settings().archive.is_empty() || home.held > 0;
        if logged && self.durability.is_on() {
            return self.flush_logged(room_slot);
        }
        let HomeRoom {
            room,
            members,
            evictions,
            ..
        } = &mut **home;
        let room_id = *id;
        let mut spread = Spread {
            room: room_id,
            here: self.id,
            mailboxes: &mut self.mailboxes,
            window,
            now,
        };
        room.flush(now, |batch| spread.batch(members, audience, batch));
        let evictions = std::mem::take(evictions);
        self.follow_flush(room_slot, room_id, evictions);
    }

    /// Hands one batch to every shard with members, then evicts the users that its events name.
    pub(super) fn fan_out(
        &mut self,
        room_slot: Slot<ShardRoom>,
        batch: Batch,
        evictions: Vec<Eviction>,
    ) {
        let Some(ShardRoom {
            id,
            home: Some(home),
            audience,
            ..
        }) = self.shard_rooms.get_mut(room_slot)
        else {
            return;
        };
        let room_id = *id;
        let mut spread = Spread {
            room: room_id,
            here: self.id,
            mailboxes: &mut self.mailboxes,
            window: self.settings.window,
            now: self.now.tick,
        };
        spread.batch(&home.members, audience, batch);
        self.follow_flush(room_slot, room_id, evictions);
    }

    fn follow_flush(
        &mut self,
        room_slot: Slot<ShardRoom>,
        room_id: RoomId,
        evictions: Vec<Eviction>,
    ) {
        self.note_walking(room_slot);
        self.note_aging(room_slot);
        for eviction in evictions {
            self.send_to_others(|| Command::Evict(room_id, eviction.clone()));
            self.evict(room_id, &eviction);
        }
    }

    /// Takes a batch from the room's home shard.
    pub(super) fn take_batch(&mut self, room: RoomId, batch: Batch) {
        let Some(room_slot) = self.rooms.get(&room).copied() else {
            return;
        };
        if let Some(shard_room) = self.shard_rooms.get_mut(room_slot) {
            shard_room
                .audience
                .append(batch, self.settings.window, self.now.tick);
        }
        self.note_walking(room_slot);
        self.note_aging(room_slot);
    }

    fn note_aging(&mut self, room_slot: Slot<ShardRoom>) {
        if let Some(shard_room) = self.shard_rooms.get_mut(room_slot)
            && !shard_room.aging
        {
            shard_room.aging = true;
            self.aging.push(room_slot);
        }
    }

    /// Drops batches that the window no longer holds, and frees the memory of rooms without messages.
    pub(super) fn age_logs(&mut self) {
        let (now, window, shard_rooms) =
            (self.now.tick, self.settings.window, &mut self.shard_rooms);
        self.aging.retain(|room_slot| {
            let Some(shard_room) = shard_rooms.get_mut(*room_slot) else {
                return false;
            };
            shard_room.audience.expire(window, now);
            shard_room.aging = shard_room.audience.log().bytes() > 0;
            if !shard_room.aging
                && let Some(home) = &mut shard_room.home
            {
                home.room.release_memory();
            }
            shard_room.aging
        });
    }
}

/// Hands a room's batches to the shards.
struct Spread<'a, S> {
    room: RoomId,
    here: ShardId,
    mailboxes: &'a mut [MailboxSender<Command<S>>],
    window: Window,
    now: Tick,
}

impl<S> Spread<'_, S> {
    /// Hands a batch to each shard with members, this one included.
    fn batch(&mut self, members: &[u32], audience: &mut Audience, batch: Batch) {
        let elsewhere = members
            .iter()
            .zip(self.mailboxes.iter_mut())
            .enumerate()
            .filter(|(shard, (count, _))| *shard != self.here && **count > 0);
        for (_, (_, mailbox)) in elsewhere {
            mailbox.deliver(Command::Batch(self.room, batch.clone()));
        }
        if !audience.is_empty() {
            audience.append(batch, self.window, self.now);
        }
    }
}

/// Whether the mailbox to every shard that a flush of this room concerns has room.
fn has_room_for<S>(
    home: &HomeRoom,
    here: ShardId,
    mailboxes: &[MailboxSender<Command<S>>],
) -> bool {
    let evicts = !home.evictions.is_empty();
    let mut shards = home.members.iter().zip(mailboxes).enumerate();
    shards.all(|(shard, (members, mailbox))| {
        shard == here || (*members == 0 && !evicts) || mailbox.has_room()
    })
}

/// Returns the number of members on the shard that has most of them.
fn most_members(home: &HomeRoom, here: usize) -> usize {
    let most = home.members.iter().max();
    most.map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX))
        .max(here)
}
