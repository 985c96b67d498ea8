//! Token uses on disk: a token used before a crash is not usable after it.
//!
//! Each shard appends fixed records, 32 bytes a use, to segment files of [`JOURNAL_SEGMENT_BYTES`]. A record is
//! written before the `101`, into the page cache: it survives the process being killed at any instant. It does
//! not survive the machine losing power, so the server drops the sealing key when it finds the machine
//! rebooted.
//!
//! A segment is removed as a whole when the shard has forgotten every token in it, so the journal is as long as
//! the uses still valid, plus two segments. Forgotten tokens leave a mark for each sealing key ([`Forgotten`]),
//! which is written before a segment is removed and is the first record of each new one. Files are rewritten
//! only at a start with another number of shards.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::settings::{ShardId, ShardSettings};
use super::tokens::{Forgotten, Mark, Minute, Recovery, UsedTokens};
use crate::durable::{self, Access, Appender};
use uproar_proto::base::clock::{Now, UnixTime};
use uproar_proto::base::id::{ID_CHARS, RoomId};
use uproar_proto::base::limits::JOURNAL_SEGMENT_BYTES;
use uproar_proto::token::{TOKEN_ID_BYTES, TokenId};

const RECORD_BYTES: usize = TOKEN_ID_BYTES + ID_CHARS + 4;
const EXTENSION: &str = "journal";
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

/// Records token uses before they take effect.
pub trait Record {
    /// Records `uses`; if it fails, none of them took effect.
    fn record(&mut self, uses: &[TokenUse]) -> io::Result<()>;

    /// Notes the forgotten tokens and when the first remembered one expires; returns the bytes on disk.
    fn forgot(&mut self, _forgotten: &Forgotten, _oldest: Option<Minute>) -> u64 {
        0
    }
}

/// Records nothing, for tests and the conformance mode.
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
    directory: PathBuf,
    // The generation of this start; higher than that of every earlier file.
    generation: u64,
    shard: ShardId,
    shard_count: usize,
    segment_bytes_max: u64,
    // Number of the next segment.
    next: u64,
    current: Option<Current>,
    // Oldest first.
    closed: VecDeque<Closed>,
    // The marks that a new segment begins with. Invariant: the current one has them, if there is one.
    forgotten: Forgotten,
    buffer: Vec<u8>,
}

/// The segment that is being written.
#[derive(Debug)]
struct Current {
    path: PathBuf,
    file: Appender,
    latest: Minute,
}

/// A segment that is complete.
#[derive(Debug)]
struct Closed {
    path: PathBuf,
    bytes: u64,
    // When the last of its tokens expires.
    latest: Minute,
}

/// The parts of a file's name: `{generation}-{shard}of{shard count}-{number}.journal`.
struct Name {
    generation: u64,
    shard: ShardId,
    shard_count: usize,
}

impl Journal {
    fn new(directory: &Path, generation: u64, shard: ShardId, shard_count: usize) -> Self {
        Self {
            directory: directory.to_owned(),
            generation,
            shard,
            shard_count,
            segment_bytes_max: JOURNAL_SEGMENT_BYTES,
            next: 0,
            current: None,
            closed: VecDeque::new(),
            forgotten: Forgotten::default(),
            buffer: Vec::new(),
        }
    }

    /// Begins a new segment if there is none or it is full. A full one is continued if no other can be made.
    fn make_room(&mut self) -> io::Result<&mut Current> {
        let full = |current: &Current| current.file.len() >= self.segment_bytes_max;
        if self.current.as_ref().is_none_or(full) {
            let Self {
                generation,
                shard,
                shard_count,
                next,
                ..
            } = self;
            let name = format!("{generation}-{shard}of{shard_count}-{next}.{EXTENSION}");
            let path = self.directory.join(name);
            // Also if it fails: the name may be taken from now on.
            self.next += 1;
            match Appender::create(&path, Access::PRIVATE.mode) {
                Ok(file) => self.begin(path, file),
                Err(error) if self.current.is_none() => return Err(error),
                Err(_) => {}
            }
        }
        self.current
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn begin(&mut self, path: PathBuf, file: Appender) {
        let latest = Minute::default();
        let begun = Current { path, file, latest };
        if let Some(Current { path, file, latest }) = self.current.replace(begun) {
            self.closed.push_back(Closed {
                path,
                bytes: file.len(),
                latest,
            });
        }
    }

    /// Appends the buffer; in a new segment the marks precede it.
    fn write(&mut self, latest: Minute) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let marks: Vec<u8> = self.forgotten.marks().flat_map(encode_mark).collect();
        let current = self.make_room()?;
        if current.file.is_empty() {
            buffer.splice(..0, marks);
        }
        let outcome = current.file.append(&buffer);
        if outcome.is_ok() {
            current.latest = current.latest.max(latest);
        }
        buffer.clear();
        self.buffer = buffer;
        outcome
    }

