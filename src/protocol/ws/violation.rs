//! What a client may not do, and the close code that tells it so (RFC 6455 §7.4.1).

use tungstenite::protocol::frame::coding::CloseCode;

/// A breach of RFC 6455 or of our bounds; the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// §5.1: a client masks every frame.
    #[error("Client frames must be masked")]
    Unmasked,
    /// §5.2: no extension gives these bits a meaning here.
    #[error("Reserved bits are set")]
    ReservedBits,
    /// §5.2.
    #[error("Reserved opcode")]
    ReservedOpcode,
    /// §5.5: at most 125 bytes.
    #[error("Control frame is too long")]
    ControlTooLong,
    /// §5.5.
    #[error("Control frame is fragmented")]
    ControlFragmented,
    /// §5.4.
    #[error("Continuation without a message")]
    NothingToContinue,
    /// §5.4.
    #[error("New message inside a fragmented one")]
    InsideFragmented,
    /// §5.5.1: a Close payload is empty or starts with two bytes of code.
    #[error("Close payload of one byte")]
    CloseTooShort,
    /// §7.4.
    #[error("Invalid close code")]
    CloseCode,
    /// §8.1.
    #[error("Text is not UTF-8")]
    Utf8,
    /// RFC 7692 §7.2.2.
    #[error("Compressed data is invalid")]
    Deflate,
    /// Ours; of a compressed message also its plain length.
    #[error("Message is too big")]
    TooBig,
    /// Ours: §7.4.1 has 1008 for policies.
    #[error("Too many fragments")]
    TooManyFragments,
}

impl Violation {
    /// The code of the Close frame.
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
