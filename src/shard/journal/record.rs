//! The records of a journal: 32 bytes each, a use of a token or a mark.

use std::path::Path;

use crate::shard::tokens::Mark;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::{ID_CHARS, RoomId};
use uproar_proto::token::{TOKEN_ID_BYTES, TokenId};

pub(super) const RECORD_BYTES: usize = TOKEN_ID_BYTES + ID_CHARS + 4;
/// Instead of a room's id: the record is a mark, of the token's key or of all keys.
const MARK_OF_KEY: [u8; ID_CHARS] = *b"------------";
const MARK_OF_ALL: [u8; ID_CHARS] = *b"============";

/// One use of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenUse {
    /// The token.
    pub token: TokenId,
    /// Its room, whose home shard remembers it.
    pub room: RoomId,
    /// When it may be forgotten.
    pub expires: UnixTime,
}

/// One record.
pub(super) enum Entry {
    Use(TokenUse),
    Mark(Mark),
}

/// Reads a file's records. Its end may be torn: that part was not acknowledged.
pub(super) fn read(path: &Path, content: &[u8], mut hear: impl FnMut(Entry)) {
    let (records, _torn) = content.as_chunks::<RECORD_BYTES>();
    let mut damaged = 0_usize;
    for record in records {
        match parse(record) {
            Some(entry) => hear(entry),
            None => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::error!(path = %path.display(), damaged, "token uses cannot be read: these tokens may be used again until they expire; `uproar token rotate-key` and removing the old key from token-keys rules that out");
    }
}

pub(super) fn encode(
    token: &TokenId,
    room: &[u8; ID_CHARS],
    expires: UnixTime,
) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let (head, rest) = record.split_at_mut(TOKEN_ID_BYTES);
    head.copy_from_slice(token.as_bytes());
    rest[..ID_CHARS].copy_from_slice(room);
    let expires = u32::try_from(expires.secs()).unwrap_or(u32::MAX);
    rest[ID_CHARS..].copy_from_slice(&expires.to_le_bytes());
    record
}

pub(super) fn encode_mark(mark: Mark) -> [u8; RECORD_BYTES] {
    let (key, room) = match mark.key {
        Some(key) => (key, &MARK_OF_KEY),
        None => (Default::default(), &MARK_OF_ALL),
    };
    let mut token = [0; TOKEN_ID_BYTES];
    token[..key.len()].copy_from_slice(&key);
    encode(&TokenId::from_bytes(token), room, mark.until)
}

pub(super) fn parse(record: &[u8; RECORD_BYTES]) -> Option<Entry> {
    let (token, rest) = record.split_first_chunk::<TOKEN_ID_BYTES>()?;
    let (room, rest) = rest.split_first_chunk::<ID_CHARS>()?;
    let (expires, _) = rest.split_first_chunk::<4>()?;
    let token = TokenId::from_bytes(*token);
    let expires = UnixTime::from_secs(u64::from(u32::from_le_bytes(*expires)));
    let key = match *room {
        MARK_OF_KEY => Some(token.key_id()),
        MARK_OF_ALL => None,
        _ => {
            let room = RoomId::from_bytes(room)?;
            return Some(Entry::Use(TokenUse {
                token,
                room,
                expires,
            }));
        }
    };
    let until = expires;
    Some(Entry::Mark(Mark { key, until }))
}
