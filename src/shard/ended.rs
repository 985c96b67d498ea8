//! The reasons why a connection ends, with their counter and their way to close the socket.

use super::metrics::{Figure, ShardMetrics};

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client left: it sent Close, its stream ended, or its connection broke.
    Client,
    /// The client did not answer our Close frame in time.
    Unanswered,
    /// The session's duration was over.
    SessionOver,
    /// A moderator or the API disconnected the user.
    Kicked,
    /// The room was deleted.
    RoomDeleted,
    /// The client broke RFC 6455 or TLS.
    Protocol,
    /// The client did not read its messages.
    Slow,
    /// The client was silent.
    Idle,
    /// The client sent more frames beside its requests than it may.
    Flood,
    /// The server stops.
    Drain,
}

/// Whether bytes that the kernel holds for the client are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HowToClose {
    /// The kernel goes on delivering them, then sends FIN.
    Graceful,
    /// They are dropped at once, and the client gets RST, which frees `SOCKET_SEND_BYTES` of kernel memory.
    Abortive,
}

impl Ended {
    /// Returns the counter of this reason.
    pub(super) fn figure(self, metrics: &ShardMetrics) -> &Figure {
        match self {
            Self::Client | Self::Unanswered => &metrics.closed_client,
            Self::SessionOver => &metrics.closed_session,
            Self::Kicked => &metrics.closed_kicked,
            Self::RoomDeleted => &metrics.closed_room,
            Self::Protocol => &metrics.closed_protocol,
            Self::Slow => &metrics.closed_slow,
            Self::Idle => &metrics.closed_idle,
            Self::Flood => &metrics.closed_flood,
            Self::Drain => &metrics.closed_drain,
        }
    }

    /// Decides how a connection is cut for this reason. `was_open`: no closing handshake had begun. `sending`:
    /// the kernel has not taken all bytes for the client.
    ///
    /// Some clients must still get their bytes: a kick's Close frame, ERROR 401, the messages before a restart. A
    /// client that does not read, or left without a closing handshake, needs none; the kernel would keep
    /// its bytes for minutes as an orphan's.
    pub(super) fn how_to_close(self, was_open: bool, sending: bool) -> HowToClose {
        let owed = match self {
            Self::Slow | Self::Idle | Self::Flood | Self::Protocol => false,
            // Its part of a closing handshake is done, or never will be.
            Self::Client
            | Self::Unanswered
            | Self::SessionOver
            | Self::Kicked
            | Self::RoomDeleted => !was_open && !sending,
            Self::Drain => true,
        };
        if owed {
            HowToClose::Graceful
        } else {
            HowToClose::Abortive
        }
    }
}
