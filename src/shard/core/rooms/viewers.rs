//! Rooms that tell how many viewers they have: their members, and the other nodes of a cluster.

use bytes::BytesMut;

use super::{Env, Rooms};
use crate::shard::cluster::ToCluster;
use crate::shard::shard_room::HomeRoom;
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::table::Slot;
use uproar_proto::chat::encode::{self, attributes_json};
use uproar_proto::extension::viewers::{Count, Told, VIEWERS, Way};

impl Rooms {
    /// Notes that a room at home here may tell its number of viewers.
    pub(super) fn watch(&mut self, room_slot: Slot<ShardRoom>) {
        let interval = self.get(room_slot).and_then(interval);
        if interval.is_some() && !self.watched.told.contains(&room_slot) {
            self.watched.told.push(room_slot);
        }
    }

    /// Notes that somebody has come to a room at home here: other nodes are told.
    pub(super) fn note_peopled(&mut self, room_slot: Slot<ShardRoom>) {
        if self.requests.is_none() {
            return;
        }
        if let Some(home) = self.home_in(room_slot)
            && !std::mem::replace(&mut home.is_peopled, true)
        {
            self.watched.peopled.push(room_slot);
        }
    }

    /// When to look at numbers of viewers, if that is needed; `next` is when the shard ages what it keeps.
    pub(in crate::shard::core) fn viewers_due(&self, next: Tick) -> Option<Tick> {
        self.watched.is_needed().then_some(next)
    }

    /// Tells members and other nodes how many viewers there are, where that has changed. Call it once a second or so.
    pub(in crate::shard::core) fn tell_viewers<S>(&mut self, env: &mut Env<S>) {
        if !self.watched.is_needed() {
            return;
        }
        let mut watched = std::mem::take(&mut self.watched);
        watched.told.retain(|room_slot| {
            let Some(shard_room) = self.table.get_mut(*room_slot) else {
                return false;
            };
            let Some(seconds) = interval(shard_room) else {
                return false;
            };
            let home = shard_room.home.as_deref_mut();
            if let Some(home) = home
                && let Some(told) = due(home, seconds, Way::Alone, env.now.tick)
            {
                tell_members(home, told, env);
                self.note_unflushed(*room_slot, env.now.tick);
            }
            true
        });
        let mut counts = Vec::new();
        watched.peopled.retain(|room_slot| {
            let shard_room = self.table.get_mut(*room_slot);
            shard_room.is_some_and(|shard_room| report(shard_room, env.now.tick, &mut counts))
        });
        self.watched = watched;
        if !counts.is_empty() {
            env.outbox.tell_cluster(ToCluster::Viewers(counts));
        }
    }

    /// Adds the number of viewers to what a flush of the room is about to send, if it is due.
    pub(in crate::shard::core) fn tell_viewers_along<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        env: &mut Env<S>,
    ) {
        if self.watched.told.is_empty() {
            return;
        }
        if let Some(shard_room) = self.table.get_mut(room_slot)
            && let Some(seconds) = interval(shard_room)
            && let Some(home) = shard_room.home.as_deref_mut()
            && let Some(told) = due(home, seconds, Way::Along, env.now.tick)
        {
            tell_members(home, told, env);
        }
    }

    /// Takes another node's counts of rooms at home here.
    pub(in crate::shard::core) fn hear_viewers<S>(
        &mut self,
        node: u64,
        counts: Vec<(RoomId, Count)>,
        env: &Env<S>,
    ) {
        for (room, count) in counts {
            if let Some((_, home)) = self.home_mut(room) {
                let viewers = home.viewers.get_or_insert_default();
                viewers.hear(node, count, (env.now.tick, env.now.unix));
            }
        }
    }
}

/// Seconds between two events of a room's number of viewers, if it tells that.
fn interval(shard_room: &ShardRoom) -> Option<u32> {
    shard_room.home.as_ref()?;
    shard_room.settings.extension.as_ref()?.settings.viewers
}

fn due(home: &mut HomeRoom, seconds: u32, way: Way, now: Tick) -> Option<Told> {
    if home.room.is_full() {
        return None;
    }
    home.viewers.as_mut()?.tell(seconds, way, now)
}

fn tell_members<S>(home: &mut HomeRoom, told: Told, env: &mut Env<S>) {
    // A message that follows has no earlier time.
    let sent = home.room.last_sent().max(env.now.unix);
    let now = Now {
        unix: sent,
        ..env.now
    };
    let frame = frame(told, env.ids.next_id(), now);
    home.room.tell(&mut env.deflater, &frame);
    home.room.saw(sent);
}

/// Adds what other nodes are to be told of a room; returns whether it is to be looked at again.
fn report(shard_room: &mut ShardRoom, now: Tick, counts: &mut Vec<(RoomId, Count)>) -> bool {
    let room = shard_room.id;
    let Some(home) = shard_room.home.as_deref_mut() else {
        return false;
    };
    let Some(viewers) = &mut home.viewers else {
        return false;
    };
    let told = viewers.report(now);
    counts.extend(told.map(|count| (room, count)));
    home.is_peopled = told.is_some() || viewers.here().connections > 0;
    home.is_peopled
}

/// The event, for all members.
fn frame(told: Told, id: FrameId, now: Now) -> BytesMut {
    let numbers = [told.count, told.peak, told.joined, told.left].map(|number| number.to_string());
    let [count, peak, joined, left] = numbers.each_ref().map(String::as_str);
    let attributes = attributes_json([
        ("Count", count),
        ("Peak", peak),
        ("Joined", joined),
        ("Left", left),
    ]);
    let event = encode::Event {
        id,
        request_id: "",
        name: VIEWERS,
        attributes_json: &attributes,
        sent: now.unix,
    };
    let mut out = BytesMut::with_capacity(event.bytes_max());
    encode::event(&mut out, &event);
    out
}
