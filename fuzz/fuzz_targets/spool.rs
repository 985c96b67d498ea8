//! Spool segments: what was appended is read back, damage ends the reading where it is, and nothing behind the
//! bytes is touched.
//!
//! Input: where a byte is damaged and how, where the file is cut off, then the JSON of entries, each behind its
//! length; or, behind a zero, the whole segment.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar::base::id::RoomId;
use uproar::control::archive::spool::entry::{append, read_all};

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
        let time = written.len() as u64;
        append(&mut segment, room, |out| {
            out.extend_from_slice(json);
            Some(time)
        });
        written.push((segment.len(), json));
    }
    let read: Vec<_> = read_all(&segment).collect();
    assert_eq!(read.len(), written.len());
    for ((located, end), (its_end, json)) in read.iter().zip(&written) {
        assert_eq!((*end, &segment[located.json.clone()]), (*its_end, *json));
    }

    let place = |low, high| usize::from(u16::from_le_bytes([low, high]));
    let cut = place(head[1], head[2]) % (segment.len() + 1);
    let whole = written.iter().filter(|(end, _)| *end <= cut).count();
    assert_eq!(read_all(&segment[..cut]).count(), whole);
    if let Some(at) = place(head[3], head[4]).checked_rem(segment.len()) {
        let before = segment[at];
        segment[at] = head[5];
        let first = written
            .iter()
            .position(|(end, _)| at < *end)
            .expect("within");
        let now = check(&segment);
        // A checksum of 32 bits finds any change of one byte; a length may shrink to nothing that has one.
        assert_eq!(
            now,
            if before == head[5] {
                written.len()
            } else {
                first
            }
        );
    }
});

/// How many entries there are; each lies within the bytes, behind the one before.
fn check(segment: &[u8]) -> usize {
    let mut start = 0;
    read_all(segment)
        .map(|(located, end)| {
            assert!(start <= located.json.start && located.json.end == end);
            assert!(start < end && end <= segment.len());
            start = end;
        })
        .count()
}
