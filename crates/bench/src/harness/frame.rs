//! What a server sent, as its protocol's parser sees it.

use std::ops::Range;

/// One whole frame of WebSocket, or line and payload of NATS.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Whether the payload is compressed (RFC 7692).
    pub(super) deflated: bool,
    /// Where the payload lies in the bytes that were parsed.
    pub(super) payload: Range<usize>,
    /// Where the next frame begins.
    pub(super) end: usize,
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message, or an answer to one.
    Data,
    /// The server wants a pong.
    Ping,
    /// The server ends the connection.
    Close,
    /// Nothing that a measurement needs.
    Other,
}
