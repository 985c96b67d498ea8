//! How a record lies in a spool: length, checksum, room, time, JSON. Pure.
//!
//! A file that ends within an entry, or whose checksum disagrees, ends before that entry: what a killed
//! process or a full disk leaves behind.

use std::ops::Range;

use crate::base::id::{ID_CHARS, RoomId};
use crate::base::limits::LOG_ENTRY_BYTES_MAX;

/// Length of the rest after the checksum, and the checksum of that rest; little-endian.
const HEADER_BYTES: usize = 8;
/// Room and time, before the JSON.
const PREFIX_BYTES: usize = ID_CHARS + 8;

/// One record, located in the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// Its room.
    pub room: RoomId,
    /// Its `event_timestamp`, in milliseconds since the epoch.
    pub event_ms: u64,
    /// Where its JSON stands.
    pub json: Range<usize>,
}

/// Appends an entry whose JSON and time `write` provides; `None`, and nothing appended, if it has none.
pub fn append(
    out: &mut Vec<u8>,
    room: RoomId,
    write: impl FnOnce(&mut Vec<u8>) -> Option<u64>,
) -> Option<u64> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES + PREFIX_BYTES]);
    let body = start + HEADER_BYTES;
    let written = write(out).filter(|_| out.len() - body <= LOG_ENTRY_BYTES_MAX);
    let Some(event_ms) = written else {
        out.truncate(start);
        return None;
    };
    out[body..body + ID_CHARS].copy_from_slice(room.as_bytes());
    out[body + ID_CHARS..body + PREFIX_BYTES].copy_from_slice(&event_ms.to_le_bytes());
    let len = u32::try_from(out.len() - body).expect("at most LOG_ENTRY_BYTES_MAX");
    let sum = checksum(&out[body..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..body].copy_from_slice(&sum.to_le_bytes());
    Some(event_ms)
}

/// The entry that begins at `start`, and where the next one does. `None` at the end and at damage.
pub fn read(bytes: &[u8], start: usize) -> Option<(Located, usize)> {
    let (len, rest) = bytes.get(start..)?.split_first_chunk::<4>()?;
    let (sum, _) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    if !(PREFIX_BYTES..=LOG_ENTRY_BYTES_MAX).contains(&len) {
        return None;
    }
    let body = start + HEADER_BYTES;
    let entry = bytes.get(body..body + len)?;
    if checksum(entry) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (room, rest) = entry.split_first_chunk::<ID_CHARS>()?;
    let (event_ms, _) = rest.split_first_chunk::<8>()?;
    let located = Located {
        room: RoomId::parse(std::str::from_utf8(room).ok()?)?,
        event_ms: u64::from_le_bytes(*event_ms),
        json: body + PREFIX_BYTES..body + len,
    };
    Some((located, body + len))
}

/// Every whole entry from the start.
pub fn read_all(bytes: &[u8]) -> impl Iterator<Item = (Located, usize)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let (located, end) = read(bytes, start)?;
        start = end;
        Some((located, end))
    })
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(entries: &[(u64, Vec<u8>)]) -> (Vec<u8>, Vec<usize>) {
        let room = RoomId::parse("TC6fLHr7ycLt").expect("an id");
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        for (event_ms, json) in entries {
            let appended = append(&mut out, room, |out| {
                out.extend_from_slice(json);
                Some(*event_ms)
            });
            assert_eq!(appended, Some(*event_ms));
            ends.push(out.len());
        }
        (out, ends)
    }

    /// Goal: nothing is appended without a time, nor beyond the bound.
    #[test]
    fn refused_entries_leave_no_trace() {
        let room = RoomId::parse("TC6fLHr7ycLt").expect("an id");
        let mut out = vec![1];
        let nothing = append(&mut out, room, |out| {
            out.push(2);
            None
        });
        let huge = append(&mut out, room, |out| {
            out.resize(out.len() + LOG_ENTRY_BYTES_MAX, 0);
            Some(1)
        });
        assert!(nothing.is_none() && huge.is_none());
        assert!(out == [1]);
    }

    proptest! {
        /// Goal: entries read back; a file cut anywhere yields exactly the whole ones before the cut;
        /// a flipped bit ends the reading at its entry, never later and never with a wrong record.
        #[test]
        fn torn_and_damaged_files_end_early(
            entries in proptest::collection::vec(
                (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..50)), 1..6),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let (bytes, ends) = write(&entries);
            let read: Vec<_> = read_all(&bytes)
                .map(|(located, _)| (located.event_ms, bytes[located.json].to_vec()))
                .collect();
            prop_assert_eq!(&read, &entries);

            let at = at.index(bytes.len());
            let whole = ends.iter().filter(|end| **end <= at).count();
            prop_assert_eq!(read_all(&bytes[..at]).count(), whole);

            let mut damaged = bytes;
            damaged[at] ^= 1 << bit;
            let read: Vec<_> = read_all(&damaged)
                .map(|(located, _)| (located.event_ms, damaged[located.json].to_vec()))
                .collect();
            prop_assert_eq!(&read[..], &entries[..whole]);
        }

        /// Goal: any bytes at all are read without a panic.
        #[test]
        fn noise_is_no_entry(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read_all(&bytes).count() <= bytes.len() / (HEADER_BYTES + PREFIX_BYTES));
        }
    }
}
