//! stub
use crate::base::{clock::UnixTime, id::RoomId};
pub const TOKEN_ID_BYTES: usize = 16;
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId([u8; 16]);
impl TokenId {
    pub fn from_bytes(b: [u8; 16]) -> Self {
        Self(b)
    }
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
#[derive(Debug, Clone, Copy, Default)]
pub struct Capabilities(u8);
#[derive(Debug, Clone, Copy)]
pub enum Capability {
    SendMessage,
    DeleteMessage,
    DisconnectUser,
}
impl Capabilities {
    pub fn contains(self, _c: Capability) -> bool {
        true
    }
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub enum TokenError {
    #[error("e")]
    Expired { by: u64 },
    #[error("s")]
    Seal,
}
pub struct Keyring;
pub struct Opened<'a>(&'a str);
impl Keyring {
    pub fn open<'s>(
        &self,
        _t: &str,
        _s: &'s mut Vec<u8>,
        _n: UnixTime,
    ) -> Result<Opened<'s>, TokenError> {
        unimplemented!()
    }
}
impl<'a> Opened<'a> {
    pub fn user_id(&self) -> &str {
        self.0
    }
    pub fn attributes(&self) -> impl Iterator<Item = (&str, &str)> {
        std::iter::empty()
    }
    pub fn capabilities(&self) -> Capabilities {
        unimplemented!()
    }
    pub fn session_end(&self) -> UnixTime {
        unimplemented!()
    }
    pub fn expires(&self) -> UnixTime {
        unimplemented!()
    }
    pub fn room(&self) -> RoomId {
        unimplemented!()
    }
    pub fn token_id(&self) -> TokenId {
        unimplemented!()
    }
}
