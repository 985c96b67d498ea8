//! The control thread's door to the shards: room settings in, moderation and events in, answers out.

use crate::base::id::{FrameId, RoomId};
use crate::room::RoomSettings;

/// Why a shard did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No shard knows the room.
    #[error("room does not exist")]
    NoSuchRoom,
    /// The account-wide rate of this action is used up.
    #[error("rate limit exceeded")]
    Rate,
    /// The shard's mailbox is full.
    #[error("the room's shard has more work than its mailbox holds")]
    Busy,
}

/// Cheap to clone; used only on the control thread.
#[derive(Debug, Clone)]
pub struct Gateway {}

impl Gateway {
    /// Makes the room known to its home shard, or changes its settings. Done when it answers.
    pub async fn put_room(&self, _room: RoomId, _settings: RoomSettings) -> Result<(), Refused> {
        Ok(())
    }

    /// Forgets the room and closes its connections (contract §1.7).
    pub async fn delete_room(&self, _room: RoomId) -> Result<(), Refused> {
        Ok(())
    }

    /// Broadcasts an application event. `attributes_json` is a JSON object as it goes on the wire.
    pub async fn send_event(
        &self,
        _room: RoomId,
        _name: &str,
        _attributes_json: &str,
    ) -> Result<FrameId, Refused> {
        Err(Refused::NoSuchRoom)
    }

    /// Broadcasts `aws:DELETE_MESSAGE`; the answer is the event's id.
    pub async fn delete_message(
        &self,
        _room: RoomId,
        _message_id: &str,
        _reason: &str,
    ) -> Result<FrameId, Refused> {
        Err(Refused::NoSuchRoom)
    }

    /// Broadcasts `aws:DISCONNECT_USER`, then closes every connection of the user in the room.
    pub async fn disconnect_user(
        &self,
        _room: RoomId,
        _user_id: &str,
        _reason: &str,
    ) -> Result<FrameId, Refused> {
        Err(Refused::NoSuchRoom)
    }
}
