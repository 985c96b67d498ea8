//! One configuration's spool: records on disk until their destination has them.
//!
//! Append-only segment files, each named by the sequence number of its first record, and a cursor with the number of
//! the next record to deliver. Records are in the page cache when [`Spool::commit`] returns: they survive SIGKILL.
//! [`Spool::sync_handle`] protects them against a power failure.
//!
//! A delivery that is repeated after a kill is the same delivery, with the same names for its objects. After a power
//! failure neither the cursor nor the records after the last sync are as they were, and numbers are reused: so each
//! boot of the machine, and each loss of the cursor, begins a new **epoch**, which is part of the objects' names. A
//! delivered object is never overwritten with other records.

pub mod entry;

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::entry::Located;
use crate::durable::{self, Access, Appender, Survives};
use crate::random;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{
    LOG_AGES_MAX, LOG_ENTRY_BYTES_MAX, LOG_SEGMENT_BYTES, LOG_STRETCH_BYTES_MAX,
};

const EXTENSION: &str = "spool";
/// A segment whose records are all delivered is closed from this size on, in bytes, not only when it is full.
const IDLE_SEGMENT_BYTES: u64 = 1024 * 1024;
/// Changes with every boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// No spool reaches this number in the life of a disk: a higher one is corrupt, and counting on would overflow.
const NUMBER_MAX: u64 = u64::MAX / 2;
/// Interval between two recorded arrival times.
const AGE_GRANULE: Duration = Duration::from_mins(1);

/// A file of records.
#[derive(Debug)]
struct Segment {
    /// Sequence number of its first record.
    first: u64,
    bytes: u64,
}

/// The next record to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Cursor {
    number: u64,
    // In the front segment.
    offset: u64,
    // End of a started delivery: its requests must be the same if it is repeated.
    planned: Option<u64>,
    epoch: u32,
}

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    bytes_max: u64,
    boot: String,
    // Oldest first; the cursor is in the front one, and the back one is open while `file` is.
    segments: VecDeque<Segment>,
    file: Option<Appender>,
    // Sequence number of the next record.
    next: u64,
    staged: Vec<u8>,
    staged_count: u64,
    cursor: Cursor,
    unsynced: bool,
    // Records from this number on arrived at this time or later; oldest first, up to LOG_AGES_MAX.
    ages: VecDeque<(u64, Tick)>,
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

/// Where to read a batch; see [`read`].
#[derive(Debug, Clone)]
pub struct Ticket {
    path: PathBuf,
    offset: u64,
    first: u64,
    count_max: u64,
    bytes_max: usize,
    epoch: u32,
}

/// Adjacent records read from a spool.
#[derive(Debug)]
pub struct RecordBatch {
    /// Number where the batch begins; the first record has it, or a higher one if damage destroyed some.
    pub first: u64,
    /// The records.
    pub records: Vec<Located>,
    epoch: u32,
    bytes: Vec<u8>,
    // The end of each record's entry in `bytes`.
    ends: Vec<usize>,
    // If there are no records: number of the next readable one in the same file, and its distance in bytes.
    resume: Option<(u64, usize)>,
}

