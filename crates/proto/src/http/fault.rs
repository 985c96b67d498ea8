//! Why a request head is refused, and the status that says so.

use crate::base::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, TOKEN_BYTES_MAX};

/// Why a request head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// The head is longer than `HEAD_BYTES_MAX`.
    #[error("Request head is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// The head has more than `HEAD_FIELDS_MAX` fields.
    #[error("Request head has more than {HEAD_FIELDS_MAX} fields")]
    TooManyFields,
    /// The head is not HTTP/1.1 as RFC 9112 defines it.
    #[error("Malformed HTTP request head")]
    Malformed,
    /// The version is not HTTP/1.1, so it cannot upgrade.
    #[error("HTTP/1.1 is required")]
    Version,
    /// The method is not GET, or HEAD for a page.
    #[error("Method is not allowed")]
    Method,
    /// A field that must occur once is missing or repeated.
    #[error("Header {0} must appear exactly once")]
    NotOnce(&'static str),
    /// The request has a body.
    #[error("Request must not have a body")]
    Body,
    /// The upgrade is not to WebSocket.
    #[error("Only an upgrade to WebSocket is offered")]
    OtherUpgrade,
    /// The request has `Upgrade: websocket` but not the rest of RFC 6455 §4.2.1.
    #[error("Malformed WebSocket handshake: {0}")]
    Handshake(&'static str),
    /// The WebSocket version is not 13.
    #[error("Only WebSocket version 13 is spoken")]
    WebSocketVersion,
    /// The subprotocol is not a token of RFC 9110 §5.6.2, or more than one, or longer than
    /// `TOKEN_BYTES_MAX`.
    #[error(
        "Sec-WebSocket-Protocol must be one chat token of at most {TOKEN_BYTES_MAX} characters"
    )]
    Token,
}

impl HeadFault {
    /// Returns the HTTP status of the refusal.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLong | Self::TooManyFields => 431,
            Self::Version => 505,
            Self::Method => 405,
            Self::OtherUpgrade | Self::WebSocketVersion => 426,
            Self::Malformed | Self::NotOnce(_) | Self::Body | Self::Handshake(_) | Self::Token => {
                400
            }
        }
    }
}
