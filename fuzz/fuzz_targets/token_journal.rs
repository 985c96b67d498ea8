//! The journal of used tokens: what was written comes back, a file that was cut loses its tail alone, damage the
//! record it touches, and a token that a whole record says was used is refused, whatever the clocks say.
//!
//! Input: clocks at the start, where the segment is cut, where a byte is damaged and how, then records: kind, a
//! letter of the room, expiry, token; or, behind a zero, the whole segment.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar::shard::journal::TokenUse;
use uproar::shard::journal::fuzzing::{read, remembered, written, written_mark};
use uproar::shard::tokens::{Mark, Redeemed};
use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::id::RoomId;
use uproar_proto::token::{TOKEN_ID_BYTES, TokenId};

const RECORD_BYTES: usize = 32;
type Entry = Result<TokenUse, Mark>;

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<14>() else {
        return;
    };
    let long = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let place = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let now = Now {
        tick: Tick::from_nanos(u64::from(long(1)) * 1_000_000_000),
        unix: UnixTime::from_secs(u64::from(long(5))),
    };
    if head[0] == 0 {
        check(rest, now);
        return;
    }
    let entries: Vec<Entry> = rest.as_chunks::<10>().0.iter().map(entry).collect();
    let bytes = entries.iter().flat_map(|entry| match entry {
        Ok(token_use) => written(token_use),
        Err(mark) => written_mark(*mark),
    });
    let mut segment: Vec<u8> = bytes.collect();
    assert_eq!(read(&segment), entries);

    let cut = place(9) % (segment.len() + 1);
    assert_eq!(read(&segment[..cut]), entries[..cut / RECORD_BYTES]);
    check(&segment[..cut], now);

    if let Some(at) = place(11).checked_rem(segment.len()) {
        segment[at] = head[13];
        let left = read(&segment);
        let (before, behind) = entries.split_at(at / RECORD_BYTES);
        assert!(left.starts_with(before) && left.ends_with(&behind[1..]));
        assert!(entries.len() - left.len() <= 1);
        check(&segment, now);
    }
});

/// Each whole record says one thing or nothing, and holds.
fn check(segment: &[u8], now: Now) {
    let entries = read(segment);
    let (records, _torn) = segment.as_chunks::<RECORD_BYTES>();
    let one_by_one = records.iter().flat_map(|record| {
        let said = read(record);
        let is_written = |token_use: &TokenUse| written(token_use) == *record;
        assert!(said.iter().flatten().all(is_written), "one form each");
        said
    });
    assert!(one_by_one.eq(entries.iter().copied()));
    let mut used = remembered(segment, now);
    let uses = entries.iter().flatten();
    for unix in [
        now.unix,
        UnixTime::default(),
        UnixTime::from_secs(u64::from(u32::MAX)),
    ] {
        let later = Now { unix, ..now };
        for token_use in uses.clone() {
            let again = used.redeem(token_use.token, token_use.expires, later);
            assert_eq!(again, Redeemed::Again, "{token_use:?} at {later:?}");
        }
        used.expire(later);
    }
}

fn entry([kind, room, rest @ ..]: &[u8; 10]) -> Entry {
    let (expires, token) = rest.split_first_chunk::<4>().expect("eight bytes");
    let expires = UnixTime::from_secs(u64::from(u32::from_le_bytes(*expires)));
    let mut id = [*kind; TOKEN_ID_BYTES];
    id[..token.len()].copy_from_slice(token);
    let token = TokenId::from_bytes(id);
    match kind % 8 {
        0 => Err(Mark {
            key: Some(token.key_id()),
            until: expires,
        }),
        1 => Err(Mark {
            key: None,
            until: expires,
        }),
        _ => Ok(TokenUse {
            token,
            room: RoomId::from_random(u128::from(*room)),
            expires,
        }),
    }
}
