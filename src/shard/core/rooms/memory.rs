//! What rooms at home here remember: for who joins, who comes back, and the API.

use std::sync::Arc;

use bytes::Bytes;

use super::{Env, Rooms, unsaid};
use crate::shard::command::Command;
use crate::shard::connection::Connection;
use crate::shard::departed::Departed;
use crate::shard::shard_room::HomeRoom;
use crate::shard::survey::Wanted;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{RESUME_MESSAGES_MAX, RESUME_SETTLED};
use uproar_proto::cluster::crowd::Recalled;
use uproar_proto::extension::speech::Key;
use uproar_proto::room::memory::Remembered;
use uproar_proto::room::redaction::Redaction;
use uproar_proto::room::stands::Stand;

impl Rooms {
    /// Notes where a member stands that is about to leave, if it may come back.
    pub(in crate::shard::core) fn note_departure<F, S>(
        &mut self,
        (connection, is_sure): (&Connection<F>, bool),
        env: &mut Env<S>,
    ) {
        let Some(shard_room) = self.table.get_mut(connection.shard_room) else {
            return;
        };
        let extension = shard_room.settings.extension.as_deref();
        let recall = extension.and_then(|extension| extension.settings.recall());
        let (Some(recall), Some(member)) = (recall, connection.member) else {
            return;
        };
        if recall.resume.is_zero() {
            return;
        }
        let audience = &shard_room.audience;
        let behind = audience.log().head().frames_since(audience.cursor(member));
        let heard = shard_room
            .home
            .as_ref()
            .map_or(shard_room.heard, |home| home.frames);
        let most = u64::try_from(RESUME_MESSAGES_MAX).expect("hundreds");
        let begun = if is_sure { 0 } else { most };
        let departed = Departed {
            user: Key::of_sender(connection.session.sender_json()),
            stand: Stand {
                frame: heard.saturating_sub(behind + begun),
                is_sure,
            },
            is_settled: env.now.tick.since(connection.began) >= RESUME_SETTLED
                && connection
                    .lane
                    .as_ref()
                    .is_none_or(|lane| !lane.has_replay()),
        };
        let room = shard_room.id;
        if let Some(home) = &mut shard_room.home {
            if let Some(remembering) = &mut home.remembering {
                remembering.leaves(departed, env.now.tick, &env.metrics);
            }
            return;
        }
        let home = env.settings.home(room);
        env.outbox.report_place(home, room, departed);
    }

    /// Notes where a viewer stood who left another shard.
    pub(in crate::shard::core) fn departed<S>(
        &mut self,
        room: RoomId,
        departed: Departed,
        env: &Env<S>,
    ) {
        if let Some((_, home)) = self.home_mut(room)
            && let Some(remembering) = &mut home.remembering
        {
            remembering.leaves(departed, env.now.tick, &env.metrics);
        }
    }

    /// Takes messages out of what members here have not got yet.
    pub(in crate::shard::core) fn redact<S>(
        &mut self,
        room: RoomId,
        redactions: &[Redaction],
        env: &mut Env<S>,
    ) {
        if let Some(shard_room) = self.find(room).and_then(|slot| self.table.get_mut(slot)) {
            let taken = (&mut shard_room.audience, redactions);
            unsaid::redact(room, taken, &mut self.unsaid, env);
        }
    }

    /// All messages that a room at home here remembers, oldest first.
    pub(in crate::shard::core) fn recalled(&self, room: RoomId, now: Tick) -> Vec<Recalled> {
        let home = self
            .find(room)
            .and_then(|slot| self.get(slot)?.home.as_deref());
        let Some(memory) = home.and_then(HomeRoom::memory) else {
            return Vec::new();
        };
        let recalled = |remembered: &Remembered| Recalled {
            age: now.since(remembered.place().1),
            frame: Bytes::copy_from_slice(remembered.frame()),
        };
        memory.all().0.map(recalled).collect()
    }

    /// Takes what other nodes remember of a room at home here.
    pub(in crate::shard::core) fn take_recalled<S>(
        &mut self,
        room: RoomId,
        recalled: &[Recalled],
        env: &Env<S>,
    ) {
        if let Some((_, home)) = self.home_mut(room) {
            let count = home.take_recalled(recalled, env.now.tick, &env.metrics);
            env.metrics.cluster_recalled.add_len(count);
        }
    }

    /// Remembered messages of a room, whole frames, newest first; `None`: it is not at home here.
    pub(in crate::shard::core) fn remembered(
        &self,
        room: RoomId,
        wanted: Wanted,
    ) -> Option<Vec<Bytes>> {
        let home = self.get(self.find(room)?)?.home.as_deref()?;
        let memory = home.memory().into_iter();
        let payload = |found: &Remembered| Bytes::copy_from_slice(found.payload());
        Some(match wanted {
            Wanted::Message(id) => memory
                .filter_map(|memory| memory.find(id))
                .map(payload)
                .collect(),
            Wanted::OfUser(user) => memory
                .flat_map(|memory| memory.of_user(user))
                .chain(home.waiting_of(user))
                .map(|id| Bytes::copy_from_slice(id.as_bytes()))
                .collect(),
            Wanted::Before(place) => memory
                .flat_map(|memory| memory.before(place.as_ref()))
                .map(payload)
                .collect(),
        })
    }
}

/// Sends messages to be taken back to each other shard that has members, by the home's count of them.
pub(super) fn send_redaction<S>(
    room: RoomId,
    members: &[u32],
    redactions: &[Redaction],
    env: &mut Env<S>,
) {
    let (here, redactions) = (env.id, Arc::<[_]>::from(redactions));
    for shard in (0..members.len()).filter(|shard| *shard != here && members[*shard] > 0) {
        let redact = Command::Redact(room, Arc::clone(&redactions));
        env.outbox.send(shard, redact);
    }
}
