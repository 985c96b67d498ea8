//! The journals of a server that still appends to them, read by the process that takes over from it.
//!
//! [`open_beside`] reads them to their present length and changes no file: the other server appends, begins segments
//! and removes some meanwhile, and may go on for good if nothing comes of the hand-over. When it does not append any
//! more, [`Beside::tail`] reads what was added since, and nothing else: its cost does not depend on how many tokens
//! are known. Until the other server has ended, nothing is removed, rewritten or begun, so any number of attempts
//! leaves no trace.
//!
//! A record that is not whole yet, or is cut off again after a write that failed, is no damage: the segments that may
//! still grow are read again from their first byte that has changed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::record::{Entry, RECORD_BYTES, TokenUse, read};
use super::segments::{Found, Name, Segment, deal_out, owner, readable};
use super::{Journal, at_once, recover};
use crate::shard::settings::{ShardId, ShardSettings};
use crate::shard::tokens::{Mark, Minute, Recovery, UsedTokens};
use uproar_proto::base::clock::Now;
use uproar_proto::base::limits::JOURNAL_SEGMENT_BYTES;
use uproar_proto::base::number::wide;

/// The journals of a server that still appends to them.
#[derive(Debug)]
pub struct Beside {
    directory: PathBuf,
    settings: ShardSettings,
    // Of the segments that are dealt out; that of the journals is one more.
    generation: u64,
    known: HashMap<PathBuf, Known>,
}

/// A segment that was read.
#[derive(Debug)]
struct Known {
    bytes: u64,
    // When the last of its tokens expires.
    latest: Minute,
    // What was read, if it may still change.
    growing: Option<Vec<u8>>,
}

/// What a shard learns of its journal when the other server appends no more.
#[derive(Debug, Default)]
pub struct Tail {
    /// Uses that were added.
    pub uses: Vec<TokenUse>,
    /// Marks that were added.
    pub marks: Vec<Mark>,
    /// The segments that are the shard's from now on.
    pub segments: Vec<Segment>,
}

/// Segments of another number of shards. Their uses are known, but they belong to no shard.
#[derive(Debug)]
#[must_use]
pub struct Undealt {
    directory: PathBuf,
    settings: ShardSettings,
    generation: u64,
    paths: Vec<PathBuf>,
}

/// Reads the used tokens of the server that uses `directory` now; changes nothing. The journals begin their first
/// segment with their first record.
///
/// # Errors
///
/// A file cannot be read.
pub fn open_beside(
    directory: &Path,
    settings: &ShardSettings,
    now: Now,
) -> io::Result<(Beside, Vec<(Journal, UsedTokens)>)> {
    let count = settings.shard_count;
    let Found { files, generation } = Found::list(directory)?;
    let growing = growing(&files);
    let mut own = vec![Vec::new(); count];
    let mut others = Vec::new();
    for (path, name) in files {
        let grows = growing.contains(&path);
        match owner(name, count) {
            Some(shard) => own[shard].push((path, grows)),
            None => others.push((path, grows)),
        }
    }
    let reading = own.into_iter().map(|paths| move || read_own(paths, now));
    let (mut opened, mut known) = (Vec::with_capacity(count), HashMap::new());
    for (shard, read) in at_once(reading)?.into_iter().enumerate() {
        let (used, segments) = read;
        known.extend(segments);
        opened.push((Journal::new(directory, generation + 1, shard, count), used));
    }
    for (path, grows) in others {
        let read = read_known(&path, grows, |entry| {
            recover(entry, &mut opened, settings, now);
        });
        known.extend(read?.map(|read| (path, read)));
    }
    // So that the tail, which is read while nobody is served, does not make the table grow.
    let more = usize::try_from(JOURNAL_SEGMENT_BYTES).unwrap_or(0) / RECORD_BYTES;
    for (_, used) in &mut opened {
        used.reserve(more);
    }
    let beside = Beside {
        directory: directory.to_owned(),
        settings: settings.clone(),
        generation,
        known,
    };
    Ok((beside, opened))
}

/// The last segment of each shard: the others are complete.
fn growing(files: &[(PathBuf, Option<Name>)]) -> Vec<PathBuf> {
    let mut last: HashMap<(usize, ShardId), (u64, u64, &PathBuf)> = HashMap::new();
    for (path, name) in files {
        let Some(name) = name else { continue };
        let order = (name.generation, name.number, path);
        let entry = last.entry((name.shard_count, name.shard)).or_insert(order);
        *entry = order.max(*entry);
    }
    last.into_values()
        .map(|(_, _, path)| path.clone())
        .collect()
}

type OwnRead = (UsedTokens, Vec<(PathBuf, Known)>);

