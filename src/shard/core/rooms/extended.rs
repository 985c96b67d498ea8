//! Rooms with more than IVS Chat has: their state on its way to their members.

use super::{Env, Rooms};
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::table::Slot;
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
}
