//! One configuration's spool: records on disk until their destination has them.
//!
//! Append-only segment files, each named by the sequence number of its first record, and a cursor that
//! says which record is to be delivered next. Records are in the page cache when [`Spool::commit`]
//! returns: they survive SIGKILL. [`Spool::sync_handle`] is for what a loss of power would cost.

pub mod entry;

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use self::entry::Located;
use crate::base::id::RoomId;
use crate::base::limits::{LOG_ENTRY_BYTES_MAX, LOG_SEGMENT_BYTES, LOG_STRETCH_BYTES_MAX};

const EXTENSION: &str = "spool";
/// A segment whose records are all delivered is given up from this size on, not only when it is full.
const IDLE_SEGMENT_BYTES: u64 = 1024 * 1024;

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
    // A delivery up to here was begun: its parcels must come out the same if it is repeated.
    planned: Option<u64>,
}

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    bytes_max: u64,
    // Oldest first; the cursor stands in the front one, and the back one is open while `file` is.
    segments: VecDeque<Segment>,
    file: Option<File>,
    // Sequence number of the next record.
    next: u64,
    staged: Vec<u8>,
    staged_count: u64,
    cursor: Cursor,
    unsynced: bool,
}

/// What a commit did.
#[derive(Debug, PartialEq, Eq)]
pub struct Committed {
    /// Records written.
    pub written: u64,
    /// Older, undelivered records given up because the spool was full.
    pub given_up: u64,
}

/// Where to read a stretch; see [`read`].
#[derive(Debug, Clone)]
pub struct Ticket {
    path: PathBuf,
    offset: u64,
    first: u64,
    count_max: u64,
    bytes_max: usize,
}

/// Records read from a spool, one behind the other.
#[derive(Debug)]
pub struct Stretch {
    /// Sequence number of the first.
    pub first: u64,
    /// The records.
    pub records: Vec<Located>,
    bytes: Vec<u8>,
    // Where each record's entry ends in `bytes`.
    ends: Vec<usize>,
}

impl Spool {
    /// Opens or makes the spool in `directory`; a torn tail is dropped. Also says how many records
    /// the cursor expected and the files do not have.
    pub fn open(directory: &Path, bytes_max: u64) -> io::Result<(Self, u64)> {
        fs::create_dir_all(directory)?;
        let mut segments = list(directory)?;
        let kept = fs::read_to_string(directory.join("cursor")).unwrap_or_default();
        let oldest = segments.front().map_or(0, |segment| segment.first);
        let mut cursor = parse_cursor(&kept).unwrap_or(Cursor {
            number: oldest,
            ..Cursor::default()
        });
        let (mut file, mut next) = (None, cursor.number);
        if let Some(last) = segments.back_mut() {
            let (open, records) = mend(directory, last)?;
            next = last.first + records;
            if next >= cursor.number {
                file = Some(open);
            } else {
                // A loss of power took records that were delivered: go on behind them, in a new file.
                next = cursor.number;
            }
        }
        let lost = oldest.saturating_sub(cursor.number);
        if lost > 0 {
            cursor = Cursor {
                number: oldest,
                ..Cursor::default()
            };
        }
        let mut spool = Self {
            directory: directory.to_owned(),
            bytes_max,
            segments,
            file,
            next,
            staged: Vec::new(),
            staged_count: 0,
            cursor,
            unsynced: true,
        };
        spool.discard_delivered()?;
        spool.find_cursor()?;
        Ok((spool, lost))
    }

    /// Adds a record to the next commit. `write` appends its JSON and returns its time; nothing is
    /// added if it returns `None`.
    pub fn stage(
        &mut self,
        room: RoomId,
        write: impl FnOnce(&mut Vec<u8>) -> Option<u64>,
    ) -> Option<u64> {
        let staged = entry::append(&mut self.staged, room, write);
        self.staged_count += u64::from(staged.is_some());
        staged
    }

