//! The effects that a session orders from its connection.

use crate::chat::{Refusal, Request};
use crate::extension::Command;
use crate::ws::Violation;

/// An effect that a session orders from its connection; the grammar is in the
/// [module's documentation](super).
#[derive(Debug)]
#[must_use]
pub enum Effect<'a> {
    /// Carry a valid request, which the token allows, to the room.
    Publish {
        /// The request.
        request: Request<'a>,
        /// `Sender` as it appears in a message.
        sender_json: &'a str,
    },
    /// Carry a command out and answer this client alone, or refuse it.
    Command {
        /// The command, which the token allows, or why it is refused.
        command: Command,
        /// The request's id, for the answer.
        request_id: &'a str,
        /// `Sender` as it appears in a message.
        sender_json: &'a str,
    },
    /// Tell the client that its request failed, and charge it ([`Session::charge_overhead`]) once
    /// the input is used up.
    ///
    /// [`Session::charge_overhead`]: super::Session::charge_overhead
    Refuse(Refusal<'a>),
    /// Answer a ping with its payload.
    Pong(&'a [u8]),
    /// Send the message back (conformance mode only).
    Echo {
        /// Whether it is text, not binary.
        text: bool,
        /// The message's content.
        payload: &'a [u8],
    },
    /// Answer the client's Close frame, which has this code, if any.
    AnswerClose {
        /// The client's code.
        code: Option<u16>,
    },
    /// Note that the client sends nothing any more: its side of the closing handshake is done.
    PeerClosed,
    /// Send a Close frame that names this violation, then end the connection.
    Violation(Violation),
    /// Cut the connection: the client sent more frames beside its requests than it may.
    Flood,
}