    fn bytes(&self) -> u64 {
        let current = self
            .current
            .as_ref()
            .map_or(0, |current| current.file.len());
        current + self.closed.iter().map(|closed| closed.bytes).sum::<u64>()
    }
}

impl Record for Journal {
    fn record(&mut self, uses: &[TokenUse]) -> io::Result<()> {
        if uses.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        let mut latest = Minute::default();
        for token_use in uses {
            let TokenUse {
                token,
                room,
                expires,
            } = token_use;
            self.buffer.extend(encode(token, room.as_bytes(), *expires));
            latest = latest.max(Minute::of(*expires));
        }
        self.write(latest)
    }

    fn forgot(&mut self, forgotten: &Forgotten, oldest: Option<Minute>) -> u64 {
        let gone = |closed: &Closed| oldest.is_none_or(|oldest| closed.latest < oldest);
        if self.closed.front().is_some_and(gone) {
            if self.forgotten != *forgotten {
                self.buffer.clear();
                self.buffer.extend(forgotten.marks().flat_map(encode_mark));
                if self.write(Minute::default()).is_err() {
                    // No segment is removed before its marks are written; the next call tries again.
                    return self.bytes();
                }
                self.forgotten = forgotten.clone();
            }
            // One segment in each call, which is twice the growth between two. The shard waits for it: 0.1 ms while
            // the file is only in the page cache, on ext4 4 ms at the median (on two busy cores) when it is on disk.
            if let Some(closed) = self.closed.pop_front() {
                // A segment that stays is read, and removed, after the next start.
                let _stays = durable::remove(&closed.path);
            }
        }
        self.bytes()
    }
}

/// Opens each shard's journal and reads its used tokens from the files in `directory`.
///
/// # Errors
///
/// If a file cannot be read, or cannot be redistributed when the number of shards has changed.
pub fn open_all(
    directory: &Path,
    settings: &ShardSettings,
    now: Now,
) -> io::Result<Vec<(Journal, UsedTokens)>> {
    fs::create_dir_all(directory)?;
    let count = settings.shard_count;
    let (mut own, mut others, mut generation) = (vec![Vec::new(); count], Vec::new(), 0);
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != EXTENSION)
        {
            continue;
        }
        let name = Name::of(&path);
        generation = generation.max(name.as_ref().map_or(0, |name| name.generation + 1));
        match name {
            Some(name) if name.shard_count == count && name.shard < count => {
                own[name.shard].push(path);
            }
            _ => others.push(path),
        }
    }
    let nothing = own.iter().all(Vec::is_empty);
    let journals = own.into_iter().enumerate().map(|(shard, paths)| {
        let journal = Journal::new(directory, generation, shard, count);
        move || take_over(journal, paths, now)
    });
    let mut opened = if nothing {
        journals
            .map(|open| open())
            .collect::<io::Result<Vec<_>>>()?
    } else {
        at_once(journals)?
    };
    if !others.is_empty() {
        deal_out(&mut opened, &others, settings, now)?;
    }
    Ok(opened)
}

/// Runs each on a thread of its own.
fn at_once<T: Send>(
    works: impl Iterator<Item = impl FnOnce() -> io::Result<T> + Send>,
) -> io::Result<Vec<T>> {
    std::thread::scope(|scope| {
        let started: Vec<_> = works.map(|work| scope.spawn(work)).collect();
        let done = started.into_iter().map(|thread| {
            let panicked = |_| io::Error::other("a reader of journals panicked");
            thread.join().map_err(panicked)?
        });
        done.collect()
    })
}

/// Reads a shard's own segments, which stay as they are.
fn take_over(
    mut journal: Journal,
    paths: Vec<PathBuf>,
    now: Now,
) -> io::Result<(Journal, UsedTokens)> {
    let mut recovery = Recovery::new(now);
    let mut content = Vec::new();
    for path in paths {
        content.clear();
        fs::File::open(&path)?.read_to_end(&mut content)?;
        let latest = remember(&path, &content, &mut recovery);
        let bytes = u64::try_from(content.len()).expect("a length in memory");
        journal.closed.push_back(Closed {
            path,
            bytes,
            latest,
        });
    }
    // Ordered by the time they can be removed.
    let closed = journal.closed.make_contiguous();
    closed.sort_unstable_by_key(|closed| closed.latest);
    Ok((journal, recovery.finish()))
}

