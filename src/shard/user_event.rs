//! An event for one user.

use bytes::Bytes;

use uproar_proto::base::id::RoomId;

/// An event for one user's connections in a room, and no other's; or for those who moderate.
#[derive(Debug, Clone)]
pub struct UserEvent {
    /// The room.
    pub room: RoomId,
    /// The user's id; [`UserEvent::CREW`]: those who moderate.
    pub user_id: Box<str>,
    /// The frame.
    pub frame: Bytes,
}

impl UserEvent {
    /// In place of a user's id: no user has it.
    pub const CREW: &str = "";
}
