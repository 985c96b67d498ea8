//! The files of a spool: names, order, and the state in which a kill leaves them.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::entry;
use crate::durable::Appender;
use uproar_proto::base::number::wide;

const EXTENSION: &str = "spool";
/// No spool reaches this number in the life of a disk: a higher one is corrupt, and counting on
/// would overflow.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// A file of records.
#[derive(Debug)]
pub(super) struct Segment {
    /// Sequence number of its first record.
    pub(super) first: u64,
    /// Whole entries of it, in bytes.
    pub(super) bytes: u64,
}

pub(super) fn segment_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.{EXTENSION}"))
}

pub(super) fn list(directory: &Path) -> io::Result<VecDeque<Segment>> {
    let mut segments = Vec::new();
    for item in fs::read_dir(directory)? {
        let item = item?;
        let path = item.path();
        let is_segment = path
            .extension()
            .is_some_and(|extension| extension == EXTENSION);
        let number = path.file_stem().and_then(|stem| number(stem.to_str()?));
        if let (true, Some(first)) = (is_segment, number) {
            let bytes = item.metadata()?.len();
            segments.push(Segment { first, bytes });
        }
    }
    segments.sort_unstable_by_key(|segment| segment.first);
    Ok(segments.into())
}

/// Cuts off a torn tail, and returns the number of the next record. Damage in the middle is left to
/// the reader.
pub(super) fn recover(directory: &Path, segment: &mut Segment) -> io::Result<(Appender, u64)> {
    let path = segment_path(directory, segment.first);
    let bytes = fs::read(&path)?;
    let last = entry::read_all(&bytes, segment.first).last();
    let (next, end) = last.map_or((segment.first, 0), |(last, end)| (last.number + 1, end));
    segment.bytes = wide(end);
    Ok((Appender::recover(&path, segment.bytes)?, next))
}

/// A record's number, as this server writes it.
pub(super) fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number <= NUMBER_MAX)
}
