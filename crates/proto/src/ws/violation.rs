//! Violations of the protocol, and their close codes (RFC 6455 §7.4.1).

use tungstenite::protocol::frame::coding::CloseCode;

/// A violation of RFC 6455 or of our bounds; the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame is not masked (§5.1).
    #[error("Client frames must be masked")]
    Unmasked,
    /// Reserved bits are set to which no extension gives a meaning (§5.2).
    #[error("Reserved bits are set")]
    ReservedBits,
    /// The opcode is reserved (§5.2).
    #[error("Reserved opcode")]
    ReservedOpcode,
    /// A control frame has more than 125 bytes (§5.5).
    #[error("Control frame is too long")]
    ControlTooLong,
    /// A control frame is fragmented (§5.5).
    #[error("Control frame is fragmented")]
    ControlFragmented,
    /// A continuation has no message to continue (§5.4).
    #[error("Continuation without a message")]
    NothingToContinue,
    /// A new message begins inside a fragmented one (§5.4).
    #[error("New message inside a fragmented one")]
    InsideFragmented,
    /// A Close payload has one byte: it must be empty or start with a two-byte code (§5.5.1).
    #[error("Close payload of one byte")]
    CloseTooShort,
    /// The close code is invalid (§7.4).
    #[error("Invalid close code")]
    CloseCode,
    /// The text is not UTF-8 (§8.1).
    #[error("Text is not UTF-8")]
    Utf8,
    /// The compressed data is invalid (RFC 7692 §7.2.2).
    #[error("Compressed data is invalid")]
    Deflate,
    /// The message is larger than our bound; a compressed one also counts by its plain length.
    #[error("Message is too big")]
    TooBig,
    /// The message has more fragments than our bound; §7.4.1 has 1008 for policies.
    #[error("Too many fragments")]
    TooManyFragments,
}

impl Violation {
    /// Returns the code of the Close frame.
    pub fn close_code(self) -> u16 {
        let code = match self {
            Self::Unmasked
            | Self::ReservedBits
            | Self::ReservedOpcode
            | Self::ControlTooLong
            | Self::ControlFragmented
            | Self::NothingToContinue
            | Self::InsideFragmented
            | Self::CloseTooShort
            | Self::CloseCode => CloseCode::Protocol,
            Self::Utf8 | Self::Deflate => CloseCode::Invalid,
            Self::TooBig => CloseCode::Size,
            Self::TooManyFragments => CloseCode::Policy,
        };
        code.into()
    }
}
