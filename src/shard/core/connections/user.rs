//! One user's connections in a room: who they are, and what is for them alone.

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::Connections;
use crate::net::io::Io;
use crate::shard::close_reason::CloseReason;
use crate::shard::cluster::ToCluster;
use crate::shard::command::{Command, UserEvent, user_hash};
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

    /// Has the requests of a user's connections looked at: a ban may refuse them.
    pub(in crate::shard::core) fn hold_user(&mut self, room: RoomId, user_id: &str, rooms: &Rooms) {
        for slot in self.of_user(room, user_id, rooms) {
            if let Some(connection) = self.table.get_mut(slot) {
                connection.hold();
            }
        }
    }

    /// Sends an event to the members of a room here who moderate. One that does not read is cut, as a slow one is.
    pub(in crate::shard::core) fn tell_crew(
        &mut self,
        room: RoomId,
        frame: &Bytes,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let shard_room = rooms.find(room).and_then(|slot| rooms.get(slot));
        let crew = shard_room.into_iter().flat_map(|room| room.audience.crew());
        let crew: Vec<ConnectionSlot<W>> = crew.map(Slot::from_bits).collect();
        for slot in crew {
            self.tell_own(slot, room, frame, rooms, env);
        }
    }

    /// Sends a frame through one connection alone; whether it is on its way.
    fn tell_own(
        &mut self,
        slot: ConnectionSlot<W>,
        room: RoomId,
        frame: &Bytes,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) -> bool {
        let connection = self.table.get_mut(slot);
        let Some(connection) = connection.filter(|connection| connection.is_open()) else {
            return false;
        };
        let write = |out: &mut BytesMut| out.extend_from_slice(frame);
        if connection.lane().push(write).is_err() {
            self.cut(slot, CloseReason::Slow, rooms, env);
            return false;
        }
        frames::note_own(room, connection.session.sender_json(), write);
        self.deliver_own(slot, rooms, env);
        true
    }

    /// Sends an event through its connections to all shards, and to all nodes of a cluster.
    pub(in crate::shard::core) fn tell_everywhere(
        &mut self,
        event: UserEvent,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        self.tell_user(&event, rooms, env);
        env.outbox.send_to_others(|| {
            let (answer, _nobody_asks) = oneshot::channel();
            Command::SendUserEvent(Box::new(event.clone()), answer)
        });
        if rooms.is_clustered() {
            env.outbox.tell_cluster(ToCluster::TellUser(event));
        }
    }

    /// Returns the addresses of a user's connections in a room here.
    pub(in crate::shard::core) fn addresses_of(
        &self,
        room: RoomId,
        user_id: &str,
        rooms: &Rooms,
    ) -> Vec<IpAddr> {
        let slots = self.of_user(room, user_id, rooms).into_iter();
        slots
            .filter_map(|slot| Some(self.table.get(slot)?.ip))
            .collect()
    }

    /// Sends an event through the connections of its user alone; returns through how many. One that does not read is cut,
    /// as a slow one is.
    pub(in crate::shard::core) fn tell_user(
        &mut self,
        event: &UserEvent,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) -> u64 {
        if *event.user_id == *UserEvent::CREW {
            self.tell_crew(event.room, &event.frame, rooms, env);
            return 0;
        }
        let mut told = 0;
        for slot in self.of_user(event.room, &event.user_id, rooms) {
            told += u64::from(self.tell_own(slot, event.room, &event.frame, rooms, env));
        }
        env.metrics.user_events.add(told);
        told
    }
}
