//! The protocol between the load generator and a server under test.

use std::io;

use super::frame::Frame;
use super::{message, nats, websocket};

/// What a server speaks: how a message is sent to it, and what it sends to a room's members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ClientProtocol {
    /// Uproar's: chat requests and events as JSON in WebSocket frames, admitted by a chat token.
    #[default]
    Chat,
    /// A WebSocket server that sends the text frames of each room's first connection to all
    /// connections of the room, that one included. The path names the room.
    WebSocket,
    /// NATS over TCP. The subject names the room.
    Nats,
}

impl ClientProtocol {
    /// Returns the path of room number `room`. Uproar's is always the same: its token names the
    /// room.
    pub(crate) fn path(self, room: usize) -> String {
        match self {
            Self::Chat => "/".to_owned(),
            Self::WebSocket | Self::Nats => format!("/r{room}"),
        }
    }

    /// Appends the text of message `number`, due at `nanos`, with `bytes` bytes of content.
    pub(super) fn compose(self, out: &mut String, number: u64, nanos: u64, bytes: usize) {
        match self {
            Self::Chat => message::request(out, number, nanos, bytes),
            Self::WebSocket | Self::Nats => message::content(out, number, nanos, bytes),
        }
    }

    /// Appends the bytes that send `text` to room number `room`.
    pub(super) fn send(self, out: &mut Vec<u8>, room: usize, text: &str) {
        match self {
            Self::Chat | Self::WebSocket => {
                websocket::frame(out, websocket::TEXT, text.as_bytes());
            }
            Self::Nats => nats::publish(out, room, text.as_bytes()),
        }
    }

    /// Returns the answer to a ping, which may also be sent unasked.
    pub(super) fn pong(self) -> Vec<u8> {
        match self {
            Self::Chat | Self::WebSocket => websocket::pong(),
            Self::Nats => nats::PONG.to_vec(),
        }
    }

    /// The bytes that the server sends once to every new connection, some seconds later, whatever
    /// happens.
    pub(super) fn greeting_bytes(self) -> u64 {
        match self {
            Self::Chat | Self::WebSocket => 0,
            // Its first PING, by which it measures the round trip. It would count as bytes of a
            // message.
            Self::Nats => nats::PING.len() as u64,
        }
    }

    /// Returns the first whole frame of `bytes`; `None` if more bytes are needed.
    ///
    /// # Errors
    ///
    /// `InvalidData` for bytes that no NATS server sends.
    pub(super) fn first(self, bytes: &[u8]) -> io::Result<Option<Frame>> {
        match self {
            Self::Chat | Self::WebSocket => Ok(websocket::first(bytes)),
            Self::Nats => nats::first(bytes),
        }
    }
}
