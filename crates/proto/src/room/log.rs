//! The room log: batches of encoded frames in order, and the window of them that is kept. A batch
//! may have two encodings; cursors count frames, so one cursor fits both.
//!
//! A cursor is a count of frames: the number of the first frame its owner has not been sent.
//! Cursors stand only at batch boundaries, so each send starts with a whole frame.

use std::collections::VecDeque;
use std::time::Duration;

pub use super::batch::Batch;
use super::redaction::{self, Redacted, Redaction};
use crate::base::clock::Tick;
use crate::base::id::FrameId;
use crate::base::limits::SEND_BYTES_MAX;
use crate::base::segment::Run;

/// A reader's position: frames appended before this point are sent or being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor(u64);

impl Cursor {
    /// Returns the cursor this many frames before; `None`: there are not as many.
    pub const fn before(self, frames: u64) -> Option<Self> {
        match self.0.checked_sub(frames) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Returns the number of frames between `earlier` and this cursor.
    pub const fn frames_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The bounds on the part of a log that is kept for slow readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Most bytes.
    pub bytes_max: usize,
    /// Greatest age of a batch.
    pub age_max: Duration,
}

/// The next step of a reader at some cursor.
#[derive(Debug)]
#[must_use]
pub enum Next {
    /// There are frames to send.
    Run {
        /// The bytes to send.
        run: Run,
        /// The reader's cursor afterwards.
        after: Cursor,
        /// Bytes that compression saves.
        saved: usize,
    },
    /// There is nothing to send.
    UpToDate,
    /// The window moved past the cursor: the reader has lost frames, and may continue at `resume`.
    Behind {
        /// Number of lost frames.
        frames: u64,
        /// The oldest point that is still kept.
        resume: Cursor,
    },
}

/// A batch in the log.
#[derive(Debug)]
struct Kept {
    // Number of its first frame; that of the batch before plus its frames.
    start: u64,
    batch: Batch,
    // When it was appended here, for the window's age.
    appended: Tick,
}

/// Least head of an inherited log: no reader is that far behind, so that each has a cursor.
const INHERITED_HEAD: u64 = 1 << 40;

/// The kept part of one room's log on one shard.
#[derive(Debug, Default)]
pub struct Log {
    // The kept batches, oldest first; each begins where the one before ends, the newest ends at
    // `head`.
    batches: VecDeque<Kept>,
    // Number of frames appended so far, kept or not: the number of the next one. It never goes
    // back.
    head: u64,
    // Invariant: the sum of the batches' bytes, in both encodings.
    bytes: usize,
    // What was taken back of late, while sends may carry it.
    redacted: Option<Box<Redacted>>,
}

impl Log {
    /// Returns the cursor after the newest frame.
    pub fn head(&self) -> Cursor {
        Cursor(self.head)
    }

    /// Number of kept bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a batch and trims to `window`, keeping the new batch in any case.
    pub fn append(&mut self, batch: Batch, window: Window, now: Tick, offered: Cursor) {
        self.bytes += batch.bytes();
        let start = self.head;
        self.head += u64::from(batch.frames);
        self.batches.push_back(Kept {
            start,
            batch,
            appended: now,
        });
        while self.bytes > window.bytes_max && self.batches.len() > 1 {
            self.drop_oldest();
        }
        self.expire(window, now, offered);
    }

    /// Drops batches older than the window allows, as far as every reader was `offered` them.
    pub fn expire(&mut self, window: Window, now: Tick, offered: Cursor) {
        while let Some(kept) = self.batches.front()
            && now.since(kept.appended) > window.age_max
            && kept.start < offered.0
        {
            self.drop_oldest();
        }
        if self.batches.is_empty() && self.batches.capacity() > 64 {
            self.batches = VecDeque::new();
        }
        self.check();
    }

    /// Keeps every batch longer, by a pause that ends `now`, in which no reader got anything.
    pub fn postpone(&mut self, pause: Duration, now: Tick) {
        for kept in &mut self.batches {
            kept.appended = kept.appended.after(pause).min(now);
        }
    }

    /// Returns the batches from `cursor` on, oldest first, and when each was appended here; all that
    /// are kept if the window has moved past it.
    pub fn kept_from(&self, cursor: Cursor) -> impl Iterator<Item = (&Batch, Tick)> {
        let kept = self.batches.iter();
        kept.skip_while(move |kept| kept.start < cursor.0)
            .map(|kept| (&kept.batch, kept.appended))
    }

