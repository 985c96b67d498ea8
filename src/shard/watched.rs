//! Rooms whose number of viewers somebody is told.

use super::shard_room::ShardRoom;
use uproar_proto::base::table::Slot;

/// Which rooms at home here are looked at once a second. A room that is gone is dropped then.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Those whose members are told, once each.
    pub(super) told: Vec<Slot<ShardRoom>>,
    /// On a node of a cluster: those that have members here, and those that lost them a moment ago, once each.
    pub(super) peopled: Vec<Slot<ShardRoom>>,
}

impl Watched {
    /// Whether a look is due once a second.
    pub(super) fn is_needed(&self) -> bool {
        !self.told.is_empty() || !self.peopled.is_empty()
    }
}
