//! Chat tokens: sealed claims that open one session.
//!
//! A token is base64url without padding (RFC 4648 §5) of
//!
//! | bytes | content |
//! |---|---|
//! | 1 | version, 1 |
//! | 4 | key id: the first bytes of SHA-256(`"uproar token key id" ‖ key`) |
//! | 12 | nonce, random |
//! | n | the claims, AES-256-GCM (the first five bytes are the associated data) |
//! | 16 | GCM tag |
//!
//! and the claims are, numbers in big-endian order:
//!
//! | bytes | content |
//! |---|---|
//! | 12 | room id, ASCII |
//! | 1 | capabilities: 1 `SEND_MESSAGE`, 2 `DELETE_MESSAGE`, 4 `DISCONNECT_USER` |
//! | 8 | last instant at which the token opens a session, Unix seconds |
//! | 8 | end of the session, Unix seconds |
//! | 2 + n | user id: length, UTF-8 |
//! | 2 + … | attributes: count, then key and value of each as length (2) and UTF-8 |
//!
//! Each token has one spelling: every other text is refused.

mod capabilities;
mod claims;
mod keyring;
mod mint;

pub use capabilities::{Capabilities, Capability};
pub use claims::{Claims, Opened};
pub use keyring::{Key, Keyring, KeyringError};
pub use mint::{Minted, TokenRequest, mint};

/// Bytes of a [`TokenId`].
pub const TOKEN_ID_BYTES: usize = 16;
/// Bytes of a nonce (NIST SP 800-38D).
pub const NONCE_BYTES: usize = 12;
/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

const VERSION: u8 = 1;
const KEY_ID_BYTES: usize = 4;
/// Identifies a sealing key; the first bytes of a [`TokenId`].
pub type KeyId = [u8; KEY_ID_BYTES];
const PREFIX_BYTES: usize = 1 + KEY_ID_BYTES;
const TAG_BYTES: usize = 16;

/// Identifies a token: its key id and nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId([u8; TOKEN_ID_BYTES]);

impl TokenId {
    /// Makes an id from stored bytes.
    pub const fn from_bytes(bytes: [u8; TOKEN_ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the id of the key that sealed it.
    pub const fn key_id(&self) -> KeyId {
        *self.0.first_chunk().expect("longer than a key id")
    }

    /// Returns its bytes, for storing.
    pub const fn as_bytes(&self) -> &[u8; TOKEN_ID_BYTES] {
        &self.0
    }
}

/// Why a token opens no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is longer than any token.
    #[error("The chat token is too long")]
    TooLong,
    /// It is not canonical base64url, or too short.
    #[error("The chat token is malformed")]
    Encoding,
    /// It was made by a later version or another server.
    #[error("The chat token has an unknown version")]
    Version,
    /// It was sealed with a key that is not in the ring: made elsewhere, or the key was retired.
    #[error("The chat token was not made by this server, or its key was retired")]
    UnknownKey,
    /// It was changed or forged.
    #[error("The chat token is not genuine")]
    Seal,
    /// Our key sealed it, but the content is not claims: another version's bug.
    #[error("The chat token's content is malformed")]
    Claims,
    /// It has expired.
    #[error("The chat token expired {by_secs} s ago")]
    Expired {
        /// Seconds since its expiry.
        by_secs: u64,
    },
}
