//! Ends of connections: closing handshakes, cuts, and the removal of what is over.

use bytes::BytesMut;

use super::{Connections, schedule};
use crate::net::io::{Io, Shutdown};
use crate::shard::close_reason::{CloseReason, HowToClose};
use crate::shard::command::Eviction;
use crate::shard::connection::{Connection, PeerClose, Phase};
use crate::shard::core::env::Env;
use crate::shard::core::log_lines::log_ended;
use crate::shard::core::outbound::ConnectionSlot;
use crate::shard::core::rooms::Rooms;
use crate::shard::frames;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::CLOSE_TIMEOUT;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::{ErrorCode, encode, texts};
use uproar_proto::session::Ending;

impl<W: Io> Connections<W> {
    /// Begins the closing handshake: the Close frame follows the room log's current end.
    pub(super) fn finish(
        &mut self,
        slot: ConnectionSlot<W>,
        ending: &Ending<'_>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        if !connection.is_open() {
            return;
        }
        let reason = CloseReason::from(ending);
        let shard_room = rooms.get(connection.shard_room);
        let after = shard_room.map_or_else(Default::default, |shard_room| {
            shard_room.audience.log().head()
        });
        let room = shard_room.map(|shard_room| shard_room.id);
        log_ended(&connection.session, room, connection.ip, reason);
        if let Some(room) = room {
            let sender_json = connection.session.sender_json();
            frames::note_own(room, sender_json, |out| ending.encode(out));
        }
        env.metrics
            .ended(reason, env.now.tick.since(connection.began));
        self.open -= 1;
        connection.session.begin_close();
        connection.lane().finish(after, |out| ending.encode(out));
        let deadline = env.now.tick.after(CLOSE_TIMEOUT);
        let peer = match ending {
            Ending::Answer { .. } | Ending::Violation(_) => PeerClose::Done,
            Ending::Disconnected { .. } | Ending::SessionOver | Ending::RoomDeleted => {
                PeerClose::Awaited
            }
        };
        connection.phase = Phase::Closing { deadline, peer };
        schedule(&mut self.wheel, slot, connection, deadline);
        self.deliver_own(slot, rooms, env);
    }

    /// Cuts a connection without a Close frame; its entry is removed when its pending operations
    /// have completed.
    pub(in crate::shard::core) fn cut(
        &mut self,
        slot: ConnectionSlot<W>,
        reason: CloseReason,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        if connection.phase == Phase::Dead {
            return;
        }
        let was_open = connection.is_open();
        if was_open {
            env.metrics
                .ended(reason, env.now.tick.since(connection.began));
            self.open -= 1;
            let shard_room = rooms.get(connection.shard_room);
            let room = shard_room.map(|shard_room| shard_room.id);
            log_ended(&connection.session, room, connection.ip, reason);
        }
        connection.phase = Phase::Dead;
        let io = &mut self.outbound.io;
        match reason.how_to_close(was_open, connection.has_send()) {
            HowToClose::Abortive => io.shutdown(&connection.file, Shutdown::Abort),
            // No operation is pending, so closing is enough.
            HowToClose::Graceful if connection.is_over() => {}
            HowToClose::Graceful => io.shutdown(&connection.file, Shutdown::Both),
        }
        self.leave(slot, rooms, env);
        self.remove_if_over(slot);
    }

    /// Sends FIN if the closing handshake's last byte is sent, or if a released viewer has
    /// everything; the peer's FIN completes the receive. Removes a dead connection that is over.
    pub(super) fn end_or_remove(
        &mut self,
        slot: ConnectionSlot<W>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let connection = self.table.get(slot);
        if let Some(connection) = connection.filter(|connection| connection.is_finished()) {
            let io = &mut self.outbound.io;
            io.shutdown(&connection.file, Shutdown::Write);
        } else if self.has_everything(slot, rooms) {
            self.end_writing(slot, rooms, env);
        } else {
            self.remove_if_over(slot);
        }
    }

    /// Removes and closes a dead connection once it has no pending operation.
    pub(super) fn remove_if_over(&mut self, slot: ConnectionSlot<W>) {
        let connection = self.table.get(slot);
        if connection.is_some_and(Connection::is_over)
            && let Some(connection) = self.table.remove(slot)
        {
            self.outbound.io.close(connection.file);
        }
    }

    /// Notes that the client's side of the closing handshake is done.
    pub(super) fn peer_closed(
        &mut self,
        slot: ConnectionSlot<W>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        if let Some(connection) = self.table.get_mut(slot)
            && let Phase::Closing { peer, .. } = &mut connection.phase
        {
            *peer = PeerClose::Done;
            self.end_or_remove(slot, rooms, env);
        }
    }

    /// Ends a session whose time is over: ERROR 401, which makes IVS Chat's clients fetch a new
    /// token, then Close.
    pub(super) fn end_session(
        &mut self,
        slot: ConnectionSlot<W>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let id = env.ids.next_id();
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        // A full lane means that the client does not read; the Close frame carries the same reason.
        let over = encode::Error {
            id,
            request_id: "",
            code: ErrorCode::Unauthorized,
            message: texts::SESSION_OVER,
            retry_after: None,
        };
        let error = |out: &mut BytesMut| encode::error(out, &over);
        let _full = connection.lane().push(error);
        if let Some(shard_room) = rooms.get(connection.shard_room) {
            frames::note_own(shard_room.id, connection.session.sender_json(), error);
        }
        self.finish(slot, &Ending::SessionOver, rooms, env);
    }

    /// Closes every connection of a user in a room here, after the event that announces it.
    pub(in crate::shard::core) fn evict(
        &mut self,
        room: RoomId,
        eviction: &Eviction,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let Eviction { user_id, reason } = eviction;
        for slot in self.of_user(room, user_id, rooms) {
            self.finish(slot, &Ending::Disconnected { reason }, rooms, env);
        }
    }

    /// Closes the connections of a deleted room and forgets it.
    pub(in crate::shard::core) fn delete_room(
        &mut self,
        room: RoomId,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let Some(deletion) = rooms.begin_deletion(room, env) else {
            return;
        };
        for key in deletion.members {
            let slot = Slot::from_bits(key);
            self.finish(slot, &Ending::RoomDeleted, rooms, env);
            self.leave(slot, rooms, env);
        }
        rooms.end_deletion(deletion.room_slot);
    }

    /// Cuts every connection: the server stops.
    pub(in crate::shard::core) fn cut_all(&mut self, rooms: &mut Rooms, env: &mut Env<W::Socket>) {
        let all: Vec<_> = self.table.slots().collect();
        for slot in all {
            self.cut(slot, CloseReason::Drain, rooms, env);
        }
    }
}
