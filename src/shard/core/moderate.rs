//! What the home shard is asked from outside: rooms made and deleted, requests of members elsewhere,
//! events, moderation, evictions, the end of sessions.

use bytes::BytesMut;

use super::Core;
use super::receive::count_refusal;
use crate::base::id::{FrameId, RoomId};
use crate::base::table::Slot;
use crate::net::wire::Wire;
use crate::protocol::chat::{ErrorCode, encode, texts};
use crate::room::RoomSettings;
use crate::room::order::Press;
use crate::session::Ending;
use crate::shard::command::{Action, Command, Posted, Refusal, Texts};
use crate::shard::connection::Connection;
use crate::shard::ended::Ended;
use crate::shard::gateway::Refused;
use crate::shard::local::{Home, Local, RequestFault};
use crate::shard::review::Intake;

impl<W: Wire> Core<W> {
    pub(super) fn put_room(&mut self, room: RoomId, settings: RoomSettings) {
        if let Some(local_slot) = self.rooms.get(&room).copied()
            && let Some(local) = self.locals.get(local_slot)
        {
            let relogged = local.settings.archive != settings.archive;
            if relogged {
                // What was said until now goes where it was to go, and is held until it is there.
                self.flush(local_slot);
            }
            if let Some(local) = self.locals.get_mut(local_slot) {
                local.settings = settings;
                if let Some(home) = &mut local.home {
                    home.set_settings(settings);
                }
            }
            self.send_to_others(|| Command::Adopt(room, settings));
            return;
        }
        let home = Box::new(Home::new(settings, self.settings.shard_count));
        let slot = self.locals.insert(Local::new(room, settings, Some(home)));
        self.rooms.insert(room, slot);
        self.metrics.rooms.add(1);
    }

    pub(super) fn adopt(&mut self, room: RoomId, settings: RoomSettings) {
        if let Some(local) = self
            .rooms
            .get(&room)
            .and_then(|slot| self.locals.get_mut(*slot))
        {
            local.settings = settings;
        }
    }

    pub(super) fn delete_room(&mut self, room: RoomId) -> Result<(), Refused> {
        if !self.rooms.contains_key(&room) {
            return Err(Refused::NoSuchRoom);
        }
        self.send_to_others(|| Command::Vanish(room));
        self.metrics
            .rooms
            .set(self.metrics.rooms.get().saturating_sub(1));
        self.vanish(room);
        Ok(())
    }

    /// Closes the room's connections here and forgets it.
    pub(super) fn vanish(&mut self, room: RoomId) {
        let Some(local_slot) = self.rooms.remove(&room) else {
            return;
        };
        let Some(local) = self.locals.get_mut(local_slot) else {
            return;
        };
        // The room is nobody's home from now on: departures are not reported.
        let nobodys = Some(Box::new(Home::new(local.settings, 0)));
        let before = std::mem::replace(&mut local.home, nobodys);
        if let Some(pending) = before.and_then(|home| home.pending) {
            self.docket.left(pending.len());
        }
        let members: Vec<_> = local.audience.keys().collect();
        for key in members {
            let slot = Slot::from_bits(key);
            self.finish(slot, &Ending::RoomDeleted, Ended::RoomDeleted);
            self.leave(slot);
        }
        self.locals.remove(local_slot);
    }

    /// A request of a member on another shard.
    pub(super) fn take_post(&mut self, room: RoomId, posted: &Posted) {
        let done = self.act(room, posted.action, posted.texts(), Some(posted));
        if let Err((code, message)) = done {
            let id = self.ids.next_id();
            self.refuse_sender(posted, id, code, message);
        }
    }

    /// Tells whoever posted a request that it failed.
    pub(super) fn refuse_sender(
        &mut self,
        posted: &Posted,
        id: FrameId,
        code: ErrorCode,
        message: &str,
    ) {
        count_refusal(&self.metrics, code);
        let (shard, connection) = posted.from;
        let [_, _, request_id, _] = posted.texts();
        let mut frame = BytesMut::new();
        encode::error(&mut frame, id, request_id, code, message);
        let refusal = Box::new(Refusal {
            frame: frame.freeze(),
            id,
            code,
            reason: message.into(),
        });
        if shard == self.id {
            self.tell(Slot::from_bits(connection), &refusal);
        } else {
            self.send_to(shard, Command::Tell(connection, refusal));
        }
    }

