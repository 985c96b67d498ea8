//! Commands to the home shard: rooms made and deleted, requests of members on other shards, events,
//! moderation, evictions, the end of sessions.

use bytes::BytesMut;

use super::Core;
use super::receive::count_refusal;
use crate::net::io::Io;
use crate::shard::command::Refused;
use crate::shard::command::{Command, Eviction, PublishRequest, Refusal, SenderAddress};
use crate::shard::connection::Connection;
use crate::shard::review::PublishContext;
use crate::shard::shard_room::{HomeRoom, Published, RequestFault, ShardRoom};
use uproar_proto::base::hash::fnv1a_32;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{ErrorCode, Request, encode, texts};
use uproar_proto::room::RoomSettings;
use uproar_proto::room::order::EncodeContext;
use uproar_proto::session::Ending;

impl<W: Io> Core<W> {
    pub(super) fn put_room(&mut self, room: RoomId, settings: RoomSettings) {
        if let Some(room_slot) = self.rooms.get(&room).copied()
            && let Some(shard_room) = self.shard_rooms.get(room_slot)
        {
            let archive_changed = shard_room.settings.archive != settings.archive;
            if archive_changed {
                // Messages until now go to the old targets, and are held until they are spooled.
                self.flush(room_slot);
            }
            if let Some(shard_room) = self.shard_rooms.get_mut(room_slot) {
                shard_room.settings = settings;
                if let Some(home) = &mut shard_room.home {
                    home.set_settings(settings);
                }
            }
            self.send_to_others(|| Command::SettingsChanged(room, settings));
            return;
        }
        let home = Box::new(HomeRoom::new(settings, self.settings.shard_count));
        let slot = self
            .shard_rooms
            .insert(ShardRoom::new(room, settings, Some(home)));
        self.rooms.insert(room, slot);
        self.metrics.rooms.add(1);
    }

    pub(super) fn adopt(&mut self, room: RoomId, settings: RoomSettings) {
        if let Some(shard_room) = self
            .rooms
            .get(&room)
            .and_then(|slot| self.shard_rooms.get_mut(*slot))
        {
            shard_room.settings = settings;
        }
    }

    pub(super) fn delete_room(&mut self, room: RoomId) -> Result<(), Refused> {
        if !self.rooms.contains_key(&room) {
            return Err(Refused::NoSuchRoom);
        }
        self.send_to_others(|| Command::RoomDeleted(room));
        self.metrics
            .rooms
            .set(self.metrics.rooms.get().saturating_sub(1));
        self.vanish(room);
        Ok(())
    }

    /// Closes the room's connections here and forgets it.
    pub(super) fn vanish(&mut self, room: RoomId) {
        let Some(room_slot) = self.rooms.remove(&room) else {
            return;
        };
        let Some(shard_room) = self.shard_rooms.get_mut(room_slot) else {
            return;
        };
        // With a home in place, departures are not reported to another shard.
        let no_home = Some(Box::new(HomeRoom::new(shard_room.settings, 0)));
        let before = std::mem::replace(&mut shard_room.home, no_home);
        if let Some(pending) = before.and_then(|home| home.pending) {
            self.review_queue.left(pending.len());
        }
        let members: Vec<_> = shard_room.audience.keys().collect();
        for key in members {
            let slot = Slot::from_bits(key);
            self.finish(slot, &Ending::RoomDeleted);
            self.leave(slot);
        }
        self.shard_rooms.remove(room_slot);
    }

    /// Serves a request of a member on another shard.
    pub(super) fn take_publish(&mut self, room: RoomId, publish_request: &PublishRequest) {
        let (request, sender_json) = publish_request.request();
        let done = self.with_home(room, |home, place, context| {
            home.publish(place, (&request, sender_json), context, || {
                publish_request.clone()
            })
        });
        if let Err((code, message)) = done {
            let id = self.ids.next_id();
            self.refuse_sender(publish_request, id, code, message);
        }
    }

    /// Tells the sender of a request that it failed.
    pub(super) fn refuse_sender(
        &mut self,
        publish_request: &PublishRequest,
        id: FrameId,
        code: ErrorCode,
        message: &str,
    ) {
        count_refusal(&self.metrics, code);
        let SenderAddress { shard, connection } = publish_request.sender;
        let (request, _) = publish_request.request();
        let mut frame = BytesMut::new();
        encode::error(&mut frame, id, request.request_id(), code, message);
        let refusal = Box::new(Refusal {
            frame: frame.freeze(),
            id,
            code,
            reason: message.into(),
        });
        if shard == self.id {
            self.tell(Slot::from_bits(connection), &refusal);
        } else {
            self.send_to(shard, Command::RefuseRequest(connection, refusal));
        }
    }

