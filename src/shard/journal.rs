//! Token uses on disk: a token used before a crash is not usable after it.
//!
//! An append-only file of fixed records for each shard. A record is written before the `101`, into the
//! page cache: it survives the process being killed at any instant. It does not survive the machine
//! losing power, so the server drops the sealing key when it finds the machine rebooted.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::base::clock::UnixTime;
use crate::base::id::{ID_CHARS, RoomId};
use crate::protocol::token::{TOKEN_ID_BYTES, TokenId};

const RECORD_BYTES: usize = TOKEN_ID_BYTES + ID_CHARS + 4;

/// One token, used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenUse {
    /// The token.
    pub token: TokenId,
    /// Its room: decides which shard remembers it.
    pub room: RoomId,
    /// When it may be forgotten.
    pub expires: UnixTime,
}

/// Where uses are written down before they take effect.
pub trait Record {
    /// Writes `uses` down; nothing took effect if it fails.
    fn record(&mut self, uses: &[TokenUse]) -> io::Result<()>;
}

/// Forgets: for tests and the conformance mode.
#[derive(Debug, Default)]
pub struct NoRecord;

impl Record for NoRecord {
    fn record(&mut self, _uses: &[TokenUse]) -> io::Result<()> {
        Ok(())
    }
}

/// A shard's journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    buffer: Vec<u8>,
}

impl Journal {
    /// A new, empty journal at `path` with `uses` in it.
    pub fn create(path: &Path, uses: &[TokenUse]) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(path)?;
        let mut journal = Self {
            file,
            buffer: Vec::new(),
        };
        journal.record(uses)?;
        journal.file.sync_data()?;
        Ok(journal)
    }
}

impl Record for Journal {
    fn record(&mut self, uses: &[TokenUse]) -> io::Result<()> {
        if uses.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        for token_use in uses {
            self.buffer.extend_from_slice(token_use.token.as_bytes());
            self.buffer.extend_from_slice(token_use.room.as_bytes());
            let expires = u32::try_from(token_use.expires.secs()).unwrap_or(u32::MAX);
            self.buffer.extend_from_slice(&expires.to_le_bytes());
        }
        let before = self.file.metadata()?.len();
        self.file.write_all(&self.buffer).inspect_err(|_| {
            // A torn record would shift every later one.
            let _still_torn = self.file.set_len(before);
        })
    }
}

/// Reads every journal in `directory`; a torn last record is dropped, expired ones are left out.
pub fn read_all(directory: &Path, now: UnixTime) -> io::Result<(Vec<TokenUse>, Vec<PathBuf>)> {
    let (mut uses, mut paths) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "journal")
        {
            let mut content = Vec::new();
            File::open(&path)?.read_to_end(&mut content)?;
            uses.extend(content.chunks_exact(RECORD_BYTES).filter_map(parse));
            paths.push(path);
        }
    }
    uses.retain(|token_use| token_use.expires > now);
    Ok((uses, paths))
}

fn parse(record: &[u8]) -> Option<TokenUse> {
    let (token, rest) = record.split_first_chunk::<TOKEN_ID_BYTES>()?;
    let (room, rest) = rest.split_first_chunk::<ID_CHARS>()?;
    let (expires, _) = rest.split_first_chunk::<4>()?;
    Some(TokenUse {
        token: TokenId::from_bytes(*token),
        room: RoomId::parse(std::str::from_utf8(room).ok()?)?,
        expires: UnixTime::from_secs(u64::from(u32::from_le_bytes(*expires))),
    })
}
