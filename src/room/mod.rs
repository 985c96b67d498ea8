//! Rooms as pure state machines: order, rate, ids, the log and its cursors.
//!
//! A room has two halves. [`order::Room`] lives on the room's home shard only: it decides what is
//! said, in which order, and encodes it once. [`audience::Audience`] lives on every shard that has
//! members: the room's log as far as that shard needs it, and a cursor for each member. A reviewed room
//! has a third part, on its home shard: [`review::Pending`], where messages wait for their verdict.

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
}
