//! Contiguous memory of a room log: written once at the tail, cut into shared pieces, sent as runs.
//!
//! A [`Segment`] is one allocation. [`Segment::cut`] turns the bytes written since the last cut
//! into an immutable
//! [`Piece`]; pieces of one segment are adjacent in memory, so that any sequence of them is one [`Run`]: one
//! pointer, one length, one reference count, for any number of messages.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::clock::Tick;
use super::limits::{SEGMENT_BYTES, SEGMENT_BYTES_MIN, SEGMENT_LASTS_MIN, SEGMENTS_SPARE};

/// The writable tail of a room log.
#[derive(Debug)]
pub struct Segment {
    // The bytes not cut yet; they and the pieces cut since the last renewal lie in one allocation.
    tail: BytesMut,
    // Identifies that allocation among all of one room: the lineage in the upper 32 bits, in the
    // lower ones a count of the allocations, far fewer than 2^32 (16 TiB of the smallest).
    number: u64,
    // The allocation's size in bytes; 0 before the first.
    capacity: usize,
    // Bytes of the allocation from the start of `tail` to its end; never below `tail`'s length.
    space_left: usize,
    // When the allocation was taken into use; the default before the first message.
    begun: Tick,
    // Full allocations of the same size whose pieces may still be in use, oldest first: a room
    // reuses them. At most `SEGMENTS_SPARE`.
    retired: VecDeque<BytesMut>,
}

impl Segment {
    /// Makes a segment without memory. `lineage` keeps its allocations apart from those of the
    /// room's other segments, which may by chance be adjacent in memory.
    pub fn new(lineage: u32) -> Self {
        Self {
            tail: BytesMut::new(),
            number: u64::from(lineage) << 32,
            capacity: 0,
            space_left: 0,
            begun: Tick::default(),
            retired: VecDeque::new(),
        }
    }

    /// The bytes not yet cut.
    pub fn pending(&self) -> &[u8] {
        &self.tail
    }

    /// Whether `bytes_max` bytes can be written.
    pub fn fits(&self, bytes_max: usize) -> bool {
        self.tail.len() + bytes_max <= self.space_left
    }

    /// Lets `write` append at most `bytes_max` bytes. `false`: they do not fit; cut, then
    /// [`Segment::renew`] first.
    #[must_use]
    pub fn write(&mut self, bytes_max: usize, write: impl FnOnce(&mut BytesMut)) -> bool {
        if !self.fits(bytes_max) {
            return false;
        }
        let before = self.tail.as_ptr();
        write(&mut self.tail);
        if self.tail.len() > self.space_left || (self.tail.as_ptr() != before) {
            // The writer exceeded its bound and the tail moved to a new allocation, which gets a
            // new number. Correct, only slower.
            self.number += 1;
            self.space_left = self.tail.capacity();
            self.capacity = self.space_left;
        }
        true
    }

    /// Everything written since the last cut; `None` if nothing was.
    pub fn cut(&mut self) -> Option<Piece> {
        if self.tail.is_empty() {
            return None;
        }
        debug_assert!(
            self.tail.len() <= self.space_left,
            "a cut within the allocation"
        );
        self.space_left -= self.tail.len();
        Some(Piece {
            bytes: self.tail.split().freeze(),
            number: self.number,
        })
    }

    /// Continues in a new allocation with space for `bytes_min` bytes: a larger one if the old one
    /// was full before
    /// [`SEGMENT_LASTS_MIN`], one of half the size if it lasted more than four times as long. A recycled one if the
    /// oldest retired one is free.
    ///
    /// # Panics
    ///
    /// If bytes are pending: cut first.
    pub fn renew(&mut self, bytes_min: usize, now: Tick) {
        assert!(
            self.tail.is_empty(),
            "a segment is cut before it is replaced"
        );
        let capacity = self.next_capacity(now).max(bytes_min);
        let old = std::mem::take(&mut self.tail);
        if self.capacity == capacity {
            if self.retired.len() == SEGMENTS_SPARE {
                self.retired.pop_front();
            }
            self.retired.push_back(old);
        } else {
            self.retired.clear();
        }
        let recycled = self.recycle(capacity);
        self.tail = recycled.unwrap_or_else(|| BytesMut::with_capacity(capacity));
        self.number += 1;
        self.capacity = capacity;
        self.space_left = self.tail.capacity();
        self.begun = now;
    }

    fn next_capacity(&self, now: Tick) -> usize {
        let lasted = now.since(self.begun);
        let capacity = if self.begun == Tick::default() {
            // The room had no message yet, hence no time.
            self.capacity * 2
        } else if lasted < SEGMENT_LASTS_MIN {
            let short = SEGMENT_LASTS_MIN.as_nanos() / lasted.as_nanos().max(1);
            self.capacity
                * usize::try_from(short).map_or(GROWTH_MAX, |times| times.clamp(2, GROWTH_MAX))
        } else if lasted > 4 * SEGMENT_LASTS_MIN {
            self.capacity / 2
        } else {
            self.capacity
        };
        capacity.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES)
    }

    /// The first retired allocation without a living piece.
    fn recycle(&mut self, capacity: usize) -> Option<BytesMut> {
        let free = self
            .retired
            .iter_mut()
            .position(|retired| retired.try_reclaim(capacity))?;
        self.retired.remove(free)
    }
}

/// Number of the allocation of inherited pieces: of a lineage that no room reaches.
const INHERITED: u64 = u64::MAX << 32;

/// Maximum growth factor between segments.
const GROWTH_MAX: usize = 16;

