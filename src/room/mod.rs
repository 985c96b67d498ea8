//! Rooms as pure state machines: order, rate, ids, the log and its cursors.

/// What the control plane sets for a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomSettings {
    /// `maximumMessageLength`, in Unicode code points: 1-500.
    pub content_chars_max: u16,
    /// `maximumMessageRatePerSecond`, all senders together: 1-100.
    pub messages_per_second: u32,
}
