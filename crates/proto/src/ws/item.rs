//! The messages and control frames of a client, and where their payloads lie.

#![expect(
    clippy::indexing_slicing,
    reason = "the decoder made the span with its memory"
)]

use crate::scan::Scan;

/// A message's unmasked payload, with padding after it that a parser may read.
#[derive(Debug)]
pub struct Payload<'a> {
    pub(super) padded: &'a mut [u8],
    pub(super) len: usize,
}

impl<'a> Payload<'a> {
    /// Returns the payload.
    pub fn into_bytes(self) -> &'a [u8] {
        &self.padded[..self.len]
    }

    /// Returns the payload's memory, and its length within it; at least `PARSE_PADDING_BYTES`
    /// follow a message, none a control frame.
    pub(crate) fn into_padded(self) -> (&'a mut [u8], usize) {
        (self.padded, self.len)
    }
}

/// Where the payload of an [`Item`] lies; `Decoder::payload` lends it.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub(super) place: Place,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// The memories that can hold a payload.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// The received buffer: the frame was whole in it.
    Received,
    /// The assembly's message.
    Message,
    /// The assembly's control frame.
    Control,
    /// The decompressor's output.
    Inflater,
}

/// A message or control frame of a client, without its payload, so that a caller can pass over it
/// or go on reading before it borrows.
#[derive(Debug)]
#[must_use]
pub enum Item {
    /// A whole text message; valid UTF-8.
    Text(Span),
    /// A whole binary message.
    Binary(Span),
    /// A whole message that is too large; the scan of it.
    Oversized(Box<Scan>),
    /// A ping.
    Ping(Span),
    /// A pong.
    Pong(Span),
    /// The client's Close frame.
    Close {
        /// The close code, if it has one.
        code: Option<u16>,
        /// The close reason; valid UTF-8.
        reason: Span,
    },
}
