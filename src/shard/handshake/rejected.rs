//! The table of reasons why a handshake fails: status, error code, log line and counter of each.

use std::io;

use crate::logging::Kind;
use crate::net::tls::TlsError;
use crate::shard::metrics::{Figure, ShardMetrics};
use uproar_proto::chat::ErrorCode;
use uproar_proto::http::HeadFault;
use uproar_proto::proxy::PrefaceFault;
use uproar_proto::token::TokenError;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("{0}")]
    Preface(#[from] PrefaceFault),
    #[error("{0}")]
    Head(#[from] HeadFault),
    #[error("A chat token is required in Sec-WebSocket-Protocol")]
    MissingToken,
    #[error("{0}")]
    Token(#[from] TokenError),
    #[error("Origin is not allowed")]
    Origin,
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("This port speaks TLS: use wss:// or https://")]
    WithoutTls,
}

/// A request of which no connection comes.
#[derive(Debug)]
pub(super) enum NoUpgrade {
    /// Plain HTTP: a page is asked for.
    Page,
    /// It is refused.
    Rejected(Rejected),
}

impl From<Rejected> for NoUpgrade {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl From<HeadFault> for NoUpgrade {
    fn from(fault: HeadFault) -> Self {
        Self::Rejected(fault.into())
    }
}

impl Rejected {
    /// Status and error code of the HTTP answer; `None`: it gets none.
    pub(super) fn status(&self) -> Option<(u16, ErrorCode)> {
        match self {
            Self::Head(fault) => Some((fault.status(), ErrorCode::BadRequest)),
            Self::WithoutTls => Some((400, ErrorCode::BadRequest)),
            Self::MissingToken | Self::Token(_) => Some((401, ErrorCode::Unauthorized)),
            Self::Origin => Some((403, ErrorCode::Forbidden)),
            Self::Preface(_) | Self::Tls(_) | Self::Io(_) => None,
        }
    }

    /// The kind of its log line. A client that went away was not refused.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Preface(_) | Self::Head(_) => Some(Kind::HandshakeMalformed),
            Self::MissingToken => Some(Kind::HandshakeMissingToken),
            Self::Token(TokenError::Expired { .. }) => Some(Kind::HandshakeExpiredToken),
            Self::Token(_) => Some(Kind::HandshakeBadToken),
            Self::Origin => Some(Kind::HandshakeOrigin),
            Self::Tls(_) | Self::WithoutTls => Some(Kind::HandshakeTls),
            Self::Io(_) => None,
        }
    }

    /// Its counter.
    pub(super) fn figure<'a>(&self, metrics: &'a ShardMetrics) -> &'a Figure {
        match self {
            Self::Preface(_) | Self::Head(_) => &metrics.rejected_malformed,
            Self::MissingToken => &metrics.rejected_missing,
            Self::Token(TokenError::Expired { .. }) => &metrics.rejected_expired,
            Self::Token(_) => &metrics.rejected_token,
            Self::Origin => &metrics.rejected_origin,
            Self::Tls(_) | Self::WithoutTls => &metrics.rejected_tls,
            Self::Io(_) => &metrics.rejected_gone,
        }
    }
}
