//! What a viewer gets of what the room remembers, when he joins.

use bytes::{Bytes, BytesMut};

use crate::base::clock::{Tick, UnixTime};
use crate::base::id::FrameId;
use crate::chat::encode;
use crate::room::stands::Stand;

/// Where a viewer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// He is new.
    New,
    /// He stood there when his connection was lost.
    At(Stand),
    /// He has this message.
    After(FrameId),
}

/// What he gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Number of messages.
    pub messages: u32,
    /// Whether nothing is missing: of what was asked for, or since he left.
    pub is_complete: bool,
    /// Whether it goes on where he left.
    pub is_resumed: bool,
    /// The frames, unchanged, oldest first.
    pub frames: Bytes,
}

impl Replay {
    /// `EventName` of the event before the frames.
    const NAME: &str = "uproar:history";

    /// What he gets if nothing can be given.
    pub fn refused() -> Self {
        Self {
            messages: 0,
            is_complete: false,
            is_resumed: false,
            frames: Bytes::new(),
        }
    }

    /// Appends the event that tells of it.
    pub fn announce(&self, out: &mut BytesMut, id: FrameId, now: UnixTime) {
        let text = |is_so| if is_so { "true" } else { "false" };
        let attributes = encode::attributes_json([
            ("Count", &*self.messages.to_string()),
            ("Complete", text(self.is_complete)),
            ("Resumed", text(self.is_resumed)),
        ]);
        let event = encode::Event {
            id,
            request_id: "",
            name: Self::NAME,
            attributes_json: &attributes,
            sent: now,
        };
        encode::event(out, &event);
    }
}

/// The newest remembered frames, in order.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) bytes: Bytes,
    // Oldest first.
    pub(super) parts: Vec<Part>,
    // Older ones did not fit.
    pub(super) is_cut: bool,
}

/// A frame of a snapshot.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) noted: Tick,
    pub(super) is_message: bool,
    // Where it begins.
    pub(super) start: usize,
}

impl Snapshot {
    /// Adds the frames from a part on.
    pub(super) fn slice(&self, at: usize, replay: Replay) -> Replay {
        let start = self
            .parts
            .get(at)
            .map_or(self.bytes.len(), |part| part.start);
        Replay {
            frames: self.bytes.slice(start..),
            ..replay
        }
    }
}
