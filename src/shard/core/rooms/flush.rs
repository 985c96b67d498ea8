//! From the open end of a room's log to every shard's audience: flushes, pace, ageing.

use std::time::Duration;

use super::memory::send_redaction;
use super::unsaid::{redact, unsay};
use super::{Delivery, Env, Flushed, Rooms};
use crate::net::io::Queued;
use crate::shard::command::{Command, Eviction, UserEvent};
use crate::shard::core::member_commands;
use crate::shard::shard_room::moderated::Moderated;
use crate::shard::shard_room::remembering::Remembering;
use crate::shard::shard_room::{HomeRoom, ShardRoom};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::table::Slot;
use uproar_proto::room::RoomSettings;
use uproar_proto::room::audience::Audience;
use uproar_proto::room::log::Batch;
use uproar_proto::room::redaction::Redaction;

/// Whether a room with something to flush is flushed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::shard::core) enum FlushDue {
    /// It is.
    Now,
    /// At this instant.
    At(Tick),
    /// As soon as the mailboxes to its members' shards have room. It waits on all shards, because a
    /// room has one order.
    Held,
    /// It has nothing to flush, or is gone.
    Never,
}

impl Rooms {
    /// Notes that a room at home here has something to flush.
    pub(super) fn note_unflushed(&mut self, room_slot: Slot<ShardRoom>, now: Tick) {
        if let Some(shard_room) = self.table.get_mut(room_slot)
            && !shard_room.unflushed
        {
            shard_room.unflushed = true;
            shard_room.accepted = Some(now);
            self.unflushed.push(room_slot);
        }
    }

    /// Takes the list of rooms with something to flush; [`Rooms::put_back_unflushed`] follows.
    pub(in crate::shard::core) fn take_unflushed(&mut self) -> Vec<Slot<ShardRoom>> {
        std::mem::take(&mut self.unflushed)
    }

    /// Takes those back that were not flushed, in the list's own buffer.
    pub(in crate::shard::core) fn put_back_unflushed(&mut self, rooms: Vec<Slot<ShardRoom>>) {
        debug_assert!(self.unflushed.is_empty(), "a flush appends no messages");
        self.unflushed = rooms;
    }

