//! What another process hands over: whatever its bytes say, a shard takes over what can be read and refuses the
//! rest, in memory in proportion to the bytes, and serves.
//!
//! Input: a byte says how many bytes each of three records has, in 32nds of the rest; the rooms' estate is what
//! remains. A second byte says whether the input is an estate at all, or a change of a real one.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use uproar::shard::core::Core;
use uproar::shard::estate::{Inherited, RoomsEstate, merge_rooms};
use uproar_proto::base::clock::Shift;
use uproar_proto::base::id::RoomId;
use uproar_testing::io::FakeIo;
use uproar_testing::parts::{alone, room_settings, start};
use uproar_testing::single_shard::SingleShard;

fuzz_target!(|data: &[u8]| {
    let Some(([lengths, changes], rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let (records, rooms) = if *changes & 1 == 0 {
        let length = rest.len() * usize::from(*lengths) / 1024;
        let (records, rooms) = rest.split_at((3 * length).min(rest.len()));
        let records = records.chunks(length.max(1)).take(3);
        (records.map(<[u8]>::to_vec).collect(), rooms.to_vec())
    } else {
        changed(rest)
    };
    take_over(rooms, records);
});

/// A real estate of a room with two members that are behind, some bytes of which are changed: of three bytes of input
/// each, two say where, one to what.
fn changed(changes: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut shard = SingleShard::new(2, 5);
    let keys = shard.core.io().receives.clone();
    shard.core.io_mut().slow.extend(keys.iter().copied());
    let request = uproar_testing::client::text(uproar_testing::client::request().as_bytes());
    shard.receive(keys[0], &request);
    shard.receive(keys[1], &request[..70]);
    let (mut records, mut rooms) = shard.frozen();
    for change in changes.chunks_exact(3) {
        let at = usize::from(change[0]) << 8 | usize::from(change[1]);
        let parts = records.iter_mut().chain([&mut rooms]);
        let mut bytes = parts.flat_map(|part| part.iter_mut());
        let Some(byte) = bytes.nth(at % 2048) else {
            continue;
        };
        *byte = change[2];
    }
    (records, rooms)
}

fn take_over(rooms: Vec<u8>, records: Vec<Vec<u8>>) {
    let merged = merge_rooms(&[rooms.clone(), rooms.clone()], None);
    let Ok(estate) = RoomsEstate::parse(rooms, Shift::between(5_000_000_000, 0)) else {
        assert!(merged.is_err(), "both read the same");
        return;
    };
    let now = start();
    let mut core = Core::new(alone(FakeIo::default()), now);
    let room = RoomId::parse("abcdefghijkl").expect("twelve letters");
    core.load(vec![(room, room_settings())]);
    core.inherit_rooms(&Arc::new(estate));
    let count = records.len() as u64;
    let arrived = records.into_iter().map(|record| Inherited {
        socket: (),
        record,
        share: None,
    });
    let carried = core.inherit(arrived.collect());
    let refused: u64 = carried.not_carried().map(|(_, count)| count).sum();
    assert_eq!(carried.viewers + refused, count, "each is accounted for");
    core.check();
    core.settle();
    assert!(core.io().sends.is_empty() && core.io().receives.is_empty());
    core.begin(now);
    core.resume();
    for _ in 0..20 {
        core.settle();
        core.check();
        core.begin(now);
        for (key, outgoing) in std::mem::take(&mut core.io_mut().sends) {
            let len = outgoing.remaining();
            core.sent(key, outgoing, &Ok(len));
        }
    }
}
