//! A stored room on its way to its shard.

use super::fault::Fault;
use super::record::{Record, RoomRecord};
use super::state::Control;
use crate::shard::command::Refused;

impl Control {
    /// Sends the settings to the room's shard; returns once they are in force on all shards. The archive already knows the
    /// room's destinations. In a cluster the registry has told the shard, in the order of all nodes' changes.
    pub(super) async fn put_room(&self, room: &RoomRecord) -> Result<(), Fault> {
        if self.registry.is_shared() {
            return Ok(());
        }
        let settings = self.registry.settings_of(room);
        let updated = self.gateway.put_room(room.id(), settings).await;
        updated.map_err(|refused| {
            tracing::error!(room = %room.id(), %refused, "a stored room did not reach its shard");
            if refused == Refused::Late {
                Fault::Late
            } else {
                Fault::Internal
            }
        })
    }
}