    /// Decides whether a room of the list is flushed now. With `Now` and `Never` it leaves the
    /// list.
    pub(in crate::shard::core) fn flush_due<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        env: &Env<S>,
    ) -> FlushDue {
        let Some(ShardRoom {
            home: Some(home),
            audience,
            unflushed,
            ..
        }) = self.table.get_mut(room_slot)
        else {
            return FlushDue::Never;
        };
        let interval = if self.hurries {
            Duration::ZERO
        } else {
            self.pace.interval(most_members(home, audience.len()))
        };
        let due = home.room.flush_due(interval, env.now.tick);
        let has_room = || {
            let evicts = !home.evictions.is_empty();
            env.outbox.has_room_for(&home.members, evicts)
        };
        let due = match due {
            Some(due) if due > env.now.tick => FlushDue::At(due),
            Some(_) if !has_room() => FlushDue::Held,
            Some(_) => FlushDue::Now,
            None => FlushDue::Never,
        };
        *unflushed = matches!(due, FlushDue::At(_) | FlushDue::Held);
        due
    }

    /// Flushes a room at home here: its messages become batches for all members, or first for the
    /// archive.
    pub(in crate::shard::core) fn flush<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        env: &mut Env<S>,
    ) -> Flushed {
        let Some(ShardRoom {
            id,
            home: Some(home),
            settings,
            audience,
            accepted,
            spreading,
            moderated,
            ..
        }) = self.table.get_mut(room_slot)
        else {
            return Flushed::Sent(Vec::new());
        };
        let logged = !home.room.settings().archive.is_empty() || home.held > 0;
        if logged && self.gate.is_on() && !home.is_clustered() {
            return Flushed::Logged(self.flush_logged(room_slot, env));
        }
        let HomeRoom {
            room,
            members,
            frames,
            remembering,
            unpinned,
            ..
        } = &mut **home;
        let since = accepted.take().unwrap_or(env.now.tick);
        let unsaid = &mut self.unsaid;
        room.flush(env.now.tick, |mut batch| {
            if let Some(remembering) = remembering {
                let place = (*id, &**members, *frames);
                let shown = (&*settings, &mut *unpinned);
                batch = observe(remembering, batch, place, (audience, unsaid, shown), env);
            }
            *frames += u64::from(batch.frames);
            env.outbox.send_batch(*id, members, &batch, since);
            if !audience.is_empty() {
                audience.append(batch, env.settings.window, env.now.tick);
                spreading.get_or_insert(since);
            }
        });
        if let Some(since) = home.moderated.take() {
            send_moderated((*id, &home.members), since, env);
            if !audience.is_empty() {
                Moderated::note(moderated, since, audience);
            }
        }
        let evictions = std::mem::take(&mut home.evictions);
        self.note_walking(room_slot);
        self.note_aging(room_slot);
        Flushed::Sent(evictions)
    }

    /// Delivers a batch of a logged room: answers the calls that wait for it and hands it to every
    /// shard with members. Returns the users to evict after it.
    pub(in crate::shard::core) fn deliver<S>(
        &mut self,
        delivery: Delivery,
        env: &mut Env<S>,
    ) -> (Slot<ShardRoom>, Vec<Eviction>) {
        let Delivery {
            room_slot,
            mut batch,
            evictions,
            answers,
            accepted,
            moderated: since,
            ..
        } = delivery;
        for (answer, id) in answers {
            let _caller_gone = answer.send(Ok(id));
        }
        let Some(ShardRoom {
            id,
            home: Some(home),
            settings,
            audience,
            spreading,
            moderated,
            ..
        }) = self.table.get_mut(room_slot)
        else {
            return (room_slot, Vec::new());
        };
        let HomeRoom {
            members,
            frames,
            remembering,
            unpinned,
            ..
        } = &mut **home;
        if let Some(remembering) = remembering {
            let place = (*id, &**members, *frames);
            let of_members = (&mut *audience, &mut self.unsaid, (&*settings, unpinned));
            batch = observe(remembering, batch, place, of_members, env);
        }
        *frames += u64::from(batch.frames);
        env.outbox.send_batch(*id, members, &batch, accepted);
        if let Some(since) = since {
            send_moderated((*id, members), since, env);
            if !audience.is_empty() {
                Moderated::note(moderated, since, audience);
            }
        }
        if !audience.is_empty() {
            audience.append(batch, env.settings.window, env.now.tick);
            spreading.get_or_insert(accepted);
        }
        self.note_walking(room_slot);
        self.note_aging(room_slot);
        (room_slot, evictions)
    }

    /// Takes a batch from the room's home shard.
    pub(in crate::shard::core) fn take_batch<S>(
        &mut self,
        room: RoomId,
        (batch, accepted): (Batch, Tick),
        env: &Env<S>,
    ) {
        let Some(room_slot) = self.find(room) else {
            return;
        };
        if let Some(shard_room) = self.table.get_mut(room_slot) {
            let (window, now) = (env.settings.window, env.now.tick);
            shard_room.heard += u64::from(batch.frames);
            shard_room.audience.append(batch, window, now);
            shard_room.spreading.get_or_insert(accepted);
        }
        self.note_walking(room_slot);
        self.note_aging(room_slot);
    }

    /// Notes that members here are being served with a deletion or disconnect that was accepted then.
    pub(in crate::shard::core) fn take_moderated<S>(
        &mut self,
        room: RoomId,
        since: Tick,
        env: &Env<S>,
    ) {
        let shard_room = self.find(room).and_then(|slot| self.table.get_mut(slot));
        match shard_room {
            Some(shard_room) if shard_room.walking => {
                Moderated::note(&mut shard_room.moderated, since, &shard_room.audience);
            }
            Some(_) => env.metrics.moderation.observe(env.now.tick.since(since)),
            None => {}
        }
    }

    pub(super) fn note_aging(&mut self, room_slot: Slot<ShardRoom>) {
        if let Some(shard_room) = self.table.get_mut(room_slot)
            && !shard_room.aging
        {
            shard_room.aging = true;
            self.aging.push(room_slot);
        }
    }

    /// Drops batches that the window no longer holds, and frees the memory of rooms without
    /// messages. Call it once a second or so.
    pub(in crate::shard::core) fn age_logs<S>(&mut self, env: &Env<S>) {
        let (now, window, table) = (env.now.tick, env.settings.window, &mut self.table);
        let mut log_bytes = 0;
        self.aging.retain(|room_slot| {
            let Some(shard_room) = table.get_mut(*room_slot) else {
                return false;
            };
            shard_room.audience.expire(window, now);
            log_bytes += shard_room.audience.log().bytes();
            shard_room.aging = shard_room.audience.log().bytes() > 0;
            if !shard_room.aging
                && let Some(home) = &mut shard_room.home
            {
                home.room.release_memory();
            }
            shard_room.aging
        });
        env.metrics.log_bytes.set_len(log_bytes);
    }

    /// Notes for the pace that submitting `queued` took `elapsed`; returns the new cost of a send,
    /// if that is one.
    pub(in crate::shard::core) fn note_cost(
        &mut self,
        queued: Queued,
        elapsed: Duration,
    ) -> Option<Duration> {
        self.pace.note(queued, elapsed)
    }
}

