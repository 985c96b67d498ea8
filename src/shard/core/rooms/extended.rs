//! Rooms with more than IVS Chat has: their state on its way to their members.

use super::{Env, Rooms};
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::table::{Slot, Table};
use uproar_proto::extension::Extension;

impl Rooms {
    /// Tells all members of a room at home here what is in force now, if that is not what was in force `before`. In a
    /// cluster each node tells its own, from the record that all have: clients know the frame by its id.
    pub(super) fn tell_state<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        before: Option<&Extension>,
        env: &mut Env<S>,
    ) {
        let Some(shard_room) = self.table.get_mut(room_slot) else {
            return;
        };
        let now = shard_room.settings.extension.as_deref();
        if now == before {
            return;
        }
        let frame = match (before, now) {
            (_, Some(now)) => now.state().cloned(),
            (Some(before), None) => before.farewell(shard_room.id, env.now.unix),
            (None, None) => None,
        };
        if let (Some(frame), Some(home)) = (frame, &mut shard_room.home) {
            let (sent, urgent) = (env.now.unix, true);
            home.room.adopt(&mut env.deflater, &frame, sent, urgent);
            self.note_unflushed(room_slot, env.now.tick);
        }
    }

    /// Tells all members of a room of a ban if its settings say so; `false`: they do not. The room's home does it, for the
    /// members of this server.
    pub(in crate::shard::core) fn tell_all_of_ban<S>(
        &mut self,
        room: RoomId,
        frame: &[u8],
        env: &mut Env<S>,
    ) -> bool {
        let Some(room_slot) = self.find(room) else {
            return false;
        };
        let Some(shard_room) = self.table.get_mut(room_slot) else {
            return false;
        };
        let extension = shard_room.settings.extension.as_deref();
        if !extension.is_some_and(|extension| extension.settings.shows_bans) {
            return false;
        }
        if let Some(home) = &mut shard_room.home {
            let (sent, urgent) = (env.now.unix, true);
            home.room.adopt(&mut env.deflater, frame, sent, urgent);
            self.note_unflushed(room_slot, env.now.tick);
        }
        true
    }

    /// The rooms in which a user with this hash may have connections here. It costs a look at each member's hash.
    pub(in crate::shard::core) fn with_user(&self, user_hash: u32) -> Vec<RoomId> {
        let rooms = self.by_id.values().filter_map(|slot| self.get(*slot));
        let has = |room: &&ShardRoom| room.audience.with_user_hash(user_hash).next().is_some();
        rooms.filter(has).map(|room| room.id).collect()
    }

    /// Notes that a room at home here may have chat modes, or remember messages.
    pub(super) fn note_moded(&mut self, room_slot: Slot<ShardRoom>) {
        if has_modes(&self.table, room_slot) {
            self.moded.push(room_slot);
        }
    }

    /// Asserts that rooms with chat modes are listed once.
    ///
    /// # Panics
    ///
    /// If one is not.
    pub(super) fn check_modes(&self) {
        let moded = self.by_id.values();
        for slot in moded.filter(|slot| has_modes(&self.table, **slot)) {
            let listed = self.moded.iter().filter(|listed| *listed == slot);
            assert_eq!(listed.count(), 1, "rooms with modes are listed once");
        }
    }

    /// Forgets what chat modes need to know no more, and what is remembered no longer. Call it once a second or so.
    pub(in crate::shard::core) fn age_modes<S>(&mut self, env: &Env<S>) {
        let (now, table) = (env.now.tick, &mut self.table);
        let (mut records, mut bytes, mut stands) = (0, 0, 0);
        self.moded.retain(|room_slot| {
            let home = table
                .get_mut(*room_slot)
                .and_then(|room| room.home.as_mut());
            if let Some(home) = home {
                records += home.expire_modes(now);
                let (remembered, places) = home.expire_memory(now);
                bytes += remembered;
                stands += places;
            }
            has_modes(table, *room_slot)
        });
        env.metrics.mode_records.set_len(records);
        env.metrics.remembered_bytes.set_len(bytes);
        env.metrics.stands.set_len(stands);
    }
}

fn has_modes(table: &Table<ShardRoom>, room_slot: Slot<ShardRoom>) -> bool {
    let shard_room = table.get(room_slot);
    let home = shard_room.and_then(|shard_room| shard_room.home.as_deref());
    home.is_some_and(|home| {
        home.modes().is_some() || home.memory().is_some() || home.ruled().is_some()
    })
}
