//! Layout of a record in a spool: length, checksum, room, time, number, JSON. Pure.
//!
//! A file that ends within an entry ends before it: a killed process or a full disk leaves such a
//! file. Damage in the middle costs the entries it touches. Reading continues with the next entry
//! it can find, and since each has its number, the number of lost ones is known. Entries of the
//! first version have no number; they are counted.

use std::ops::Range;

use uproar_proto::base::id::{ID_CHARS, RoomId};
use uproar_proto::base::limits::LOG_ENTRY_BYTES_MAX;

/// Length of the bytes after the checksum, and the checksum of those bytes; little-endian.
const HEADER_BYTES: usize = 8;
/// Room and time, before the JSON of an entry without a number.
const PREFIX_BYTES: usize = ID_CHARS + 8;
/// The same prefix with a number.
const NUMBERED_PREFIX_BYTES: usize = PREFIX_BYTES + 8;
/// Upper bound of an entry's bytes before its JSON.
pub(super) const HEAD_BYTES_MAX: usize = HEADER_BYTES + NUMBERED_PREFIX_BYTES;
/// Set in the length of entries that have a number.
const NUMBERED: u32 = 1 << 31;
/// Their checksum is XORed with this, so that a flipped bit in the length does not turn one kind
/// into the other.
const NUMBERED_SUM: u32 = 0x5EC0_4D01;

/// One record, record in the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpooledRecord {
    /// Its sequence number.
    pub number: u64,
    /// Its room.
    pub room: RoomId,
    /// Its `event_timestamp`, in milliseconds since the epoch.
    pub event_ms: u64,
    /// Range of its JSON.
    pub json: Range<usize>,
}

/// Appends an entry whose JSON and time `write` provides; returns `None`, and appends nothing, if
/// `write` does.
pub fn append(
    out: &mut Vec<u8>,
    room: RoomId,
    number: u64,
    write: impl FnOnce(&mut Vec<u8>) -> Option<u64>,
) -> Option<u64> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES + NUMBERED_PREFIX_BYTES]);
    let body = start + HEADER_BYTES;
    let written = write(out).filter(|_| out.len() - body <= LOG_ENTRY_BYTES_MAX);
    let Some(event_ms) = written else {
        out.truncate(start);
        return None;
    };
    out[body..body + ID_CHARS].copy_from_slice(room.as_bytes());
    out[body + ID_CHARS..body + PREFIX_BYTES].copy_from_slice(&event_ms.to_le_bytes());
    out[body + PREFIX_BYTES..body + NUMBERED_PREFIX_BYTES].copy_from_slice(&number.to_le_bytes());
    let len = u32::try_from(out.len() - body).expect("at most LOG_ENTRY_BYTES_MAX");
    let sum = checksum(&out[body..]) ^ NUMBERED_SUM;
    out[start..start + 4].copy_from_slice(&(len | NUMBERED).to_le_bytes());
    out[start + 4..body].copy_from_slice(&sum.to_le_bytes());
    Some(event_ms)
}

/// The entry that begins at `start`, and its end. `None` at the end of the bytes and at damage.
/// `number` applies if the entry has none.
fn read(bytes: &[u8], start: usize, number: u64) -> Option<(SpooledRecord, usize)> {
    let (len, rest) = bytes.get(start..)?.split_first_chunk::<4>()?;
    let (sum, _) = rest.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len);
    let numbered = len & NUMBERED != 0;
    let len = usize::try_from(len & !NUMBERED).ok()?;
    let prefix = if numbered {
        NUMBERED_PREFIX_BYTES
    } else {
        PREFIX_BYTES
    };
    if !(prefix..=LOG_ENTRY_BYTES_MAX).contains(&len) {
        return None;
    }
    let body = start + HEADER_BYTES;
    let entry = bytes.get(body..body + len)?;
    let differs = if numbered { NUMBERED_SUM } else { 0 };
    if checksum(entry) ^ differs != u32::from_le_bytes(*sum) {
        return None;
    }
    let (room, rest) = entry.split_first_chunk::<ID_CHARS>()?;
    let (event_ms, rest) = rest.split_first_chunk::<8>()?;
    let number = match rest.split_first_chunk::<8>() {
        Some((number, _)) if numbered => u64::from_le_bytes(*number),
        _ => number,
    };
    let record = SpooledRecord {
        number,
        room: RoomId::parse(std::str::from_utf8(room).ok()?)?,
        event_ms: u64::from_le_bytes(*event_ms),
        json: body + prefix..body + len,
    };
    Some((record, body + len))
}