fn read_own(paths: Vec<(PathBuf, bool)>, now: Now) -> io::Result<OwnRead> {
    let (mut recovery, mut segments) = (Recovery::new(now), Vec::new());
    for (path, grows) in paths {
        let read = read_known(&path, grows, |entry| match entry {
            Entry::Use(TokenUse { token, expires, .. }) => recovery.take(token, expires),
            Entry::Mark(mark) => recovery.mark(mark),
        })?;
        segments.extend(read.map(|read| (path, read)));
    }
    Ok((recovery.finish(), segments))
}

/// Reads a segment, whose end may still be written if it grows. `None` if the other server has removed it: then it
/// has written marks of its tokens before, which the tail brings.
fn read_known(path: &Path, grows: bool, mut hear: impl FnMut(Entry)) -> io::Result<Option<Known>> {
    let Some(mut content) = read_if_there(path)? else {
        return Ok(None);
    };
    if grows {
        content.truncate(readable(&content));
    }
    let latest = each_entry(path, &content, &mut hear);
    Ok(Some(Known {
        bytes: wide(content.len()),
        latest,
        growing: grows.then_some(content),
    }))
}

/// Hands all entries on; returns when the last of the tokens expires.
fn each_entry(path: &Path, content: &[u8], hear: &mut impl FnMut(Entry)) -> Minute {
    let mut latest = Minute::default();
    read(path, content, |entry| {
        if let Entry::Use(token_use) = &entry {
            latest = latest.max(Minute::of(token_use.expires));
        }
        hear(entry);
    });
    latest
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Beside {
    /// Reads what was added since. Call when the other server appends no more, and hand each shard its part before
    /// it admits a connection, but only when the other server cannot serve again: then the segments are its own.
    ///
    /// # Errors
    ///
    /// A file cannot be read.
    pub fn tail(mut self) -> io::Result<(Vec<Tail>, Undealt)> {
        let shards = self.settings.shard_count;
        let mut tails: Vec<Tail> = (0..shards).map(|_| Tail::default()).collect();
        let mut paths = Vec::new();
        for (path, name) in Found::list(&self.directory)?.files {
            let shard = owner(name, shards);
            let Some(segment) = self.read_added(&path, shard, &mut tails)? else {
                continue;
            };
            match shard {
                Some(shard) => tails[shard].segments.push(segment),
                None => paths.push(path),
            }
        }
        let undealt = Undealt {
            directory: self.directory,
            settings: self.settings,
            generation: self.generation,
            paths,
        };
        Ok((tails, undealt))
    }

    /// Reads what was added to a segment of `shard`, or of another number of shards.
    fn read_added(
        &mut self,
        path: &Path,
        shard: Option<ShardId>,
        tails: &mut [Tail],
    ) -> io::Result<Option<Segment>> {
        let known = self.known.remove(path);
        if let Some(Known {
            bytes,
            latest,
            growing: None,
        }) = known
        {
            return Ok(Some(Segment {
                path: path.to_owned(),
                bytes,
                latest,
            }));
        }
        let Some(content) = read_if_there(path)? else {
            return Ok(None);
        };
        let before = known.and_then(|known| Some((known.growing?, known.latest)));
        let (before, latest) = before.unwrap_or_default();
        let added = &content[common(&before, &content)..];
        let latest = latest.max(each_entry(path, added, &mut |entry| match entry {
            Entry::Use(token_use) => tails[self.settings.home(token_use.room)]
                .uses
                .push(token_use),
            Entry::Mark(mark) => match shard {
                Some(shard) => tails[shard].marks.push(mark),
                None => tails.iter_mut().for_each(|tail| tail.marks.push(mark)),
            },
        }));
        Ok(Some(Segment {
            path: path.to_owned(),
            bytes: wide(content.len()),
            latest,
        }))
    }
}

/// The bytes of the records that both begin with.
fn common(before: &[u8], now: &[u8]) -> usize {
    let (before, _) = before.as_chunks::<RECORD_BYTES>();
    let (now, _) = now.as_chunks::<RECORD_BYTES>();
    let same = before
        .iter()
        .zip(now)
        .take_while(|(before, now)| before == now);
    same.count() * RECORD_BYTES
}

impl Undealt {
    /// Whether there is nothing to deal out.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Deals the segments out to the shards that own their rooms now. Blocks for about 0.1 s for a million uses. Call
    /// when the other server has ended, while this one serves; each shard then gets its part.
    ///
    /// # Errors
    ///
    /// Those of the file system. The uses stay known, and the next start deals them out.
    pub fn deal_out(self) -> io::Result<Vec<Tail>> {
        let made = deal_out(
            &self.directory,
            &self.paths,
            &self.settings,
            self.generation,
        )?;
        let adopted = |segments| Tail {
            segments,
            ..Tail::default()
        };
        Ok(made.into_iter().map(adopted).collect())
    }
}

#[cfg(test)]
mod tests;