    /// Appends an application event of the API.
    pub(super) fn send_event(
        &mut self,
        room: RoomId,
        name: &str,
        attributes_json: &str,
    ) -> Result<FrameId, Refused> {
        let room_slot = *self.rooms.get(&room).ok_or(Refused::NoSuchRoom)?;
        let Some(ShardRoom {
            home: Some(home), ..
        }) = self.shard_rooms.get_mut(room_slot)
        else {
            return Err(Refused::NoSuchRoom);
        };
        if home.room.is_full() {
            return Err(Refused::Busy);
        }
        let mut encode_context = EncodeContext {
            ids: &mut self.ids,
            now: self.now,
            deflater: &mut self.deflater,
        };
        let id = home
            .room
            .announce(&mut encode_context, name, attributes_json, "");
        self.note_unflushed(room_slot);
        Ok(id)
    }

    /// Executes a deletion or disconnect of the API.
    pub(super) fn moderate(
        &mut self,
        room: RoomId,
        request: &Request<'_>,
    ) -> Result<FrameId, Refused> {
        let done = self.with_home(room, |home, _, context| {
            home.act(request, "", context).map(Published::Appended)
        });
        done.map_err(|(code, _)| match code {
            ErrorCode::NotFound => Refused::NoSuchRoom,
            ErrorCode::TooManyRequests => Refused::Rate,
            ErrorCode::BadRequest
            | ErrorCode::Unauthorized
            | ErrorCode::Forbidden
            | ErrorCode::NotAcceptable
            | ErrorCode::PayloadTooLarge
            | ErrorCode::Internal => Refused::Busy,
        })
    }

    /// Finds the home of `room` here and lets `work` have it, then sees to it that what was appended is flushed.
    fn with_home(
        &mut self,
        room: RoomId,
        work: impl FnOnce(
            &mut HomeRoom,
            (RoomId, Slot<ShardRoom>),
            &mut PublishContext<'_>,
        ) -> Result<Published, RequestFault>,
    ) -> Result<FrameId, RequestFault> {
        let missing = (ErrorCode::NotFound, texts::NO_ROOM);
        let room_slot = *self.rooms.get(&room).ok_or(missing)?;
        let Some(ShardRoom {
            home: Some(home), ..
        }) = self.shard_rooms.get_mut(room_slot)
        else {
            return Err(missing);
        };
        let mut context = PublishContext {
            ids: &mut self.ids,
            deflater: &mut self.deflater,
            review_queue: &mut self.review_queue,
            settings: &self.settings,
            budgets: &self.budgets,
            metrics: &self.metrics,
            now: self.now,
        };
        match work(home, (room, room_slot), &mut context)? {
            Published::Appended(id) => {
                self.note_unflushed(room_slot);
                Ok(id)
            }
            Published::Held(id) => Ok(id),
        }
    }

    /// Closes every connection of a user here, after the event that announces it.
    pub(super) fn evict(&mut self, room: RoomId, eviction: &Eviction) {
        let Eviction { user_id, reason } = eviction;
        let shard_room = self
            .rooms
            .get(&room)
            .and_then(|slot| self.shard_rooms.get(*slot));
        let Some(shard_room) = shard_room else { return };
        let candidates: Vec<Slot<Connection<W::FixedFile>>> = shard_room
            .audience
            .with_user_hash(user_hash(user_id))
            .map(Slot::from_bits)
            .collect();
        for slot in candidates {
            let is_user = self.connections.get(slot).is_some_and(|connection| {
                encode::is_sender(connection.session.sender_json(), user_id)
            });
            if is_user {
                self.finish(slot, &Ending::Disconnected { reason });
            }
        }
    }

    /// Ends a session whose time is over: ERROR 401, which makes IVS Chat's clients fetch a new token, then
    /// Close.
    pub(super) fn end_session(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        let id = self.ids.next_id();
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        // A full lane means that the client does not read; the Close frame carries the same reason.
        let _full = connection.lane().push(|out| {
            encode::error(out, id, "", ErrorCode::Unauthorized, texts::SESSION_OVER);
        });
        self.finish(slot, &Ending::SessionOver);
    }
}

/// Hashes a user id to narrow the search for its connections; the hash is the same on all shards.
pub fn user_hash(user_id: &str) -> u32 {
    fnv1a_32(user_id.as_bytes())
}
