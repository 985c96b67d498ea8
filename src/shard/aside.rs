//! What a room's home has to say beside its log: for one user, for those who moderate, or to the control thread.

use bytes::Bytes;

use super::command::MemberOrder;
use super::user_event::UserEvent;
use uproar_proto::base::id::RoomId;

/// Something to be done at the end of the turn, when connections can be reached.
#[derive(Debug)]
pub(super) enum Aside {
    /// A frame for one user, or for those who moderate, through their connections to all shards and nodes.
    Tell(UserEvent),
    /// The control thread is to carry this out; nobody waits for it.
    Order(Box<MemberOrder>),
}

impl Aside {
    /// Tells all connections of a user in a room.
    pub(super) fn user(room: RoomId, user_id: &str, frame: Bytes) -> Self {
        let user_id = user_id.into();
        Self::Tell(UserEvent {
            room,
            user_id,
            frame,
        })
    }

    /// Tells those who moderate a room.
    pub(super) fn crew(room: RoomId, frame: Bytes) -> Self {
        Self::user(room, UserEvent::CREW, frame)
    }
}
