//! The reasons why a connection ends, and its Close frame.

use bytes::BytesMut;

use crate::ws::{self, Violation};

/// The close code of a message that is too long (RFC 6455 §7.4.1).
pub(super) const TOO_BIG: u16 = 1009;
const NORMAL: u16 = 1000;

/// A reason to send a Close frame. Kicks, session end and room deletion close with 1000: any other
/// code may make a kicked Firefox user reconnect (IVS Chat's JavaScript SDK special-cases 1000).
#[derive(Debug)]
pub enum Ending<'a> {
    /// The client sent Close first; the answer has its code.
    Answer {
        /// The client's code, if it gave one.
        code: Option<u16>,
    },
    /// The client broke RFC 6455.
    Violation(Violation),
    /// A moderator or the API disconnected the user; the reason is plain text.
    Disconnected {
        /// The reason; cut to the length that a Close frame holds.
        reason: &'a str,
    },
    /// The session's time is over; the reason is JSON, as IVS Chat's clients expect.
    SessionOver,
    /// The room was deleted.
    RoomDeleted,
}

impl Ending<'_> {
    /// Appends the Close frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Ending::Answer { code: Some(code) } => ws::close(out, *code, ""),
            Ending::Answer { code: None } => ws::close_empty(out),
            Ending::Violation(violation) => {
                ws::close(out, violation.close_code(), &violation.to_string());
            }
            Ending::Disconnected { reason } => ws::close(out, NORMAL, reason),
            Ending::SessionOver => ws::close(out, NORMAL, SESSION_OVER_JSON),
            Ending::RoomDeleted => ws::close(out, NORMAL, "Room deleted"),
        }
    }
}

/// The Close reason of a session whose time is over.
const SESSION_OVER_JSON: &str =
    r#"{"Type":"ERROR","ErrorCode":401,"ErrorMessage":"Session expired"}"#;

const _: () = assert!(
    SESSION_OVER_JSON.len() <= 123,
    "RFC 6455 §5.5: 125 bytes with the code"
);