    /// Writes what was staged. If it fails, nothing of it is kept and the error says how many records
    /// that were.
    pub fn commit(&mut self) -> Result<Committed, (u64, io::Error)> {
        let written = std::mem::take(&mut self.staged_count);
        if written == 0 {
            return Ok(Committed {
                written,
                given_up: 0,
            });
        }
        let outcome = self.write_staged();
        let bytes = self.staged.len() as u64;
        self.staged.clear();
        outcome.map_err(|error| (written, error))?;
        self.next += written;
        self.unsynced = true;
        if let Some(open) = self.segments.back_mut() {
            open.bytes += bytes;
        }
        let given_up = self.shrink();
        Ok(Committed { written, given_up })
    }

    fn write_staged(&mut self) -> io::Result<()> {
        let full = |segment: &Segment| segment.bytes >= LOG_SEGMENT_BYTES;
        if self.file.is_none() || self.segments.back().is_none_or(full) {
            let first = self.next;
            let mut options = OpenOptions::new();
            let path = segment_path(&self.directory, first);
            let file = options.append(true).create(true).open(path)?;
            // A file of this name holds nothing but what a failed write left.
            file.set_len(0)?;
            self.file = Some(file);
            if self.segments.is_empty() {
                self.cursor.offset = 0;
            }
            if self.segments.back().is_none_or(|back| back.first < first) {
                self.segments.push_back(Segment { first, bytes: 0 });
            }
        }
        let (Some(file), Some(segment)) = (&mut self.file, self.segments.back()) else {
            return Err(io::Error::other("no open segment"));
        };
        let outcome = file.write_all(&self.staged);
        if outcome.is_err() {
            // A torn entry would hide every later one.
            let mended = file.set_len(segment.bytes);
            if mended.is_err() {
                self.file = None;
            }
        }
        outcome
    }

    /// Gives up the oldest segments while there are too many bytes; how many undelivered records
    /// that were.
    fn shrink(&mut self) -> u64 {
        let mut given_up = 0;
        while self.bytes() > self.bytes_max && self.segments.len() > 1 {
            given_up += self.give_up_front();
        }
        given_up
    }

    /// Gives up what is undelivered of the front segment, damaged or too old.
    pub fn give_up_front(&mut self) -> u64 {
        let end = self.front_end();
        let given_up = end.saturating_sub(self.cursor.number);
        self.cursor = Cursor {
            number: end,
            ..Cursor::default()
        };
        if self.segments.len() == 1 {
            self.file = None;
        }
        // What cannot be removed now is found and removed when the spool is opened next.
        let _kept = self.discard_delivered();
        let _not_kept = self.keep_cursor();
        given_up
    }

