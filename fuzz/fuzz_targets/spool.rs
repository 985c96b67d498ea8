//! Spool segments: what was appended is read back, damage costs the entry it touches and no other, numbers stay
//! right, and nothing behind the bytes is touched.
//!
//! Input: where a byte is damaged and how, where the file is cut off, then the JSON of entries, each behind its
//! length; or, behind a zero, the whole segment.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar::control::archive::spool::entry::{append, read_all};
use uproar_proto::base::id::RoomId;

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<6>() else {
        return;
    };
    if head[0] == 0 {
        check(rest);
        return;
    }
    let room = RoomId::parse("TC6fLHr7ycLt").expect("twelve letters and digits");
    let (mut segment, mut written, mut rest) = (Vec::new(), Vec::new(), rest);
    while let Some((length, more)) = rest.split_first() {
        let (json, more) = more.split_at(usize::from(*length).min(more.len()));
        rest = more;
        // JSON has no control characters, without which no entry can stand within another.
        let json: Vec<u8> = json.iter().map(|byte| (*byte).max(b' ')).collect();
        let time = written.len() as u64;
        append(&mut segment, room, time, |out| {
            out.extend_from_slice(&json);
            Some(time)
        });
        written.push((segment.len(), json));
    }
    let read: Vec<_> = read_all(&segment, 0).collect();
    assert_eq!(read.len(), written.len());
    for ((record, end), (its_end, json)) in read.iter().zip(&written) {
        assert_eq!((*end, &segment[record.json.clone()]), (*its_end, &json[..]));
    }

    let place = |low, high| usize::from(u16::from_le_bytes([low, high]));
    let cut = place(head[1], head[2]) % (segment.len() + 1);
    let whole = written.iter().filter(|(end, _)| *end <= cut).count();
    assert_eq!(read_all(&segment[..cut], 0).count(), whole);
    if let Some(at) = place(head[3], head[4]).checked_rem(segment.len()) {
        let before = segment[at];
        segment[at] = head[5];
        let touched = written
            .iter()
            .position(|(end, _)| at < *end)
            .expect("within");
        check(&segment);
        // A checksum of 32 bits finds any change of one byte.
        let numbers: Vec<u64> = read_all(&segment, 0)
            .map(|(record, _)| record.number)
            .collect();
        let left = (0..written.len()).filter(|number| before == head[5] || *number != touched);
        assert!(numbers.into_iter().eq(left.map(|number| number as u64)));
    }
});

/// Each entry lies within the bytes, behind the one before.
fn check(segment: &[u8]) {
    let mut start = 0;
    for (record, end) in read_all(segment, 0) {
        assert!(start <= record.json.start && record.json.end == end);
        assert!(start < end && end <= segment.len());
        start = end;
    }
}
