//! One configuration's spool: records on disk until their destination has them.
//!
//! Append-only segment files, each named by the sequence number of its first record, and a cursor
//! with the number of the next record to deliver. Records are in the page cache when
//! [`Spool::commit`] returns: they survive SIGKILL.
//! [`Spool::sync_handle`] protects them against a power failure.
//!
//! A delivery that is repeated after a kill is the same delivery, with the same names for its
//! objects. After a power failure neither the cursor nor the records after the last sync are as
//! they were, and numbers are reused: so each boot of the machine, and each loss of the cursor,
//! begins a new **epoch**, which is part of the objects' names. A delivered object is never
//! overwritten with other records.

mod ages;
mod cursor;
pub mod entry;
mod record_batch;
mod segments;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use record_batch::{BatchLocation, RecordBatch, read};
#[cfg(test)]
pub(super) use record_batch::{batch_from, batch_of};

use crate::durable::{self, Access, Appender, Survives};
use ages::Ages;
use cursor::{Cursor, parse_cursor};
use entry::SpooledRecord;
use segments::{Segment, list, recover, segment_path};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{LOG_BATCH_BYTES_MAX, LOG_SEGMENT_BYTES};
use uproar_proto::base::number::wide;

/// A segment whose records are all delivered is closed from this size on, in bytes, not only when
/// it is full.
const IDLE_SEGMENT_BYTES: u64 = 1024 * 1024;
/// Changes with every boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// An open spool.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    // Above this size on disk the oldest segments are dropped, the last one aside.
    bytes_max: u64,
    // The machine's boot id; the cursor's file names it.
    boot: String,
    // Oldest first; the cursor is in the front one, and the back one is open while `file` is.
    segments: VecDeque<Segment>,
    file: Option<Appender>,
    // Sequence number of the next record; never below the cursor's.
    next: u64,
    // Entries for the next commit, numbered from `next` on.
    staged: Vec<u8>,
    staged_count: u64,
    cursor: Cursor,
    // Records were written since the file was last handed out for a sync.
    unsynced: bool,
    ages: Ages,
    // Records found lost to damage, not reported yet.
    lost: u64,
}

/// The result of a commit.
#[derive(Debug, PartialEq, Eq)]
pub struct Committed {
    /// Records written.
    pub written: u64,
    /// Older, undelivered records dropped because the spool was full.
    pub dropped: u64,
}

impl Spool {
    /// Opens or creates the spool in `directory`; a torn tail is dropped. The age of its records
    /// counts from `now`.
    pub fn open(directory: &Path, bytes_max: u64, now: Tick) -> io::Result<Self> {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self::open_in_boot(directory, bytes_max, now, boot.trim())
    }

