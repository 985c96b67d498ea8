//! The sealed content of a token: written whole, read without allocation.

use super::{Capabilities, TokenError, TokenId};
use crate::base::clock::UnixTime;
use crate::base::id::{ID_CHARS, RoomId};

/// The content of a token to seal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The one room it opens.
    pub room: RoomId,
    /// The user's id: 1 to 128 code points.
    pub user_id: String,
    /// The attributes in every message's `Sender`: at most 1 KB together.
    pub attributes: Vec<(String, String)>,
    /// The user's capabilities.
    pub capabilities: Capabilities,
    /// Last instant at which the token opens a session; whole seconds.
    pub expires: UnixTime,
    /// End of the session; whole seconds.
    pub session_end: UnixTime,
}

impl Claims {
    /// Appends the binary form.
    ///
    /// # Panics
    ///
    /// If a text is longer than 64 KiB; the API admits 1 KB.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.room.as_bytes());
        out.push(self.capabilities.bits());
        out.extend_from_slice(&self.expires.secs().to_be_bytes());
        out.extend_from_slice(&self.session_end.secs().to_be_bytes());
        write_text(out, &self.user_id);
        let count = u16::try_from(self.attributes.len()).expect("1 KB holds fewer attributes");
        out.extend_from_slice(&count.to_be_bytes());
        for (key, value) in &self.attributes {
            write_text(out, key);
            write_text(out, value);
        }
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let len = u16::try_from(text.len()).expect("the API admits short texts only");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A token's content after opening; borrows the caller's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Opened<'s> {
    pub(super) token_id: TokenId,
    room: RoomId,
    capabilities: Capabilities,
    expires: UnixTime,
    session_end: UnixTime,
    user_id: &'s str,
    attributes: &'s [u8],
}

impl<'s> Opened<'s> {
    /// Reads the binary form; no bytes may follow it.
    pub(super) fn read(token_id: TokenId, bytes: &'s [u8]) -> Result<Self, TokenError> {
        let mut rest = Rest(bytes);
        let opened = rest.claims(token_id).ok_or(TokenError::Claims)?;
        if !rest.0.is_empty() {
            return Err(TokenError::Claims);
        }
        Ok(opened)
    }

    /// Returns the token's id.
    pub fn token_id(&self) -> TokenId {
        self.token_id
    }

    /// Returns the room it opens.
    pub fn room(&self) -> RoomId {
        self.room
    }

    /// Returns the user's capabilities.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Returns the last instant at which it opens a session.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Returns the end of the session.
    pub fn session_end(&self) -> UnixTime {
        self.session_end
    }

    /// Returns the user's id.
    pub fn user_id(&self) -> &'s str {
        self.user_id
    }

    /// Returns the sender's attributes, in the order of the token.
    pub fn attributes(&self) -> impl Iterator<Item = (&'s str, &'s str)> {
        let mut rest = Rest(self.attributes);
        std::iter::from_fn(move || Some((rest.text()?, rest.text()?)))
    }
}

struct Rest<'s>(&'s [u8]);

impl<'s> Rest<'s> {
    fn claims(&mut self, token_id: TokenId) -> Option<Opened<'s>> {
        let room = RoomId::parse(std::str::from_utf8(self.take::<ID_CHARS>()?).ok()?)?;
        let [bits] = *self.take::<1>()?;
        let capabilities = Capabilities::from_bits(bits)?;
        let expires = UnixTime::from_secs(u64::from_be_bytes(*self.take()?));
        let session_end = UnixTime::from_secs(u64::from_be_bytes(*self.take()?));
        let user_id = self.text()?;
        let count = u16::from_be_bytes(*self.take()?);
        let attributes = self.0;
        for _ in 0..count {
            self.text()?;
            self.text()?;
        }
        Some(Opened {
            token_id,
            room,
            capabilities,
            expires,
            session_end,
            user_id,
            attributes,
        })
    }

    fn take<const N: usize>(&mut self) -> Option<&'s [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn text(&mut self) -> Option<&'s str> {
        let len = usize::from(u16::from_be_bytes(*self.take()?));
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}