    /// Takes over the newest batches of the log of another process, oldest first, with when they
    /// were appended there. The log has no batch yet.
    pub fn inherit<'a>(&mut self, batches: impl IntoIterator<Item = (&'a Batch, Tick)>) {
        debug_assert!(self.batches.is_empty(), "it has no reader yet");
        // Readers that the window has left behind stand before the oldest batch.
        self.head = self.head.max(INHERITED_HEAD);
        for (batch, appended) in batches {
            self.bytes += batch.bytes();
            let start = self.head;
            self.head += u64::from(batch.frames);
            self.batches.push_back(Kept {
                start,
                batch: batch.clone(),
                appended,
            });
        }
        self.check();
    }

    /// Returns the cursor after the frames that no reader needs any more.
    pub fn oldest(&self) -> Cursor {
        let oldest = self.batches.front();
        Cursor(oldest.map_or(self.head, |kept| kept.start))
    }

    /// Asserts the invariants of the fields, in debug builds.
    fn check(&self) {
        let newest = self.batches.back();
        debug_assert!(
            newest.is_none_or(|kept| kept.start + u64::from(kept.batch.frames) == self.head),
            "the newest batch ends at the head"
        );
        debug_assert_eq!(newest.is_none(), self.bytes == 0, "batches have bytes");
    }

    /// Drops all batches: no reader needs them.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
        self.redacted = None;
    }

    /// Adds the kept messages to `ids` that are taken back, if not by their ids: also what no memory has, or no longer.
    pub fn add_taken(&self, redactions: &[Redaction], ids: &mut Vec<FrameId>) {
        if redactions.iter().any(|redaction| redaction.is_wide()) {
            let kept = self
                .batches
                .iter()
                .map(|kept| &kept.batch.plain.bytes()[..]);
            redaction::add_taken(kept, redactions, ids);
        }
    }

    /// Takes messages out of the batches from `cursor` on, where the slowest reader stands. Returns the JSON of each, and
    /// where its batch begins: readers who stand there or before have not got it. `is_sending`: sends have begun, of
    /// these batches and of those before.
    pub fn redact(
        &mut self,
        ids: &[FrameId],
        cursor: Cursor,
        is_sending: bool,
    ) -> Vec<(Cursor, Vec<u8>)> {
        let mut gone = Vec::new();
        let redacted = self.redacted.get_or_insert_default();
        let sent = if is_sending { self.batches.len() } else { 0 };
        let sent = self.batches.iter().take(sent).map(|kept| &kept.batch);
        redacted.note(ids, sent);
        for kept in self.batches.iter_mut().rev() {
            if kept.start < cursor.0 {
                break;
            }
            if let Some(cut) = redacted.cut(&kept.batch, ids) {
                let taken = redaction::taken(&kept.batch, ids);
                gone.extend(taken.map(|payload| (Cursor(kept.start), payload.to_vec())));
                self.bytes = self.bytes - kept.batch.bytes() + cut.bytes();
                kept.batch = cut;
            }
        }
        self.check();
        gone
    }

    /// What was taken back of late, while sends may carry it.
    #[inline]
    pub fn redacted(&self) -> Option<&Redacted> {
        self.redacted.as_deref()
    }

    /// No send carries what was taken back.
    pub(super) fn end_redaction(&mut self) {
        self.redacted = None;
    }

    /// Returns the next run of a reader at `cursor`: as many batches as are adjacent in memory,
    /// compressed where they are if `deflated`.
    pub fn next(&self, cursor: Cursor, deflated: bool) -> Next {
        if cursor.0 >= self.head {
            return Next::UpToDate;
        }
        let Some(index) = self.find(cursor) else {
            let resume = self.batches.front().map_or(self.head, |kept| kept.start);
            return Next::Behind {
                frames: resume - cursor.0,
                resume: Cursor(resume),
            };
        };
        let mut batches = self.batches.range(index..);
        let first = batches.next().expect("find returns an index of a batch");
        let mut run = Run::of(first.batch.piece(deflated));
        let mut plain = first.batch.plain.len();
        let mut after = self.head();
        for kept in batches {
            let piece = kept.batch.piece(deflated);
            if run.len() + piece.len() > SEND_BYTES_MAX || !run.join(piece) {
                after = Cursor(kept.start);
                break;
            }
            plain += kept.batch.plain.len();
        }
        let saved = plain - run.len();
        Next::Run { run, after, saved }
    }

    /// Hands out the pieces from `cursor` on, at least one and then up to `bytes_max` bytes, for a
    /// reader that must copy them (TLS). Returns the reader's cursor afterwards, and the bytes that
    /// compression saved. Call it after [`Log::next`] returned a run.
    pub fn copy(
        &self,
        cursor: Cursor,
        deflated: bool,
        bytes_max: usize,
        mut take: impl FnMut(&[u8]),
    ) -> (Cursor, usize) {
        let Some(index) = self.find(cursor) else {
            return (cursor, 0);
        };
        let (mut bytes, mut saved) = (0, 0);
        for kept in self.batches.range(index..) {
            let piece = kept.batch.piece(deflated);
            if bytes > 0 && bytes + piece.len() > bytes_max {
                return (Cursor(kept.start), saved);
            }
            bytes += piece.len();
            saved += kept.batch.plain.len() - piece.len();
            take(piece.bytes());
        }
        (self.head(), saved)
    }

    /// Returns the index of the batch that starts at `cursor`. The newest is tried first: most
    /// readers are there. Inlined, because each delivery calls it.
    #[inline]
    fn find(&self, cursor: Cursor) -> Option<usize> {
        let newest = self.batches.back()?;
        if newest.start == cursor.0 {
            return Some(self.batches.len() - 1);
        }
        self.batches
            .binary_search_by(|kept| kept.start.cmp(&cursor.0))
            .ok()
    }

    fn drop_oldest(&mut self) {
        if let Some(kept) = self.batches.pop_front() {
            self.bytes -= kept.batch.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::segment::Piece;
    use bytes::Bytes;

    const WINDOW: Window = Window {
        bytes_max: 10,
        age_max: Duration::from_secs(1),
    };

    fn piece(text: &'static str) -> Piece {
        Piece::alone(Bytes::from_static(text.as_bytes()))
    }

    fn batch(text: &'static str, frames: u32) -> Batch {
        Batch {
            plain: piece(text),
            deflated: None,
            frames,
        }
    }

    /// Goal: a reader gets every batch once and in order; one that fell out of the window learns
    /// how much it lost and continues at a boundary.
    #[test]
    fn readers_follow_or_learn_what_they_lost() {
        let mut log = Log::default();
        let start = log.head();
        assert!(matches!(log.next(start, false), Next::UpToDate));
        log.append(batch("aaaa", 2), WINDOW, Tick::default(), log.head());
        log.append(batch("bbbb", 3), WINDOW, Tick::default(), log.head());
        let Next::Run { run, after, saved } = log.next(start, true) else {
            panic!("two batches are kept")
        };
        assert_eq!(
            (run.len(), after, saved),
            (4, Cursor(2), 0),
            "the two lie in different allocations"
        );
        log.append(batch("cccc", 1), WINDOW, Tick::default(), log.head());
        let Next::Behind { frames, resume } = log.next(start, false) else {
            panic!("12 bytes of 10")
        };
        assert_eq!((frames, resume), (2, Cursor(2)));
        let mut copied = Vec::new();
        assert_eq!(
            log.copy(resume, false, 100, |bytes| copied.extend_from_slice(bytes)),
            (log.head(), 0)
        );
        assert_eq!(copied, b"bbbbcccc");
        log.expire(
            WINDOW,
            Tick::default().after(Duration::from_secs(2)),
            log.head(),
        );
        assert_eq!(log.bytes(), 0);
        assert!(matches!(
            log.next(resume, false),
            Next::Behind { frames: 4, .. }
        ));
    }

    /// Goal: each reader gets its encoding, at the same cursors; both count against the window.
    #[test]
    fn two_encodings_share_cursors() {
        let mut log = Log::default();
        let (start, now) = (log.head(), Tick::default());
        let both = Batch {
            deflated: Some(piece("a")),
            ..batch("aaaa", 2)
        };
        log.append(both, WINDOW, now, log.head());
        log.append(batch("bb", 1), WINDOW, now, log.head());
        for (deflated, len, less) in [(false, 4, 0), (true, 1, 3)] {
            let Next::Run { run, after, saved } = log.next(start, deflated) else {
                panic!("kept")
            };
            assert_eq!((run.len(), after, saved), (len, Cursor(2), less));
            let Next::Run { run, after, saved } = log.next(after, deflated) else {
                panic!("kept")
            };
            assert_eq!((run.len(), after, saved), (2, Cursor(3), 0));
            let (mut copied, end) = (Vec::new(), log.head());
            let take = |bytes: &[u8]| copied.extend_from_slice(bytes);
            assert_eq!(log.copy(start, deflated, 100, take), (end, less));
            assert_eq!(copied.len(), len + 2);
        }
        assert_eq!(log.bytes(), 7);
        log.append(batch("cccc", 1), WINDOW, now, log.head());
        assert_eq!(log.bytes(), 6, "the five bytes of the first went together");
    }
}
