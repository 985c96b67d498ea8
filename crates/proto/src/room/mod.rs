//! Rooms as pure state machines: order, rate, ids, the log and its cursors.
//!
//! A room has two halves. [`order::Room`] is on the room's home shard only: it accepts messages,
//! decides their order, and encodes them once. [`audience::Audience`] is on every shard with
//! members: the part of the room's log that the shard needs, and a cursor for each member. A
//! reviewed room has a third part, on its home shard: [`review::Pending`], where messages wait for
//! their verdict.

use std::sync::Arc;

use crate::base::id::LoggingId;
use crate::base::limits::ROOM_LOGGING_MAX;
use crate::extension::Extension;

pub mod audience;
mod batch;
pub mod log;
pub mod memory;
pub mod order;
pub mod redaction;
pub mod review;
pub mod stands;

/// The settings of a room, from the control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSettings {
    /// `maximumMessageLength`, in Unicode code points: 1-500.
    pub content_chars_max: u16,
    /// `maximumMessageRatePerSecond`, all senders together: 1-100.
    pub messages_per_second: u32,
    /// Whether each message is reviewed before it is delivered, and the decision without a verdict.
    pub review: Option<review::Fallback>,
    /// `loggingConfigurationIdentifiers`.
    pub archive: ArchiveTargets,
    /// What its tags ask for beyond IVS Chat; `None`: nothing, so that such a room pays one test.
    pub extension: Option<Arc<Extension>>,
}

impl RoomSettings {
    /// Whether its messages are held to rules.
    pub fn has_rules(&self) -> bool {
        let extension = self.extension.as_deref();
        extension.is_some_and(|extension| extension.settings.rules.is_some())
    }
}

/// The logging configurations of a room; each of their spools gets every frame of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ArchiveTargets([Option<LoggingId>; ROOM_LOGGING_MAX]);

impl ArchiveTargets {
    /// Whether the room is not logged.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// Returns each of them.
    pub fn iter(&self) -> impl Iterator<Item = LoggingId> {
        self.0.iter().flatten().copied()
    }
}

impl FromIterator<LoggingId> for ArchiveTargets {
    /// Takes the first three different ones.
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
