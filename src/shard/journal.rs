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
//! only for another number of shards. A process that takes over from one that still serves reads the journals
//! [beside] it.

pub mod beside;
mod record;
mod segments;

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use record::TokenUse;
pub use segments::Segment;

use super::settings::{ShardId, ShardSettings};
use super::tokens::{Forgotten, Minute, Recovery, UsedTokens};
use crate::durable::{self, Access, Appender};
use record::{Entry, encode, encode_mark, read};
use segments::{Found, Name, deal_out, owner};
use uproar_proto::base::clock::Now;
use uproar_proto::base::limits::JOURNAL_SEGMENT_BYTES;
use uproar_proto::base::number::wide;

/// Records token uses before they take effect.
pub trait Record {
    /// Records `uses`; if it fails, none of them took effect.
    fn record(&mut self, uses: &[TokenUse]) -> io::Result<()>;

    /// Notes the forgotten tokens and when the first remembered one expires; returns the bytes on disk.
    fn forgot(&mut self, _forgotten: &Forgotten, _oldest: Option<Minute>) -> u64 {
        0
    }

    /// Takes over segments of an earlier process: each is removed when its tokens are forgotten.
    fn adopt(&mut self, _segments: Vec<Segment>) {}
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
    closed: VecDeque<Segment>,
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
            let name = Name {
                generation: self.generation,
                shard: self.shard,
                shard_count: self.shard_count,
                number: self.next,
            };
            let path = name.path_in(&self.directory);
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
            self.closed.push_back(Segment {
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
        let gone = |closed: &Segment| oldest.is_none_or(|oldest| closed.latest < oldest);
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

    fn adopt(&mut self, segments: Vec<Segment>) {
        self.closed.extend(segments);
        // Ordered by the time they can be removed.
        let closed = self.closed.make_contiguous();
        closed.sort_unstable_by_key(|closed| closed.latest);
    }
}

/// Gives an entry of another number of shards to the shard that remembers its token; a mark is for all.
fn recover(entry: Entry, opened: &mut [(Journal, UsedTokens)], settings: &ShardSettings, now: Now) {
    match entry {
        Entry::Use(token_use) => {
            let (_, used) = &mut opened[settings.home(token_use.room)];
            used.recover(token_use.token, token_use.expires, now);
        }
        Entry::Mark(mark) => {
            for (_, used) in opened {
                used.recover_mark(mark);
            }
        }
    }
}

/// Opens each shard's journal and reads its used tokens from the files in `directory`.
///
/// # Errors
///
/// If a file cannot be read, or cannot be dealt out when the number of shards has changed.
pub fn open_all(
    directory: &Path,
    settings: &ShardSettings,
    now: Now,
) -> io::Result<Vec<(Journal, UsedTokens)>> {
    fs::create_dir_all(directory)?;
    let count = settings.shard_count;
    let Found { files, generation } = Found::list(directory)?;
    let (mut own, mut others) = (vec![Vec::new(); count], Vec::new());
    for (path, name) in files {
        match owner(name, count) {
            Some(shard) => own[shard].push(path),
            None => others.push(path),
        }
    }
    let nothing = own.iter().all(Vec::is_empty);
    let journals = own.into_iter().enumerate().map(|(shard, paths)| {
        let journal = Journal::new(directory, generation + 1, shard, count);
        move || take_over(journal, paths, now)
    });
    let mut opened = if nothing {
        journals
            .map(|open| open())
            .collect::<io::Result<Vec<_>>>()?
    } else {
        at_once(journals)?
    };
    for path in &others {
        read(path, &fs::read(path)?, |entry| {
            recover(entry, &mut opened, settings, now);
        });
    }
    let dealt = deal_out(directory, &others, settings, generation)?;
    for ((journal, _), segments) in opened.iter_mut().zip(dealt) {
        journal.adopt(segments);
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
    let (mut content, mut segments) = (Vec::new(), Vec::new());
    for path in paths {
        content.clear();
        fs::File::open(&path)?.read_to_end(&mut content)?;
        let latest = remember(&path, &content, &mut recovery);
        segments.push(Segment {
            path,
            bytes: wide(content.len()),
            latest,
        });
    }
    journal.adopt(segments);
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

/// Access for fuzz targets: segments without files.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::record::RECORD_BYTES;
    use super::{Entry, Now, Path, Recovery, TokenUse, UsedTokens, encode, encode_mark, remember};
    use crate::shard::tokens::Mark;

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
