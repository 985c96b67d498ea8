//! One user's connections in a room: who they are, and what is for them alone.

use bytes::BytesMut;

use super::Connections;
use crate::net::io::Io;
use crate::shard::close_reason::CloseReason;
use crate::shard::command::{UserEvent, user_hash};
use crate::shard::core::env::Env;
use crate::shard::core::outbound::ConnectionSlot;
use crate::shard::core::rooms::Rooms;
use crate::shard::frames;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::table::Slot;
use uproar_proto::chat::encode;

impl<W: Io> Connections<W> {
    /// The connections of a user in a room here. It costs a look at the hash of each member's user.
    pub(super) fn of_user(
        &self,
        room: RoomId,
        user_id: &str,
        rooms: &Rooms,
    ) -> Vec<ConnectionSlot<W>> {
        let shard_room = rooms.find(room).and_then(|room_slot| rooms.get(room_slot));
        let keys = shard_room.into_iter().flat_map(|shard_room| {
            let hash = user_hash(user_id);
            shard_room.audience.with_user_hash(hash)
        });
        let is_user = |slot: &ConnectionSlot<W>| {
            self.table.get(*slot).is_some_and(|connection| {
                encode::is_sender(connection.session.sender_json(), user_id)
            })
        };
        keys.map(Slot::from_bits).filter(is_user).collect()
    }

    /// Sends an event through the connections of its user alone; returns through how many. One that does not read is cut,
    /// as a slow one is.
    pub(in crate::shard::core) fn tell_user(
        &mut self,
        event: &UserEvent,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) -> u64 {
        let mut told = 0;
        for slot in self.of_user(event.room, &event.user_id, rooms) {
            let connection = self.table.get_mut(slot);
            let Some(connection) = connection.filter(|connection| connection.is_open()) else {
                continue;
            };
            let write = |out: &mut BytesMut| out.extend_from_slice(&event.frame);
            if connection.lane().push(write).is_err() {
                self.cut(slot, CloseReason::Slow, rooms, env);
                continue;
            }
            frames::note_own(event.room, connection.session.sender_json(), write);
            told += 1;
            self.deliver_own(slot, rooms, env);
        }
        env.metrics.user_events.add(told);
        told
    }
}
