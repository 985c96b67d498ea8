//! Why a connection ended: which counter that is, and whether its socket is closed or reset.

use super::metrics::{Figure, ShardMetrics};

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client went: it sent Close, its stream ended, or its connection broke.
    Client,
    /// The client did not answer our Close frame in time.
    Unanswered,
    /// The session's time was over.
    SessionOver,
    /// A moderator or the API disconnected the user.
    Kicked,
    /// The room was deleted.
    RoomDeleted,
    /// The client broke RFC 6455 or TLS.
    Protocol,
    /// The client did not read what it was sent.
    Slow,
    /// The client was silent.
    Idle,
    /// The client sent more than it may beside its requests.
    Flood,
    /// The server stops.
    Drain,
}

/// What becomes of bytes that the kernel holds for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HowToClose {
    /// The kernel goes on delivering them, then sends FIN.
    Graceful,
    /// They are dropped at once, and the client gets RST: `SOCKET_SEND_BYTES` of kernel memory are free.
    Abortive,
}

impl Ended {
    /// The counter.
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

    /// How a connection is cut for this reason. `was_open`: no closing handshake had begun. `sending`: the
    /// kernel has not taken all that was for the client.
    ///
    /// A client that is owed something keeps its bytes: a kick's Close frame, ERROR 401, what was said
    /// before a restart. Whoever does not read, or ended without a closing handshake, is owed nothing; left
    /// to the kernel, its bytes would stay there for minutes as an orphan's.
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
