//! Adjacent records of a spool, read for one delivery.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::entry::{self, SpooledRecord};
use uproar_proto::base::limits::LOG_ENTRY_BYTES_MAX;
use uproar_proto::base::number::wide;

/// Where to read a batch; see [`read`].
#[derive(Debug, Clone)]
pub struct BatchLocation {
    /// The segment's file.
    pub(super) path: PathBuf,
    /// Where the first record's entry begins in it, in bytes.
    pub(super) offset: u64,
    /// The first record's number.
    pub(super) first: u64,
    /// How many records the batch may have.
    pub(super) count_max: u64,
    /// How many bytes are read.
    pub(super) bytes_max: usize,
    /// The cursor's epoch.
    pub(super) epoch: u32,
}

/// Adjacent records read from a spool.
#[derive(Debug)]
pub struct RecordBatch {
    /// Number where the batch begins; the first record has it, or a higher one if damage destroyed
    /// some.
    pub first: u64,
    /// The records.
    pub records: Vec<SpooledRecord>,
    epoch: u32,
    // What was read; `records` and `ends` are positions in it.
    bytes: Vec<u8>,
    // The end of each record's entry in `bytes`.
    pub(super) ends: Vec<usize>,
    // If there are no records: number of the next readable one in the same file, and its distance
    // in bytes.
    pub(super) resume: Option<(u64, usize)>,
}

impl RecordBatch {
    /// Sequence number after the last record.
    pub fn end(&self) -> u64 {
        self.records
            .last()
            .map_or(self.first, |last| last.number + 1)
    }

    /// Epoch and number of its start, which distinguish its objects from all others. The same when
    /// the delivery is repeated after a kill.
    pub fn origin(&self) -> (u32, u64) {
        (self.epoch, self.first)
    }

    /// A record's JSON.
    pub fn json(&self, index: usize) -> &[u8] {
        &self.bytes[self.records[index].json.clone()]
    }

    /// Bytes of all entries.
    pub(super) fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Keeps only the first `count` records.
    pub fn truncate(&mut self, count: usize) {
        self.records.truncate(count);
        self.ends.truncate(count);
    }
}

/// Reads a batch. Blocks; independent of the spool, so that another thread can do it. If it holds
/// fewer records than the location says, the rest belongs to the next batch; if it holds none, they
/// are damaged: see [`super::Spool::drop_damaged`].
pub fn read(location: &BatchLocation) -> io::Result<RecordBatch> {
    let mut file = File::open(&location.path)?;
    file.seek(SeekFrom::Start(location.offset))?;
    let count_max = usize::try_from(location.count_max).unwrap_or(usize::MAX);
    let wanted = location
        .bytes_max
        .min(count_max.saturating_mul(2 * LOG_ENTRY_BYTES_MAX));
    let mut bytes = Vec::new();
    (&mut file).take(wide(wanted)).read_to_end(&mut bytes)?;
    let end = location.first.saturating_add(location.count_max);
    let (records, ends): (Vec<_>, _) = entry::read_all(&bytes, location.first)
        .take_while(|(record, _)| record.number < end)
        .unzip();
    let mut resume = None;
    if records.is_empty() {
        // Damage may be longer than the requested range.
        file.read_to_end(&mut bytes)?;
        let found = entry::read_all(&bytes, location.first).next();
        resume = found.map(|(record, _)| {
            let start = record.json.start.saturating_sub(entry::HEAD_BYTES_MAX);
            (record.number, start)
        });
    }
    Ok(RecordBatch {
        first: location.first,
        epoch: location.epoch,
        records,
        bytes,
        ends,
        resume,
    })
}

/// A batch of these times and texts.
#[cfg(test)]
pub(in crate::control::archive) fn batch_of(records: &[(u64, &str)]) -> RecordBatch {
    batch_from(0, records)
}

/// The same; the first record has the number `first`.
#[cfg(test)]
pub(in crate::control::archive) fn batch_from(first: u64, records: &[(u64, &str)]) -> RecordBatch {
    let mut bytes = Vec::new();
    for (number, (event_ms, json)) in (first..).zip(records) {
        let room = uproar_proto::base::id::RoomId::from_random(1);
        entry::append(&mut bytes, room, number, |out| {
            out.extend_from_slice(json.as_bytes());
            Some(*event_ms)
        });
    }
    let (records, ends) = entry::read_all(&bytes, first).unzip();
    RecordBatch {
        first,
        epoch: 0,
        records,
        bytes,
        ends,
        resume: None,
    }
}