    /// Where to read what is to be delivered next, at most `count_max` records; `None`: everything is
    /// delivered.
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
        })
    }

    /// Whether a delivery was begun, here or before a restart, and not completed.
    pub fn is_planned(&self) -> bool {
        self.cursor.planned.is_some()
    }

    /// Notes that `stretch` is about to be delivered: should this be repeated, it is the same stretch.
    pub fn plan(&mut self, stretch: &Stretch) -> io::Result<()> {
        if stretch.first == self.cursor.number {
            self.cursor.planned = Some(stretch.end());
        }
        self.keep_cursor()
    }

    /// Moves the cursor behind `stretch`. Without effect if the spool gave it up meanwhile.
    pub fn advance(&mut self, stretch: &Stretch) -> io::Result<()> {
        if stretch.first != self.cursor.number {
            return Ok(());
        }
        self.cursor = Cursor {
            number: stretch.end(),
            offset: self.cursor.offset + stretch.len() as u64,
            planned: None,
        };
        let idle = |segment: &Segment| segment.bytes >= IDLE_SEGMENT_BYTES;
        if self.cursor.number == self.next && self.segments.back().is_some_and(idle) {
            self.file = None;
        }
        self.keep_cursor()?;
        self.discard_delivered()
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

    /// The open file, if something was written since the last call: to be synced elsewhere.
    pub fn sync_handle(&mut self) -> Option<File> {
        let wanted = std::mem::take(&mut self.unsynced);
        self.file.as_ref().filter(|_| wanted)?.try_clone().ok()
    }

    /// Number behind the last record of the front segment.
    fn front_end(&self) -> u64 {
        self.segments
            .get(1)
            .map_or(self.next, |segment| segment.first)
    }

    /// Removes files without undelivered records, but the one being written.
    fn discard_delivered(&mut self) -> io::Result<()> {
        while let Some(front) = self.segments.front() {
            let open = self.segments.len() == 1 && self.file.is_some();
            if open || self.front_end() > self.cursor.number {
                break;
            }
            let path = segment_path(&self.directory, front.first);
            self.segments.pop_front();
            self.cursor.offset = 0;
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Finds the cursor's place in the front segment.
    fn find_cursor(&mut self) -> io::Result<()> {
        let Some(front) = self.segments.front() else {
            return Ok(());
        };
        let bytes = fs::read(segment_path(&self.directory, front.first))?;
        let delivered = usize::try_from(self.cursor.number - front.first).unwrap_or(usize::MAX);
        let end = entry::read_all(&bytes).take(delivered).last();
        self.cursor.offset = end.map_or(0, |(_, end)| end as u64);
        Ok(())
    }

    fn keep_cursor(&self) -> io::Result<()> {
        let Cursor {
            number, planned, ..
        } = self.cursor;
        let text = format!("{number} {}\n", planned.unwrap_or(number));
        let (path, new) = (
            self.directory.join("cursor"),
            self.directory.join("cursor.new"),
        );
        fs::write(&new, text)?;
        fs::rename(new, path)
    }
}

impl Stretch {
    /// Sequence number behind the last record.
    pub fn end(&self) -> u64 {
        self.first + self.records.len() as u64
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

/// Reads a stretch. Blocks; independent of the spool, so that another thread can do it. Fewer records
/// than the ticket grants: the rest is for the next stretch, or damaged if there is none at all.
pub fn read(ticket: &Ticket) -> io::Result<Stretch> {
    let mut file = File::open(&ticket.path)?;
    file.seek(SeekFrom::Start(ticket.offset))?;
    let count_max = usize::try_from(ticket.count_max).unwrap_or(usize::MAX);
    let wanted = ticket
        .bytes_max
        .min(count_max.saturating_mul(2 * LOG_ENTRY_BYTES_MAX));
    let mut bytes = Vec::new();
    file.take(wanted as u64).read_to_end(&mut bytes)?;
    let (records, ends) = entry::read_all(&bytes).take(count_max).unzip();
    Ok(Stretch {
        first: ticket.first,
        records,
        bytes,
        ends,
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
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok());
        if let (true, Some(first)) = (is_segment, number) {
            let bytes = item.metadata()?.len();
            segments.push(Segment { first, bytes });
        }
    }
    segments.sort_unstable_by_key(|segment| segment.first);
    Ok(segments.into())
}

/// Cuts a torn tail off and says how many records are left.
fn mend(directory: &Path, segment: &mut Segment) -> io::Result<(File, u64)> {
    let path = segment_path(directory, segment.first);
    let bytes = fs::read(&path)?;
    let (mut records, mut end) = (0, 0);
    for (_, entry_end) in entry::read_all(&bytes) {
        records += 1;
        end = entry_end;
    }
    let file = OpenOptions::new().append(true).open(path)?;
    segment.bytes = end as u64;
    if end < bytes.len() {
        file.set_len(segment.bytes)?;
    }
    Ok((file, records))
}

fn parse_cursor(text: &str) -> Option<Cursor> {
    let (number, planned) = text.strip_suffix('\n')?.split_once(' ')?;
    let (number, planned) = (number.parse().ok()?, planned.parse().ok()?);
    Some(Cursor {
        number,
        offset: 0,
        planned: (planned > number).then_some(planned),
    })
}

/// A stretch of these times and texts.
#[cfg(test)]
pub(super) fn stretch_of(records: &[(u64, &str)]) -> Stretch {
    let mut bytes = Vec::new();
    for (event_ms, json) in records {
        let room = RoomId::from_random(1);
        entry::append(&mut bytes, room, |out| {
            out.extend_from_slice(json.as_bytes());
            Some(*event_ms)
        });
    }
    let (records, ends) = entry::read_all(&bytes).unzip();
    Stretch {
        first: 0,
        records,
        bytes,
        ends,
    }
}

#[cfg(test)]
mod tests;
