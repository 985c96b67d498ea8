//! Why connections end: one table of reasons for counters, log lines, Close frames and sockets.
//!
//! `docs/limits.md`, "How connections end", is this table for operators; a test compares them.

use uproar_proto::session::Ending;

/// Why a connection ended. The log shows the variant's name, as `reason` of "session ended".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client left: it sent Close, its stream ended, or its connection broke.
    Client,
    /// The session's duration was over.
    SessionOver,
    /// A moderator or the API disconnected the user.
    Kicked,
    /// The client did not read its messages.
    Slow,
    /// The client was silent.
    Idle,
    /// The client broke RFC 6455 or TLS.
    Protocol,
    /// The room was deleted.
    RoomDeleted,
    /// The client sent more frames beside its requests than it may.
    Flood,
    /// The server stops.
    Drain,
}

/// The Close frame that a client gets for a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// A Close frame with this code.
    Fixed(u16),
    /// A Close frame with the code that the client sent, or none if its stream ended without one.
    AsReceived,
    /// A Close frame with the violation's code, or none if TLS is broken.
    OfViolation,
    /// No Close frame: the client finds its connection lost.
    None,
}

/// How a connection's socket is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HowToClose {
    /// The kernel goes on delivering the bytes that it holds for the client, then sends FIN.
    Graceful,
    /// These bytes are dropped at once, and the client gets RST, which frees `SOCKET_SEND_BYTES` of
    /// kernel memory.
    Abortive,
}

impl CloseReason {
    /// Its place in a table of all reasons.
    #[expect(
        clippy::as_conversions,
        reason = "the number of a variant without fields"
    )]
    pub(super) fn index(self) -> usize {
        self as usize
    }

    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Client,
        Self::SessionOver,
        Self::Kicked,
        Self::Slow,
        Self::Idle,
        Self::Protocol,
        Self::RoomDeleted,
        Self::Flood,
        Self::Drain,
    ];

    /// The label `reason` of `uproar_connections_closed_total`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::SessionOver => "session_expired",
            Self::Kicked => "kicked",
            Self::Slow => "slow",
            Self::Idle => "idle",
            Self::Protocol => "protocol_error",
            Self::RoomDeleted => "room_deleted",
            Self::Flood => "flood",
            Self::Drain => "drain",
        }
    }

    /// The Close frame that the client gets.
    ///
    /// IVS Chat's JavaScript client takes every clean close as final, and code 1000 as a kick. So
    /// what the client shall not repeat ends with 1000, and what it shall bridge ends without a
    /// Close frame.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::SessionOver | Self::Kicked | Self::RoomDeleted => CloseCode::Fixed(1000),
            Self::Client => CloseCode::AsReceived,
            Self::Protocol => CloseCode::OfViolation,
            Self::Slow | Self::Idle | Self::Flood | Self::Drain => CloseCode::None,
        }
    }

    /// Whether IVS Chat's clients connect again by themselves, with a new token: after a connection
    /// lost without a Close frame, and after the ERROR 401 that goes before the Close frame of a
    /// session whose time is over.
    pub const fn client_reconnects(self) -> bool {
        match self {
            Self::SessionOver | Self::Slow | Self::Idle | Self::Flood | Self::Drain => true,
            Self::Client | Self::Kicked | Self::RoomDeleted | Self::Protocol => false,
        }
    }

    /// Decides how the socket is closed when the connection is cut for this reason. `was_open`: no
    /// closing handshake had begun. `sending`: the kernel has not taken all bytes for the client.
    ///
    /// Some clients must still get their bytes: a kick's Close frame, ERROR 401, the messages
    /// before a restart. A client that does not read, or left without a closing handshake, needs
    /// none; the kernel would keep its bytes for minutes as an orphan's.
    pub(super) const fn how_to_close(self, was_open: bool, sending: bool) -> HowToClose {
        let owed = match self {
            Self::Slow | Self::Idle | Self::Flood | Self::Protocol => false,
            // Its part of a closing handshake is done, or never will be.
            Self::Client | Self::SessionOver | Self::Kicked | Self::RoomDeleted => {
                !was_open && !sending
            }
            Self::Drain => true,
        };
        if owed {
            HowToClose::Graceful
        } else {
            HowToClose::Abortive
        }
    }
}

impl From<&Ending<'_>> for CloseReason {
    /// The reason of a closing handshake.
    fn from(ending: &Ending<'_>) -> Self {
        match ending {
            Ending::Answer { .. } => Self::Client,
            Ending::Violation(_) => Self::Protocol,
            Ending::Disconnected { .. } => Self::Kicked,
            Ending::SessionOver => Self::SessionOver,
            Ending::RoomDeleted => Self::RoomDeleted,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use uproar_proto::ws::Violation;

    use super::*;

    /// Goal: the code that the table names is the one that the client gets. Method: encode each
    /// Close frame.
    #[test]
    fn close_frames_have_the_codes_of_the_table() {
        let answer = Ending::Answer { code: Some(4321) };
        let violation = Ending::Violation(Violation::Utf8);
        let kick = Ending::Disconnected { reason: "why" };
        for ending in [
            answer,
            violation,
            kick,
            Ending::SessionOver,
            Ending::RoomDeleted,
        ] {
            let mut frame = BytesMut::new();
            ending.encode(&mut frame);
            let code = u16::from_be_bytes([frame[2], frame[3]]);
            let expected = match CloseReason::from(&ending).close_code() {
                CloseCode::Fixed(code) => code,
                CloseCode::AsReceived => 4321,
                CloseCode::OfViolation => Violation::Utf8.close_code(),
                CloseCode::None => panic!("{ending:?} needs no Close frame"),
            };
            assert_eq!(code, expected, "{ending:?}");
        }
    }

    /// Goal: an operator reads in docs/limits.md what the code does. Method: each reason has one
    /// row with its label, its Close frame and whether clients reconnect, and no row is left over.
    #[test]
    fn the_page_about_ends_is_this_table() {
        let page = include_str!("../../docs/limits.md");
        let (_, section) = page
            .split_once("## How connections end")
            .expect("the section");
        let mut rows: Vec<&str> = section
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        for reason in CloseReason::ALL {
            let close_frame = match reason.close_code() {
                CloseCode::Fixed(code) => code.to_string(),
                CloseCode::AsReceived => "the client's".to_owned(),
                CloseCode::OfViolation => "the violation's".to_owned(),
                CloseCode::None => "none".to_owned(),
            };
            let reconnects = if reason.client_reconnects() {
                "yes"
            } else {
                "no"
            };
            let wanted = format!("| `{}` | {close_frame} | {reconnects} |", reason.label());
            let at = rows.iter().position(|row| row.starts_with(&wanted));
            rows.remove(at.unwrap_or_else(|| panic!("no row begins with {wanted}")));
        }
        assert!(rows.is_empty(), "rows of no reason: {rows:?}");
    }
}