/// Tells each other shard that has members that they are being served with a deletion or disconnect that was accepted then.
fn send_moderated<S>((room, members): (RoomId, &[u32]), since: Tick, env: &mut Env<S>) {
    let here = env.id;
    for shard in (0..members.len()).filter(|shard| *shard != here && members[*shard] > 0) {
        env.outbox.send(shard, Command::Moderated(room, since));
    }
}

/// Remembers a batch of a room with tags of ours, whose first frame has this number, and takes out of it, and of what members
/// have not got yet, what events in it take back.
fn observe<S>(
    remembering: &mut Remembering,
    batch: Batch,
    (room, members, first): (RoomId, &[u32], u64),
    (audience, unsaid, (settings, unpinned)): (
        &mut Audience,
        &mut Vec<UserEvent>,
        (&RoomSettings, &mut Option<FrameId>),
    ),
    env: &mut Env<S>,
) -> Batch {
    let context = (&*env.settings.purge_event, &*env.metrics);
    let (cut, gone) = remembering.observe(&batch, first, env.now.tick, context);
    if !gone.is_empty() {
        *unpinned = taken_off(settings, &gone).or(*unpinned);
        unsay(room, (&batch, &gone), unsaid, env);
        redact(room, (audience, &gone), unsaid, env);
        send_redaction(room, members, &gone, env);
    }
    unpinned.take_if(|id| member_commands::unpin(room, *id, env));
    cut.unwrap_or(batch)
}

/// The pinned message, if it is among what is taken back. What a back end shows in nobody's name is no message of the room.
///
/// It is asked where memories are cut: so whoever finds a message remembered once its pin is in force knows that whatever takes
/// it back later takes the pin, too. Each node of a cluster asks, not the home alone, which may not know of a pin yet that
/// somebody has seen.
fn taken_off(settings: &RoomSettings, gone: &[Redaction]) -> Option<FrameId> {
    let (id, sender) = settings.extension.as_deref()?.pinned?;
    let takes = |redaction: &Redaction| match (redaction, sender) {
        (_, Some(sender)) => redaction.takes(id, sender),
        (Redaction::Message(message), None) => *message == id,
        (Redaction::User(_) | Redaction::All, None) => false,
    };
    gone.iter().any(takes).then_some(id)
}

/// Returns the number of members on the shard that has most of them.
fn most_members(home: &HomeRoom, here: usize) -> usize {
    let most = home.members.iter().max();
    most.map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX))
        .max(here)
}
