//! The room log: batches of wire-ready frames in order, and the window that is kept of them.
//!
//! A cursor is a count of frames: the number of the first frame its owner has not been sent. Cursors
//! stand only at batch boundaries, so what is sent next always starts with a whole frame.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::clock::Tick;
use crate::base::limits::SEGMENT_BYTES;
use crate::base::segment::{Piece, Run};

/// Where one reader stands: frames appended before this point are sent or under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor(u64);

impl Cursor {
    /// Frames between `earlier` and this cursor.
    pub const fn frames_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How much of a log is kept for slow readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Bytes.
    pub bytes_max: usize,
    /// Age of a batch.
    pub age_max: Duration,
}

/// What a reader at some cursor gets next.
#[derive(Debug)]
pub enum Next {
    /// Send this; afterwards the reader stands at the cursor.
    Run(Run, Cursor),
    /// Nothing to send.
    UpToDate,
    /// The window moved past the cursor: so many frames are gone for this reader, who may go on at
    /// the given cursor.
    Behind {
        /// Frames lost.
        frames: u64,
        /// The oldest point that is still kept.
        resume: Cursor,
    },
}

#[derive(Debug)]
struct Batch {
    start: u64,
    piece: Piece,
    appended: Tick,
}

/// The kept part of one room's log on one shard.
#[derive(Debug, Default)]
pub struct Log {
    batches: VecDeque<Batch>,
    head: u64,
    // Invariant: the sum of the pieces' lengths.
    bytes: usize,
}

impl Log {
    /// Behind the newest frame.
    pub fn head(&self) -> Cursor {
        Cursor(self.head)
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends `frames` frames and trims to `window`, keeping the new batch in any case.
    pub fn append(&mut self, piece: Piece, frames: u32, window: Window, now: Tick) {
        self.bytes += piece.len();
        self.batches.push_back(Batch {
            start: self.head,
            piece,
            appended: now,
        });
        self.head += u64::from(frames);
        while self.bytes > window.bytes_max && self.batches.len() > 1 {
            self.drop_oldest();
        }
        self.expire(window, now);
    }

    /// Drops what is older than the window allows.
    pub fn expire(&mut self, window: Window, now: Tick) {
        while let Some(batch) = self.batches.front()
            && now.since(batch.appended) > window.age_max
        {
            self.drop_oldest();
        }
        if self.batches.is_empty() && self.batches.capacity() > 64 {
            self.batches = VecDeque::new();
        }
    }

    /// Drops everything: no reader needs it.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }

    /// What a reader at `cursor` gets next: as many batches as lie in one stretch of memory.
    pub fn next(&self, cursor: Cursor) -> Next {
        if cursor.0 >= self.head {
            return Next::UpToDate;
        }
        let Some(index) = self.find(cursor) else {
            let resume = self.batches.front().map_or(self.head, |batch| batch.start);
            return Next::Behind {
                frames: resume - cursor.0,
                resume: Cursor(resume),
            };
        };
        let mut batches = self.batches.range(index..);
        let first = batches.next().expect("find returns an index of a batch");
        let mut run = Run::of(&first.piece);
        for batch in batches {
            if run.len() + batch.piece.len() > SEGMENT_BYTES || !run.join(&batch.piece) {
                return Next::Run(run, Cursor(batch.start));
            }
        }
        Next::Run(run, self.head())
    }

    /// The pieces from `cursor` on, at least one and then up to `bytes_max` bytes, for a reader that
    /// must copy them (TLS); afterwards it stands at the returned cursor. Call after [`Log::next`]
    /// answered with a run.
    pub fn copy(&self, cursor: Cursor, bytes_max: usize, mut take: impl FnMut(&[u8])) -> Cursor {
        let Some(index) = self.find(cursor) else {
            return cursor;
        };
        let mut bytes = 0;
        for batch in self.batches.range(index..) {
            if bytes > 0 && bytes + batch.piece.len() > bytes_max {
                return Cursor(batch.start);
            }
            bytes += batch.piece.len();
            take(batch.piece.bytes());
        }
        self.head()
    }

    /// The batch that starts at `cursor`. The newest is tried first: most readers are there.
    fn find(&self, cursor: Cursor) -> Option<usize> {
        let newest = self.batches.back()?;
        if newest.start == cursor.0 {
            return Some(self.batches.len() - 1);
        }
        self.batches
            .binary_search_by(|batch| batch.start.cmp(&cursor.0))
            .ok()
    }

    fn drop_oldest(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.bytes -= batch.piece.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const WINDOW: Window = Window {
        bytes_max: 10,
        age_max: Duration::from_secs(1),
    };

    fn piece(text: &'static str) -> Piece {
        Piece::alone(Bytes::from_static(text.as_bytes()))
    }

    /// Goal: a reader gets every batch once and in order; one that fell out of the window learns how
    /// much it lost and goes on at a boundary.
    #[test]
    fn readers_follow_or_learn_what_they_lost() {
        let mut log = Log::default();
        let start = log.head();
        assert!(matches!(log.next(start), Next::UpToDate));
        log.append(piece("aaaa"), 2, WINDOW, Tick::default());
        log.append(piece("bbbb"), 3, WINDOW, Tick::default());
        let Next::Run(run, after) = log.next(start) else {
            panic!("two batches are kept")
        };
        assert_eq!(
            (run.len(), after),
            (4, Cursor(2)),
            "the two lie in different allocations"
        );
        log.append(piece("cccc"), 1, WINDOW, Tick::default());
        let Next::Behind { frames, resume } = log.next(start) else {
            panic!("12 bytes of 10")
        };
        assert_eq!((frames, resume), (2, Cursor(2)));
        let mut copied = Vec::new();
        assert_eq!(
            log.copy(resume, 100, |bytes| copied.extend_from_slice(bytes)),
            log.head()
        );
        assert_eq!(copied, b"bbbbcccc");
        log.expire(WINDOW, Tick::default().after(Duration::from_secs(2)));
        assert_eq!(log.bytes(), 0);
        assert!(matches!(log.next(resume), Next::Behind { frames: 4, .. }));
    }
}
