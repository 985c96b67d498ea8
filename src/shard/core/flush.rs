//! From the open end of a room's log to every shard's audience: flushes, pace, ageing.

use super::{Core, Plan};
use crate::base::clock::Tick;
use crate::base::id::RoomId;
use crate::base::table::Slot;
use crate::net::wire::Wire;
use crate::room::audience::Audience;
use crate::room::log::{Batch, Window};
use crate::shard::command::Command;
use crate::shard::local::{Home, Local};
use crate::shard::mailbox::Post;
use crate::shard::settings::ShardId;

impl<W: Wire> Core<W> {
    /// Notes that a room at home here has something to flush.
    pub(super) fn note_speaking(&mut self, local_slot: Slot<Local>) {
        if let Some(local) = self.locals.get_mut(local_slot)
            && !local.speaking
        {
            local.speaking = true;
            self.speaking.push(local_slot);
        }
    }

    /// Flushes every room that is due; returns when the next one will be. One with members on a shard
    /// that does not keep up waits for it, all of it: a room has one order.
    pub(super) fn flush_rooms(&mut self) -> Plan {
        let mut next = Tick::from_nanos(u64::MAX);
        let mut waits = false;
        let mut speaking = std::mem::take(&mut self.speaking);
        speaking.retain(|local_slot| {
            let Some(Local {
                home: Some(home),
                audience,
                speaking,
                ..
            }) = self.locals.get_mut(*local_slot)
            else {
                return false;
            };
            let interval = self.pace.interval(most_members(home, audience.len()));
            match home.room.flush_due(interval, self.now.tick) {
                Some(due) if due > self.now.tick => {
                    next = next.min(due);
                    true
                }
                Some(_) if !has_room_for(home, self.id, &self.posts) => {
                    waits = true;
                    true
                }
                Some(_) => {
                    *speaking = false;
                    self.flush(*local_slot);
                    false
                }
                None => {
                    *speaking = false;
                    false
                }
            }
        });
        // Nothing was added meanwhile: flushing makes no room speak.
        self.speaking = speaking;
        if waits { Plan::Now } else { Plan::Wait(next) }
    }

    pub(super) fn flush(&mut self, local_slot: Slot<Local>) {
        let (now, window) = (self.now.tick, self.settings.window);
        let Some(Local {
            id,
            home: Some(home),
            audience,
            ..
        }) = self.locals.get_mut(local_slot)
        else {
            return;
        };
        let logged = !home.room.settings().archive.is_empty() || home.held > 0;
        if logged && self.handover.is_on() {
            return self.flush_logged(local_slot);
        }
        let Home {
            room,
            members,
            evictions,
            ..
        } = &mut **home;
        let room_id = *id;
        let mut spread = Spread {
            room: room_id,
            here: self.id,
            posts: &mut self.posts,
            window,
            now,
        };
        room.flush(now, |batch| spread.batch(members, audience, batch));
        let evictions = std::mem::take(evictions);
        self.follow_flush(local_slot, room_id, evictions);
    }

    /// Hands one batch to every shard with members, then evicts whom its events name.
    pub(super) fn fan_out(
        &mut self,
        local_slot: Slot<Local>,
        batch: Batch,
        evictions: Vec<(Box<str>, Box<str>)>,
    ) {
        let Some(Local {
            id,
            home: Some(home),
            audience,
            ..
        }) = self.locals.get_mut(local_slot)
        else {
            return;
        };
        let room_id = *id;
        let mut spread = Spread {
            room: room_id,
            here: self.id,
            posts: &mut self.posts,
            window: self.settings.window,
            now: self.now.tick,
        };
        spread.batch(&home.members, audience, batch);
        self.follow_flush(local_slot, room_id, evictions);
    }

    fn follow_flush(
        &mut self,
        local_slot: Slot<Local>,
        room_id: RoomId,
        evictions: Vec<(Box<str>, Box<str>)>,
    ) {
        self.note_walking(local_slot);
        self.note_logged(local_slot);
        for (user_id, reason) in evictions {
            self.send_to_others(|| Command::Evict(room_id, user_id.clone(), reason.clone()));
            self.evict(room_id, &user_id, &reason);
        }
    }

    /// A batch from the room's home shard.
    pub(super) fn take_batch(&mut self, room: RoomId, batch: Batch) {
        let Some(local_slot) = self.rooms.get(&room).copied() else {
            return;
        };
        if let Some(local) = self.locals.get_mut(local_slot) {
            local
                .audience
                .append(batch, self.settings.window, self.now.tick);
        }
        self.note_walking(local_slot);
        self.note_logged(local_slot);
    }

    fn note_logged(&mut self, local_slot: Slot<Local>) {
        if let Some(local) = self.locals.get_mut(local_slot)
            && !local.logged
        {
            local.logged = true;
            self.logged.push(local_slot);
        }
    }

    /// Drops what the window no longer holds, and the memory of rooms that fell silent.
    pub(super) fn age_logs(&mut self) {
        let (now, window, locals) = (self.now.tick, self.settings.window, &mut self.locals);
        self.logged.retain(|local_slot| {
            let Some(local) = locals.get_mut(*local_slot) else {
                return false;
            };
            local.audience.expire(window, now);
            local.logged = local.audience.log().bytes() > 0;
            if !local.logged
                && let Some(home) = &mut local.home
            {
                home.room.rest();
            }
            local.logged
        });
    }
}

/// Where a room's batches go.
struct Spread<'a, S> {
    room: RoomId,
    here: ShardId,
    posts: &'a mut [Post<Command<S>>],
    window: Window,
    now: Tick,
}

impl<S> Spread<'_, S> {
    /// To each shard with members, this one included.
    fn batch(&mut self, members: &[u32], audience: &mut Audience, batch: Batch) {
        let elsewhere = members
            .iter()
            .zip(self.posts.iter_mut())
            .enumerate()
            .filter(|(shard, (count, _))| *shard != self.here && **count > 0);
        for (_, (_, post)) in elsewhere {
            post.deliver(Command::Batch(self.room, batch.clone()));
        }
        if !audience.is_empty() {
            audience.append(batch, self.window, self.now);
        }
    }
}

/// Whether every shard that a flush of this room has something for would hear of it at once.
fn has_room_for<S>(home: &Home, here: ShardId, posts: &[Post<Command<S>>]) -> bool {
    let evicts = !home.evictions.is_empty();
    let mut shards = home.members.iter().zip(posts).enumerate();
    shards.all(|(shard, (members, post))| {
        shard == here || (*members == 0 && !evicts) || post.has_room()
    })
}

/// Members on the shard that has most of them.
fn most_members(home: &Home, here: usize) -> usize {
    let most = home.members.iter().max();
    most.map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX))
        .max(here)
}