/// Takes a segment's records into `recovery`; returns when the last of its tokens expires.
fn remember(path: &Path, content: &[u8], recovery: &mut Recovery) -> Minute {
    let mut latest = Minute::default();
    read(path, content, |entry| match entry {
        Entry::Use(TokenUse { token, expires, .. }) => {
            recovery.take(token, expires);
            latest = latest.max(Minute::of(expires));
        }
        Entry::Mark(mark) => recovery.mark(mark),
    });
    latest
}

/// Moves records of another number of shards to the shards that now own their rooms, and removes the old files.
fn deal_out(
    opened: &mut [(Journal, UsedTokens)],
    paths: &[PathBuf],
    settings: &ShardSettings,
    now: Now,
) -> io::Result<()> {
    for path in paths {
        let content = fs::read(path)?;
        let mut dealt = vec![Vec::new(); opened.len()];
        read(path, &content, |entry| match entry {
            Entry::Use(token_use) => dealt[settings.home(token_use.room)].push(token_use),
            Entry::Mark(mark) => {
                for (_, used) in &mut *opened {
                    used.recover_mark(mark);
                }
            }
        });
        for ((journal, used), uses) in opened.iter_mut().zip(dealt) {
            for token_use in &uses {
                used.recover(token_use.token, token_use.expires, now);
            }
            journal.forgotten = used.forgotten().clone();
            journal.buffer = journal.forgotten.marks().flat_map(encode_mark).collect();
            journal.write(Minute::default())?;
            journal.record(&uses)?;
        }
    }
    for path in paths {
        durable::remove(path)?;
    }
    Ok(())
}

enum Entry {
    Use(TokenUse),
    Mark(Mark),
}

/// Reads a file's records. Its end may be torn: that part was not acknowledged.
fn read(path: &Path, content: &[u8], mut hear: impl FnMut(Entry)) {
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

fn encode(token: &TokenId, room: &[u8; ID_CHARS], expires: UnixTime) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let (head, rest) = record.split_at_mut(TOKEN_ID_BYTES);
    head.copy_from_slice(token.as_bytes());
    rest[..ID_CHARS].copy_from_slice(room);
    let expires = u32::try_from(expires.secs()).unwrap_or(u32::MAX);
    rest[ID_CHARS..].copy_from_slice(&expires.to_le_bytes());
    record
}

fn encode_mark(mark: Mark) -> [u8; RECORD_BYTES] {
    let (key, room) = match mark.key {
        Some(key) => (key, &MARK_OF_KEY),
        None => (Default::default(), &MARK_OF_ALL),
    };
    let mut token = [0; TOKEN_ID_BYTES];
    token[..key.len()].copy_from_slice(&key);
    encode(&TokenId::from_bytes(token), room, mark.until)
}

fn parse(record: &[u8; RECORD_BYTES]) -> Option<Entry> {
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

impl Name {
    /// Parses a name. Returns `None` also for an earlier version, and for a generation that has no successor: such
    /// files are read, rewritten under a valid name, and removed.
    fn of(path: &Path) -> Option<Self> {
        let (generation, rest) = path.file_stem()?.to_str()?.split_once('-')?;
        let generation: u64 = generation.parse().ok()?;
        generation.checked_add(1)?;
        let (shards, _number) = rest.split_once('-')?;
        let (shard, shard_count) = shards.split_once("of")?;
        Some(Self {
            generation,
            shard: shard.parse().ok()?,
            shard_count: shard_count.parse().ok()?,
        })
    }
}

/// Access for fuzz targets: segments without files.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::{
        Entry, Mark, Now, Path, RECORD_BYTES, Recovery, TokenUse, UsedTokens, encode, encode_mark,
        remember,
    };

    /// Encodes a use as a record.
    pub fn written(token_use: &TokenUse) -> [u8; RECORD_BYTES] {
        let TokenUse {
            token,
            room,
            expires,
        } = token_use;
        encode(token, room.as_bytes(), *expires)
    }

    /// Encodes a mark as a record.
    pub fn written_mark(mark: Mark) -> [u8; RECORD_BYTES] {
        encode_mark(mark)
    }

    /// Reads a segment's records: uses or marks.
    pub fn read(segment: &[u8]) -> Vec<Result<TokenUse, Mark>> {
        let mut entries = Vec::new();
        super::read(Path::new(""), segment, |entry| {
            entries.push(match entry {
                Entry::Use(token_use) => Ok(token_use),
                Entry::Mark(mark) => Err(mark),
            });
        });
        entries
    }

    /// Returns the used tokens after a start with this segment.
    pub fn remembered(segment: &[u8], now: Now) -> UsedTokens {
        let mut recovery = Recovery::new(now);
        remember(Path::new(""), segment, &mut recovery);
        recovery.finish()
    }
}

#[cfg(test)]
mod tests;
