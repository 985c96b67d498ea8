//! Rooms as pure state machines: order, rate, ids, the log and its cursors.
//!
//! A room has two halves. [`order::Room`] lives on the room's home shard only: it decides what is
//! said, in which order, and encodes it once. [`audience::Audience`] lives on every shard that has
//! members: the room's log as far as that shard needs it, and a cursor for each member. A reviewed room
//! has a third part, on its home shard: [`review::Pending`], where messages wait for their verdict.

use crate::base::id::LoggingId;
use crate::base::limits::ROOM_LOGGING_MAX;

pub mod audience;
pub mod log;
pub mod order;
pub mod review;

/// What the control plane sets for a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomSettings {
    /// `maximumMessageLength`, in Unicode code points: 1-500.
    pub content_chars_max: u16,
    /// `maximumMessageRatePerSecond`, all senders together: 1-100.
    pub messages_per_second: u32,
    /// Whether each message is reviewed before it is delivered, and what counts without a verdict.
    pub review: Option<review::Fallback>,
    /// `loggingConfigurationIdentifiers`.
    pub archive: ArchiveTargets,
}

/// The logging configurations of a room, whose spools get every frame of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArchiveTargets([Option<LoggingId>; ROOM_LOGGING_MAX]);

impl ArchiveTargets {
    /// Whether the room is not logged.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = LoggingId> {
        self.0.iter().flatten().copied()
    }
}

impl FromIterator<LoggingId> for ArchiveTargets {
    /// Of those named, the first three different ones.
    fn from_iter<I: IntoIterator<Item = LoggingId>>(ids: I) -> Self {
        let mut targets = Self::default();
        for id in ids {
            let known = targets.iter().any(|other| other == id);
            let free = targets.0.iter_mut().find(|place| place.is_none());
            if let (false, Some(place)) = (known, free) {
                *place = Some(id);
            }
        }
        targets
    }
}