/// Every whole entry, and its end; the first one is expected to have the number `first`.
///
/// A match after damage never lies within a written record: a length has a zero byte, JSON has
/// none.
pub fn read_all(bytes: &[u8], first: u64) -> impl Iterator<Item = (SpooledRecord, usize)> {
    let (mut start, mut number) = (0, first);
    std::iter::from_fn(move || {
        let mut at = start;
        loop {
            let expected = number + u64::from(at > start);
            // A lower number belongs to the remains of another file.
            let found = read(bytes, at, expected).filter(|(found, _)| found.number >= number);
            if let Some((record, end)) = found {
                start = end;
                number = record.number.checked_add(1)?;
                return Some((record, end));
            }
            if at >= bytes.len() {
                return None;
            }
            at += 1;
        }
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

    const FIRST: u64 = 70;

    fn write(entries: &[(u64, Vec<u8>)]) -> (Vec<u8>, Vec<usize>) {
        let room = RoomId::parse("TC6fLHr7ycLt").expect("an id");
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        for (event_ms, json) in entries {
            let number = FIRST + ends.len() as u64;
            let appended = append(&mut out, room, number, |out| {
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
        let nothing = append(&mut out, room, 1, |out| {
            out.push(2);
            None
        });
        let huge = append(&mut out, room, 1, |out| {
            out.resize(out.len() + LOG_ENTRY_BYTES_MAX, 0);
            Some(1)
        });
        assert!(nothing.is_none() && huge.is_none());
        assert!(out == [1]);
    }

    /// Goal: entries of the first version are read, also in front of numbered ones.
    #[test]
    fn entries_without_a_number_are_counted() {
        let (new, _) = write(&[(5, b"new".to_vec())]);
        let mut bytes = Vec::new();
        for json in [&b"old"[..], b"older"] {
            let entry = [b"TC6fLHr7ycLt", &7_u64.to_le_bytes()[..], json].concat();
            bytes.extend(u32::try_from(entry.len()).expect("short").to_le_bytes());
            bytes.extend(checksum(&entry).to_le_bytes());
            bytes.extend(entry);
        }
        bytes.extend(new);
        let read: Vec<_> = read_all(&bytes, FIRST - 2)
            .map(|(record, _)| (record.number, bytes[record.json].to_vec()))
            .collect();
        let expected = [(68, "old"), (69, "older"), (70, "new")];
        assert_eq!(
            read,
            expected.map(|(number, json)| (number, json.as_bytes().to_vec()))
        );
    }

    proptest! {
        /// Goal: entries read back; a file cut anywhere yields exactly the whole ones before the
        /// cut; flipped bits and overwritten ranges cost only the entries they touch, and all
        /// numbers stay right.
        #[test]
        fn damage_costs_what_it_touches(
            entries in proptest::collection::vec(
                (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..50)), 1..6),
            at in any::<prop::sample::Index>(),
            len in 1..80_usize,
            bit in 0..9_u8,
        ) {
            let (bytes, ends) = write(&entries);
            let text = |bytes: &[u8]| -> Vec<_> {
                read_all(bytes, FIRST)
                    .map(|(record, _)| (record.number, record.event_ms, bytes[record.json].to_vec()))
                    .collect()
            };
            let numbered: Vec<_> = (FIRST..)
                .zip(&entries)
                .map(|(number, (event_ms, json))| (number, *event_ms, json.clone()))
                .collect();
            prop_assert_eq!(&text(&bytes), &numbered);

            let at = at.index(bytes.len());
            let whole = ends.iter().filter(|end| **end <= at).count();
            prop_assert_eq!(&text(&bytes[..at])[..], &numbered[..whole]);

            let mut damaged = bytes;
            let touched = if bit < 8 { at..at + 1 } else { at..(at + len).min(damaged.len()) };
            for byte in &mut damaged[touched.clone()] {
                *byte = if bit < 8 { *byte ^ (1 << bit) } else { !*byte };
            }
            let starts = std::iter::once(0).chain(ends.iter().copied());
            let left: Vec<_> = numbered
                .into_iter()
                .zip(starts.zip(&ends))
                .filter(|(_, (start, end))| **end <= touched.start || *start >= touched.end)
                .map(|(entry, _)| entry)
                .collect();
            prop_assert_eq!(text(&damaged), left);
        }

        /// Goal: arbitrary bytes are read without a panic.
        #[test]
        fn noise_is_no_entry(bytes in proptest::collection::vec(any::<u8>(), 0..200), first: u64) {
            prop_assert!(read_all(&bytes, first).count() <= bytes.len() / (HEADER_BYTES + PREFIX_BYTES));
        }
    }
}