impl Spool {
    /// Opens or creates the spool in `directory`; a torn tail is dropped. The age of its records counts from `now`.
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
            ages: VecDeque::from([(cursor.number, now)]),
            lost,
        };
        spool.discard_delivered()?;
        spool.find_cursor()?;
        Ok(spool)
    }

    /// Adds a record to the next commit. `write` appends its JSON and returns its time; if it returns `None` nothing
    /// is added.
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

    /// Writes the staged records. If it fails, none of them is kept and the error carries their number.
    pub fn commit(&mut self, now: Tick) -> Result<Committed, (u64, io::Error)> {
        let written = std::mem::take(&mut self.staged_count);
        if written == 0 {
            return Ok(Committed {
                written,
                dropped: 0,
            });
        }
        let outcome = self.write_staged();
        let bytes = self.staged.len() as u64;
        self.staged.clear();
        outcome.map_err(|error| (written, error))?;
        self.note_age(now);
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
        // A failed write is cut off; if that fails too, the next append retries it first, and fails until it works.
        file.append(&self.staged)
    }

    /// Drops the oldest segments while there are too many bytes; returns how many undelivered records they held.
    fn shrink(&mut self) -> u64 {
        let mut dropped = 0;
        while self.bytes() > self.bytes_max && self.segments.len() > 1 {
            dropped += self.drop_front();
        }
        dropped
    }

    /// Drops the damaged records at the start of `batch` and returns how many: up to the next readable one, or the
    /// rest of the front segment if there is none. Without effect if the spool dropped them meanwhile.
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
        self.move_cursor(number, self.cursor.offset + bytes as u64);
        let _not_saved = self.save_cursor();
        number - position
    }

    /// Drops the undelivered rest of the front segment, because the spool is full or its file is missing.
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

    /// Where to read the next records to deliver, at most `count_max`; `None` if everything is delivered.
    pub fn ticket(&self, count_max: u64) -> Option<Ticket> {
        let front = self.segments.front()?;
        let end = self
            .cursor
            .planned
            .unwrap_or(u64::MAX)
            .min(self.front_end());
        let count = end.saturating_sub(self.cursor.number);
        (count > 0).then(|| Ticket {
            path: segment_path(&self.directory, front.first),
            offset: self.cursor.offset,
            first: self.cursor.number,
            count_max: count.min(count_max),
            bytes_max: LOG_STRETCH_BYTES_MAX,
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
        self.lost += batch.end() - batch.first - batch.records.len() as u64;
        self.move_cursor(batch.end(), self.cursor.offset + batch.len() as u64);
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

    /// How long record `number` has been here, or since the server started, to a minute: elapsed time, independent
    /// of the record's own time and the wall clock.
    pub fn age(&self, number: u64, now: Tick) -> Duration {
        let older = self.ages.partition_point(|(first, _)| *first <= number);
        let since = older.checked_sub(1).and_then(|index| self.ages.get(index));
        since.map_or(Duration::ZERO, |(_, came)| now.since(*came))
    }

    fn note_age(&mut self, now: Tick) {
        let due = |(_, came): &(u64, Tick)| now.since(*came) >= AGE_GRANULE;
        if self.backlog() == 0 {
            self.ages.clear();
        }
        if self.ages.back().is_none_or(due) {
            if self.ages.len() >= LOG_AGES_MAX {
                // Half of them suffice: an age of days is known to some minutes.
                let mut kept = false;
                self.ages.retain(|_| {
                    kept = !kept;
                    kept
                });
            }
            self.ages.push_back((self.next, now));
        }
    }

    fn move_cursor(&mut self, number: u64, offset: u64) {
        self.cursor = Cursor {
            number,
            offset,
            planned: None,
            epoch: self.cursor.epoch,
        };
        while self.ages.get(1).is_some_and(|(first, _)| *first <= number) {
            self.ages.pop_front();
        }
    }

    /// Sequence number of the next record to deliver.
    pub fn position(&self) -> u64 {
        self.cursor.number
    }

    /// Records not delivered.
    pub fn backlog(&self) -> u64 {
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
        let before = |(located, _): &(Located, usize)| located.number < self.cursor.number;
        let end = entry::read_all(&bytes, front.first)
            .take_while(before)
            .last();
        self.cursor.offset = end.map_or(0, |(_, end)| end as u64);
        Ok(())
    }

    fn save_cursor(&self) -> io::Result<()> {
        let Cursor {
            number,
            planned,
            epoch,
            ..
        } = self.cursor;
        let planned = planned.unwrap_or(number);
        let text = format!("{number} {planned} {epoch} {}\n", self.boot);
        let path = self.directory.join("cursor");
        // After a power failure it belongs to another boot, and is read as such.
        durable::replace(&path, text.as_bytes(), Access::PRIVATE, Survives::Kill)
    }
}

impl Cursor {
    fn at(number: u64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }

    /// In another epoch than `before`, drawn at random: the last draw may have been lost too.
    fn in_new_epoch(mut self, before: u32) -> Self {
        self.epoch = before.wrapping_add(random::quick().u32(1..));
        self
    }
}

impl RecordBatch {
    /// Sequence number after the last record.
    pub fn end(&self) -> u64 {
        self.records
            .last()
            .map_or(self.first, |last| last.number + 1)
    }

    /// Epoch and number of its start, which distinguish its objects from all others. The same when the delivery is
    /// repeated after a kill.
    pub fn origin(&self) -> (u32, u64) {
        (self.epoch, self.first)
    }

    /// A record's JSON.
    pub fn json(&self, index: usize) -> &[u8] {
        &self.bytes[self.records[index].json.clone()]
    }

    /// Bytes of all entries.
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Keeps only the first `count` records.
    pub fn truncate(&mut self, count: usize) {
        self.records.truncate(count);
        self.ends.truncate(count);
    }
}

/// Reads a batch. Blocks; independent of the spool, so that another thread can do it. If it holds fewer records than
/// the ticket grants, the rest belongs to the next batch; if it holds none, they are damaged: see
/// [`Spool::drop_damaged`].
pub fn read(ticket: &Ticket) -> io::Result<RecordBatch> {
    let mut file = File::open(&ticket.path)?;
    file.seek(SeekFrom::Start(ticket.offset))?;
    let count_max = usize::try_from(ticket.count_max).unwrap_or(usize::MAX);
    let wanted = ticket
        .bytes_max
        .min(count_max.saturating_mul(2 * LOG_ENTRY_BYTES_MAX));
    let mut bytes = Vec::new();
    (&mut file).take(wanted as u64).read_to_end(&mut bytes)?;
    let end = ticket.first.saturating_add(ticket.count_max);
    let (records, ends): (Vec<_>, _) = entry::read_all(&bytes, ticket.first)
        .take_while(|(located, _)| located.number < end)
        .unzip();
    let mut resume = None;
    if records.is_empty() {
        // Damage may be longer than the requested range.
        file.read_to_end(&mut bytes)?;
        let found = entry::read_all(&bytes, ticket.first).next();
        resume = found.map(|(located, _)| {
            let start = located.json.start.saturating_sub(entry::HEAD_BYTES_MAX);
            (located.number, start)
        });
    }
    Ok(RecordBatch {
        first: ticket.first,
        epoch: ticket.epoch,
        records,
        bytes,
        ends,
        resume,
    })
}

fn segment_path(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.{EXTENSION}"))
}

fn list(directory: &Path) -> io::Result<VecDeque<Segment>> {
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

/// Cuts off a torn tail, and returns the number of the next record. Damage in the middle is left to the reader.
fn recover(directory: &Path, segment: &mut Segment) -> io::Result<(Appender, u64)> {
    let path = segment_path(directory, segment.first);
    let bytes = fs::read(&path)?;
    let last = entry::read_all(&bytes, segment.first).last();
    let (next, end) = last.map_or((segment.first, 0), |(last, end)| (last.number + 1, end));
    segment.bytes = end as u64;
    Ok((Appender::recover(&path, segment.bytes)?, next))
}

/// A record's number, as this server writes it.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number <= NUMBER_MAX)
}

/// The cursor and its boot id; the boot id is empty if the first version wrote the file.
fn parse_cursor(text: &str) -> Option<(Cursor, &str)> {
    let mut words = text.strip_suffix('\n')?.splitn(4, ' ');
    let (number, planned) = (number(words.next()?)?, number(words.next()?)?);
    let epoch = words.next().map_or(Ok(0), str::parse).ok()?;
    let cursor = Cursor {
        number,
        offset: 0,
        planned: (planned > number).then_some(planned),
        epoch,
    };
    Some((cursor, words.next().unwrap_or_default()))
}

/// A batch of these times and texts.
#[cfg(test)]
pub(super) fn batch_of(records: &[(u64, &str)]) -> RecordBatch {
    batch_from(0, records)
}

/// The same; the first record has the number `first`.
#[cfg(test)]
pub(super) fn batch_from(first: u64, records: &[(u64, &str)]) -> RecordBatch {
    let mut bytes = Vec::new();
    for (number, (event_ms, json)) in (first..).zip(records) {
        let room = RoomId::from_random(1);
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

#[cfg(test)]
mod tests;
