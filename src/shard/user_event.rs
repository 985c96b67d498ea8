//! An event for one user.

use bytes::Bytes;

use uproar_proto::base::id::RoomId;

/// An event for one user's connections in a room, and no other's.
#[derive(Debug, Clone)]
pub struct UserEvent {
    /// The room.
    pub room: RoomId,
    /// The user's id.
    pub user_id: Box<str>,
    /// The frame.
    pub frame: Bytes,
}
