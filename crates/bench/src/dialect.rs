//! What a server under test speaks: how messages are said to it, and what it makes of them.

use std::io;

use super::nats;
use super::sample;
use super::viewer::{self, PONG, TEXT};
use super::wire::{self, Piece};

/// A server's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Uproar: chat requests and events as JSON in WebSocket frames, entered with a token.
    #[default]
    Chat,
    /// A WebSocket server that sends the text frames of each room's first connection to all of the
    /// room's, that one included. The path names the room.
    WebSocket,
    /// NATS over TCP. The subject names the room.
    Nats,
}

impl Dialect {
    /// The path of room number `room`; with Uproar the token says it.
    pub(super) fn path(self, room: usize) -> String {
        match self {
            Self::Chat => "/".to_owned(),
            Self::WebSocket | Self::Nats => format!("/r{room}"),
        }
    }

    /// Appends what is said: message `number`, meant to be sent at `nanos`, of `bytes` bytes of content.
    pub(super) fn compose(self, out: &mut String, number: u64, nanos: u64, bytes: usize) {
        match self {
            Self::Chat => sample::request(out, number, nanos, bytes),
            Self::WebSocket | Self::Nats => sample::content(out, number, nanos, bytes),
        }
    }

    /// Appends the bytes that say `text` in room number `room`.
    pub(super) fn say(self, out: &mut Vec<u8>, room: usize, text: &str) {
        match self {
            Self::Chat | Self::WebSocket => viewer::frame(out, TEXT, text.as_bytes()),
            Self::Nats => nats::publish(out, room, text.as_bytes()),
        }
    }

    /// Appends the answer to a ping.
    pub(super) fn pong(self, out: &mut Vec<u8>) {
        match self {
            Self::Chat | Self::WebSocket => viewer::frame(out, PONG, b""),
            Self::Nats => out.extend(nats::PONG),
        }
    }

    /// Bytes that the server sends to every new connection some seconds later, once, whatever happens.
    pub(super) fn greeting_bytes(self) -> u64 {
        match self {
            Self::Chat | Self::WebSocket => 0,
            // To learn the way's length. It would count as bytes of a message.
            Self::Nats => nats::PING.len() as u64,
        }
    }

    /// The first whole piece of what came; `None`: more bytes are needed.
    pub(super) fn first(self, bytes: &[u8]) -> io::Result<Option<Piece>> {
        match self {
            Self::Chat | Self::WebSocket => Ok(wire::first(bytes)),
            Self::Nats => nats::first(bytes),
        }
    }
}