/// Immutable bytes of a segment, appended by one flush of a room. Cheap to clone, and sent to other
/// shards unchanged.
#[derive(Debug, Clone)]
pub struct Piece {
    bytes: Bytes,
    // The segment's number of its allocation.
    number: u64,
}

impl Piece {
    /// A piece of the memory that another process handed over. All such pieces of a room lie in
    /// one allocation.
    pub fn inherited(bytes: Bytes) -> Self {
        Self {
            bytes,
            number: INHERITED,
        }
    }

    /// A piece in an allocation of its own. `lineage` keeps it apart from every other allocation of the room.
    pub fn rebuilt(bytes: Bytes, lineage: u32) -> Self {
        Self {
            bytes,
            number: u64::from(lineage) << 32,
        }
    }

    /// The number of its allocation, of which a room has one each.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// A piece in an allocation of its own, for tests.
    #[cfg(test)]
    pub(crate) fn alone(bytes: Bytes) -> Self {
        let address = u64::try_from(bytes.as_ptr().addr()).expect("64 bits");
        Self {
            bytes,
            number: u64::MAX - address,
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Adjacent bytes of one allocation, held alive by one reference count.
#[derive(Debug)]
pub struct Run {
    // Keeps the whole allocation alive; its first byte is the run's first byte.
    first: Bytes,
    // The number of the allocation that all its pieces lie in.
    number: u64,
    // Bytes from the first on, of one piece or several.
    len: usize,
}

impl Run {
    /// A run of one piece.
    pub fn of(piece: &Piece) -> Self {
        Self {
            first: piece.bytes.clone(),
            number: piece.number,
            len: piece.len(),
        }
    }

    /// Adds `next` if it directly follows this run in the same allocation.
    #[must_use]
    pub fn join(&mut self, next: &Piece) -> bool {
        let adjacent = self.number == next.number
            && self.as_ptr().addr() + self.len == next.bytes.as_ptr().addr();
        if adjacent {
            self.len += next.len();
        }
        adjacent
    }

    /// The first byte. All [`Run::len`] bytes from here are initialised, immutable and alive while
    /// this run lives.
    pub fn as_ptr(&self) -> *const u8 {
        self.first.as_ptr()
    }

    /// The number of the allocation that all of it lies in.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Length in bytes; may reach past the first piece.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn write(segment: &mut Segment, text: &[u8]) -> bool {
        segment.write(text.len(), |out| out.extend_from_slice(text))
    }

    /// Goal: pieces of one segment make one run; pieces of two segments never do.
    #[test]
    fn pieces_join_only_within_their_segment() {
        let mut segment = Segment::new(0);
        assert!(!write(&mut segment, b"x"), "an empty segment has no space");
        segment.renew(0, Tick::default());
        assert!(write(&mut segment, b"one"));
        let one = segment.cut().expect("three bytes were written");
        assert!(segment.cut().is_none());
        assert!(write(&mut segment, b"two"));
        let two = segment.cut().expect("three bytes were written");
        let mut run = Run::of(&one);
        assert!(run.join(&two));
        assert_eq!(run.len(), 6);
        assert!(!run.join(&one), "not adjacent");
        segment.renew(0, Tick::default());
        assert!(write(&mut segment, b"three"));
        let three = segment.cut().expect("five bytes were written");
        assert!(!run.join(&three));
        assert!(!run.join(&Piece::alone(Bytes::from_static(b"four"))));
    }

    /// Goal: a room's segments hold some seconds of its messages, and shrink again. Method: a room
    /// that fills them at once, then one each six seconds, then one each twenty.
    #[test]
    fn segments_grow_and_shrink_with_the_pace_of_their_room() {
        let mut segment = Segment::new(0);
        let mut now = Tick::default();
        let mut fill = |seconds: f64| {
            now = now.after(Duration::from_secs_f64(seconds));
            segment.renew(0, now);
            segment.capacity
        };
        let busy: Vec<usize> = std::iter::repeat_with(|| fill(0.1)).take(10).collect();
        let kib = |bytes: &usize| bytes / 1024;
        let busy: Vec<usize> = busy.iter().map(kib).collect();
        assert_eq!(
            busy,
            [4, 64, 1024, 1024, 1024, 1024, 1024, 1024, 1024, 1024]
        );
        assert_eq!(fill(6.0), SEGMENT_BYTES);
        let quiet: Vec<usize> = std::iter::repeat_with(|| fill(20.0)).take(10).collect();
        assert_eq!(
            quiet[..3],
            [SEGMENT_BYTES / 2, SEGMENT_BYTES / 4, SEGMENT_BYTES / 8]
        );
        assert_eq!(quiet[9], SEGMENT_BYTES_MIN);
        assert!(segment.retired.is_empty());
    }

    /// Goal: a busy room's memory is recycled once its pieces are gone, and never before.
    #[test]
    fn full_segments_are_recycled_when_free() {
        let mut segment = Segment::new(0);
        let fill = vec![7; SEGMENT_BYTES / 4 - 100];
        let mut addresses = std::collections::HashSet::new();
        let mut held = None;
        for round in 0..100 {
            while write(&mut segment, &fill) {
                let piece = segment.cut().expect("just written");
                addresses.insert(piece.bytes.as_ptr());
                if round == 50 {
                    held = Some(piece);
                }
            }
            segment.renew(fill.len(), Tick::default());
        }
        assert!(
            addresses.len() < 40,
            "{} distinct addresses",
            addresses.len()
        );
        assert!(
            held.expect("kept in round 50")
                .bytes
                .iter()
                .all(|byte| *byte == 7)
        );
    }
}