    fn open_in_boot(directory: &Path, bytes_max: u64, now: Tick, boot: &str) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut segments = list(directory)?;
        let kept = fs::read_to_string(directory.join("cursor")).unwrap_or_default();
        let oldest = segments.front().map_or(0, |segment| segment.first);
        let mut cursor = match parse_cursor(&kept) {
            Some((cursor, in_boot)) if in_boot == boot && !boot.is_empty() => cursor,
            // Of another boot: later deliveries are unknown.
            Some((cursor, _)) => Cursor::at(cursor.number).in_new_epoch(cursor.epoch),
            None => Cursor::at(oldest).in_new_epoch(0),
        };
        let (mut file, mut next) = (None, cursor.number);
        if let Some(last) = segments.back_mut() {
            let (open, end) = recover(directory, last)?;
            next = end;
            if next >= cursor.number {
                file = Some(open);
            } else {
                // Delivered records are missing: continue after them, in a new file.
                next = cursor.number;
            }
        }
        if cursor.planned.is_some_and(|planned| planned > next) {
            // Records of a started delivery are missing: the rest of it is another delivery.
            cursor = Cursor::at(cursor.number).in_new_epoch(cursor.epoch);
        }
        let lost = oldest.saturating_sub(cursor.number);
        if lost > 0 {
            cursor = Cursor {
                number: oldest,
                planned: None,
                ..cursor
            };
        }
        let mut spool = Self {
            directory: directory.to_owned(),
            bytes_max,
            boot: boot.to_owned(),
            segments,
            file,
            next,
            staged: Vec::new(),
            staged_count: 0,
            cursor,
            unsynced: true,
            ages: Ages::new(cursor.number, now),
            lost,
        };
        spool.discard_delivered()?;
        spool.find_cursor()?;
        Ok(spool)
    }

    /// Adds a record to the next commit. `write` appends its JSON and returns its time; if it
    /// returns `None` nothing is added.
    pub fn stage(
        &mut self,
        room: RoomId,
        write: impl FnOnce(&mut Vec<u8>) -> Option<u64>,
    ) -> Option<u64> {
        let number = self.next + self.staged_count;
        let staged = entry::append(&mut self.staged, room, number, write);
        self.staged_count += u64::from(staged.is_some());
        staged
    }

    /// Writes the staged records. If it fails, none of them is kept and the error carries their
    /// number.
    pub fn commit(&mut self, now: Tick) -> Result<Committed, (u64, io::Error)> {
        let written = std::mem::take(&mut self.staged_count);
        if written == 0 {
            return Ok(Committed {
                written,
                dropped: 0,
            });
        }
        let outcome = self.write_staged();
        let bytes = wide(self.staged.len());
        self.staged.clear();
        outcome.map_err(|error| (written, error))?;
        self.ages.note(self.next, self.backlog() == 0, now);
        self.next += written;
        self.unsynced = true;
        if let Some(open) = self.segments.back_mut() {
            open.bytes += bytes;
        }
        let dropped = self.shrink();
        Ok(Committed { written, dropped })
    }

    fn write_staged(&mut self) -> io::Result<()> {
        let full = |segment: &Segment| segment.bytes >= LOG_SEGMENT_BYTES;
        if self.file.is_none() || self.segments.back().is_none_or(full) {
            let first = self.next;
            let path = segment_path(&self.directory, first);
            // A file of this name holds only the rest of a failed write.
            durable::remove(&path)?;
            self.file = Some(Appender::create(&path, Access::PRIVATE.mode)?);
            if self.segments.is_empty() {
                self.cursor.offset = 0;
            }
            if self.segments.back().is_none_or(|back| back.first < first) {
                self.segments.push_back(Segment { first, bytes: 0 });
            }
        }
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("no open segment"));
        };
        // A failed write is cut off; if that fails too, the next append retries it first, and fails
        // until it works.
        file.append(&self.staged)
    }

    /// Changes the bound, for commits from now on.
    pub fn set_bytes_max(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// Drops the oldest segments while there are too many bytes; returns how many undelivered
    /// records they held.
    fn shrink(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes() > self.bytes_max && self.segments.len() > 1 {
            dropped += self.drop_front();
        }
        dropped
    }

    /// Drops the damaged records at the start of `batch` and returns how many: up to the next
    /// readable one, or the rest of the front segment if there is none. Without effect if the spool
    /// dropped them meanwhile.
    pub fn drop_damaged(&mut self, batch: &RecordBatch) -> u64 {
        let position = self.cursor.number;
        if batch.first != position || !batch.records.is_empty() {
            return 0;
        }
        let later = position + 1..self.front_end();
        let resume = batch.resume.filter(|(number, _)| later.contains(number));
        let Some((number, bytes)) = resume else {
            return self.drop_front();
        };
        self.move_cursor(number, self.cursor.offset + wide(bytes));
        let _not_saved = self.save_cursor();
        number - position
    }

    /// Drops the undelivered rest of the front segment, because the spool is full or its file is
    /// missing.
    pub fn drop_front(&mut self) -> u64 {
        let end = self.front_end();
        let dropped = end.saturating_sub(self.cursor.number);
        self.move_cursor(end, 0);
        if self.segments.len() == 1 {
            self.file = None;
        }
        // A file that cannot be removed now is found and removed at the next open.
        let _removed = self.discard_delivered();
        let _not_saved = self.save_cursor();
        dropped
    }

    /// Where the next records to deliver lie, at most `count_max`; `None` if everything is
    /// delivered.
    pub fn next_batch(&self, count_max: u64) -> Option<BatchLocation> {
        let front = self.segments.front()?;
        let end = self
            .cursor
            .planned
            .unwrap_or(u64::MAX)
            .min(self.front_end());
        let count = end.saturating_sub(self.cursor.number);
        (count > 0).then(|| BatchLocation {
            path: segment_path(&self.directory, front.first),
            offset: self.cursor.offset,
            first: self.cursor.number,
            count_max: count.min(count_max),
            bytes_max: LOG_BATCH_BYTES_MAX,
            epoch: self.cursor.epoch,
        })
    }

    /// Whether a delivery was started, here or before a restart, and not completed.
    pub fn is_planned(&self) -> bool {
        self.cursor.planned.is_some()
    }

    /// Saves that `batch` is about to be delivered: a repetition delivers the same batch.
    pub fn plan(&mut self, batch: &RecordBatch) -> io::Result<()> {
        if batch.first == self.cursor.number {
            self.cursor.planned = Some(batch.end());
        }
        self.save_cursor()
    }

    /// Moves the cursor to the end of `batch`. Without effect if the spool dropped it meanwhile.
    pub fn advance(&mut self, batch: &RecordBatch) -> io::Result<()> {
        if batch.first != self.cursor.number {
            return Ok(());
        }
        self.lost += batch.end() - batch.first - wide(batch.records.len());
        self.move_cursor(batch.end(), self.cursor.offset + wide(batch.len()));
        let idle = |segment: &Segment| segment.bytes >= IDLE_SEGMENT_BYTES;
        if self.cursor.number == self.next && self.segments.back().is_some_and(idle) {
            self.file = None;
        }
        self.save_cursor()?;
        self.discard_delivered()
    }

    /// Records found lost to damage since the last call.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn move_cursor(&mut self, number: u64, offset: u64) {
        self.cursor = Cursor {
            number,
            offset,
            planned: None,
            epoch: self.cursor.epoch,
        };
        self.ages.forget(number);
    }

    /// How long record `number` has been here, or since the server started, to a minute.
    pub fn age(&self, number: u64, now: Tick) -> Duration {
        self.ages.age(number, now)
    }

    /// Sequence number of the next record to deliver.
    pub fn position(&self) -> u64 {
        self.cursor.number
    }

    /// Records not delivered.
    pub fn backlog(&self) -> u64 {
        debug_assert!(
            self.next >= self.cursor.number,
            "delivered, but not written"
        );
        self.next - self.cursor.number
    }

    /// Bytes of records not delivered.
    pub fn backlog_bytes(&self) -> u64 {
        self.bytes().saturating_sub(self.cursor.offset)
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The open file, if records were written since the last call; the caller syncs it.
    pub fn sync_handle(&mut self) -> Option<File> {
        let wanted = std::mem::take(&mut self.unsynced);
        self.file.as_ref().filter(|_| wanted)?.handle().ok()
    }

    /// Number after the last record of the front segment.
    fn front_end(&self) -> u64 {
        self.segments
            .get(1)
            .map_or(self.next, |segment| segment.first)
    }

    /// Removes files without undelivered records, except the open one.
    fn discard_delivered(&mut self) -> io::Result<()> {
        while let Some(front) = self.segments.front() {
            let open = self.segments.len() == 1 && self.file.is_some();
            if open || self.front_end() > self.cursor.number {
                break;
            }
            let path = segment_path(&self.directory, front.first);
            self.segments.pop_front();
            self.cursor.offset = 0;
            durable::remove(&path)?;
        }
        Ok(())
    }

    /// Finds the cursor's offset in the front segment.
    fn find_cursor(&mut self) -> io::Result<()> {
        let Some(front) = self.segments.front() else {
            return Ok(());
        };
        let bytes = fs::read(segment_path(&self.directory, front.first))?;
        let before = |(record, _): &(SpooledRecord, usize)| record.number < self.cursor.number;
        let end = entry::read_all(&bytes, front.first)
            .take_while(before)
            .last();
        self.cursor.offset = end.map_or(0, |(_, end)| wide(end));
        Ok(())
    }

    fn save_cursor(&self) -> io::Result<()> {
        let text = self.cursor.to_text(&self.boot);
        let path = self.directory.join("cursor");
        // After a power failure it belongs to another boot, and is read as such.
        durable::replace(&path, text.as_bytes(), Access::PRIVATE, Survives::Kill)
    }
}

#[cfg(test)]
mod tests;