    /// An application event of the API.
    pub(super) fn send_event(
        &mut self,
        room: RoomId,
        name: &str,
        attributes_json: &str,
    ) -> Result<FrameId, Refused> {
        let local_slot = *self.rooms.get(&room).ok_or(Refused::NoSuchRoom)?;
        let Some(Local {
            home: Some(home), ..
        }) = self.locals.get_mut(local_slot)
        else {
            return Err(Refused::NoSuchRoom);
        };
        if home.room.is_full() {
            return Err(Refused::Busy);
        }
        let mut press = Press {
            ids: &mut self.ids,
            now: self.now,
            deflater: &mut self.deflater,
        };
        let id = home.room.announce(&mut press, name, attributes_json, "");
        self.note_speaking(local_slot);
        Ok(id)
    }

    /// A deletion or disconnect of the API.
    pub(super) fn moderate(
        &mut self,
        room: RoomId,
        action: Action,
        what: &str,
        reason: &str,
    ) -> Result<FrameId, Refused> {
        self.act(room, action, [what, reason, "", ""], None)
            .map_err(|(code, _)| match code {
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

    fn act(
        &mut self,
        room: RoomId,
        action: Action,
        texts: Texts<'_>,
        posted: Option<&Posted>,
    ) -> Result<FrameId, RequestFault> {
        let missing = (ErrorCode::NotFound, texts::NO_ROOM);
        let local_slot = *self.rooms.get(&room).ok_or(missing)?;
        let Some(Local {
            home: Some(home), ..
        }) = self.locals.get_mut(local_slot)
        else {
            return Err(missing);
        };
        if action == Action::Send
            && home.pending.is_some()
            && let Some(posted) = posted
        {
            let mut intake = Intake {
                ids: &mut self.ids,
                docket: &mut self.docket,
                settings: &self.settings,
                budgets: &self.budgets,
                metrics: &self.metrics,
                now: self.now,
            };
            return home.hold((room, local_slot), posted, &mut intake);
        }
        let mut press = Press {
            ids: &mut self.ids,
            now: self.now,
            deflater: &mut self.deflater,
        };
        let id = home.act(&mut press, action, texts, &self.settings, &self.budgets)?;
        self.note_speaking(local_slot);
        Ok(id)
    }

    /// Closes every connection of a user here, behind the event that says so.
    pub(super) fn evict(&mut self, room: RoomId, user_id: &str, reason: &str) {
        let local = self
            .rooms
            .get(&room)
            .and_then(|slot| self.locals.get(*slot));
        let Some(local) = local else { return };
        let suspects: Vec<Slot<Connection<W::Seat>>> = local
            .audience
            .with_user_hash(user_hash(user_id))
            .map(Slot::from_bits)
            .collect();
        for slot in suspects {
            let is_user = self.connections.get(slot).is_some_and(|connection| {
                encode::is_sender(connection.session.sender_json(), user_id)
            });
            if is_user {
                self.finish(slot, &Ending::Disconnected { reason }, Ended::Kicked);
            }
        }
    }

    /// The session's time is over: ERROR 401, which makes IVS Chat's clients fetch a new token, then
    /// Close.
    pub(super) fn end_session(&mut self, slot: Slot<Connection<W::Seat>>) {
        let id = self.ids.next_id();
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        // A full lane means that the client does not read: the Close frame says it again.
        let _full = connection.lane().push(|out| {
            encode::error(out, id, "", ErrorCode::Unauthorized, texts::SESSION_OVER);
        });
        self.finish(slot, &Ending::SessionOver, Ended::SessionOver);
    }
}

/// Narrows the search for a user's connections; equal names have equal hashes on all shards.
pub fn user_hash(user_id: &str) -> u32 {
    user_id.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
