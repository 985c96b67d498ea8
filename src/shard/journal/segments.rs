//! The segment files of a journals' directory: their names and order, whose they are, and those that
//! are dealt out to another number of shards.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::record::{Entry, RECORD_BYTES, TokenUse, encode, encode_mark, parse, read};
use crate::durable::{self, Access, Appender};
use crate::shard::settings::{ShardId, ShardSettings};
use crate::shard::tokens::Minute;
use uproar_proto::base::number::wide;

const EXTENSION: &str = "journal";

/// A segment that nobody appends to.
#[derive(Debug)]
pub struct Segment {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    // When the last of its tokens expires.
    pub(super) latest: Minute,
}

/// The parts of a file's name: `{generation}-{shard}of{shard count}-{number}.journal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    /// Of the start that made it; higher than that of every earlier file.
    pub(super) generation: u64,
    pub(super) shard: ShardId,
    pub(super) shard_count: usize,
    pub(super) number: u64,
}

impl Name {
    /// Parses a name. Returns `None` also for an earlier version, and for a generation without two successors: such
    /// files are read, rewritten under a valid name, and removed.
    fn of(path: &Path) -> Option<Self> {
        let (generation, rest) = path.file_stem()?.to_str()?.split_once('-')?;
        let generation: u64 = generation.parse().ok()?;
        generation.checked_add(2)?;
        let (shards, number) = rest.split_once('-')?;
        let (shard, shard_count) = shards.split_once("of")?;
        Some(Self {
            generation,
            shard: shard.parse().ok()?,
            shard_count: shard_count.parse().ok()?,
            number: number.parse().ok()?,
        })
    }

    pub(super) fn path_in(&self, directory: &Path) -> PathBuf {
        let Self {
            generation,
            shard,
            shard_count,
            number,
        } = self;
        let name = format!("{generation}-{shard}of{shard_count}-{number}.{EXTENSION}");
        directory.join(name)
    }
}

/// The segments of a directory.
#[derive(Debug)]
pub(super) struct Found {
    /// Each with its name, if it has a valid one.
    pub(super) files: Vec<(PathBuf, Option<Name>)>,
    /// Higher than that of every file.
    pub(super) generation: u64,
}

impl Found {
    pub(super) fn list(directory: &Path) -> io::Result<Self> {
        let (mut files, mut generation) = (Vec::new(), 0);
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == EXTENSION)
            {
                let name = Name::of(&path);
                generation = generation.max(name.map_or(0, |name| name.generation + 1));
                files.push((path, name));
            }
        }
        Ok(Self { files, generation })
    }
}

/// The shard of `shards` that owns a file of this name; `None`: it was made for another number of shards.
pub(super) fn owner(name: Option<Name>, shards: usize) -> Option<ShardId> {
    let name = name.filter(|name| name.shard_count == shards && name.shard < shards);
    name.map(|name| name.shard)
}

/// Copies the records of `paths`, of another number of shards, to segments of the shards that now own their rooms,
/// and removes the files when all are copied. Returns each shard's new segments. A kill in between leaves records in
/// both, which does no harm.
///
/// # Errors
///
/// Those of the file system; no file is removed then. The copies that were made are read by the next start.
pub(super) fn deal_out(
    directory: &Path,
    paths: &[PathBuf],
    settings: &ShardSettings,
    generation: u64,
) -> io::Result<Vec<Vec<Segment>>> {
    let shard_count = settings.shard_count;
    let mut made: Vec<Vec<Segment>> = (0..shard_count).map(|_| Vec::new()).collect();
    for (number, path) in (0..).zip(paths) {
        let content = fs::read(path)?;
        let mut dealt = vec![(Vec::new(), Minute::default()); shard_count];
        read(path, &content, |entry| match entry {
            Entry::Use(TokenUse {
                token,
                room,
                expires,
            }) => {
                let (records, latest) = &mut dealt[settings.home(room)];
                records.extend(encode(&token, room.as_bytes(), expires));
                *latest = Minute::of(expires).max(*latest);
            }
            Entry::Mark(mark) => {
                for (records, _) in &mut dealt {
                    records.extend(encode_mark(mark));
                }
            }
        });
        for (shard, (records, latest)) in dealt.into_iter().enumerate() {
            if records.is_empty() {
                continue;
            }
            let name = Name {
                generation,
                shard,
                shard_count,
                number,
            };
            let path = name.path_in(directory);
            Appender::create(&path, Access::PRIVATE.mode)?.append(&records)?;
            made[shard].push(Segment {
                path,
                bytes: wide(records.len()),
                latest,
            });
        }
    }
    for path in paths {
        durable::remove(path)?;
    }
    Ok(made)
}

/// The bytes of the records at the start of `content` that are all readable: what follows them may still be written.
pub(super) fn readable(content: &[u8]) -> usize {
    let (records, _torn) = content.as_chunks::<RECORD_BYTES>();
    let is_readable = |record: &[u8; RECORD_BYTES]| parse(record).is_some();
    let count = records
        .iter()
        .rposition(is_readable)
        .map_or(0, |last| last + 1);
    count * RECORD_BYTES
}
