//! What another process hands over: whatever its bytes say, a shard takes over what can be read and refuses the
//! rest, in memory in proportion to the bytes, and serves; an engine reads a cluster's logs on.
//!
//! Input: a byte says how many bytes each of three records has, in 32nds of the rest; the rooms' estate is what
//! remains. A second byte says whether the input is an estate at all, or a change of a real one.

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use uproar::shard::core::Core;
use uproar::shard::estate::{Inherited, RoomsEstate, merge_rooms};
use uproar_proto::base::clock::Shift;
use uproar_proto::base::id::RoomId;
use uproar_proto::cluster::engine::{Engine, EngineSettings, LogsEstate};
use uproar_proto::cluster::here::About;
use uproar_proto::cluster::{Incarnation, Sequence};
use uproar_proto::tagged::{Fields, Tagged};
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
    let (mut records, rooms) = shard.frozen();
    let mut rooms = merge_rooms(&[rooms], Some(&logs())).expect("our own");
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

/// How far a node of a cluster has read its logs.
fn logs() -> LogsEstate {
    let mut fields = Fields::default();
    fields.number(1, 7);
    for slot in 0..256 {
        fields.nested(2, |log| (1..=8).for_each(|number| log.number(number, slot)));
    }
    LogsEstate::decode(&fields.into_bytes()).expect("every log once")
}

/// The engine that reads on: it asks and appends, whatever it was told, and ends a turn.
fn read_on(logs: &LogsEstate) {
    assert_eq!(LogsEstate::decode(&logs.encode()).as_ref(), Ok(logs));
    let settings = EngineSettings {
        me: Incarnation::new(1),
        about: About::default(),
        linger: Duration::from_millis(5),
    };
    let mut engine = Engine::inherit(settings, logs, &[Sequence(9); 256], start());
    while engine.next_output().is_some() {}
    assert!(engine.estate().is_some(), "it could be handed over again");
}

fn take_over(rooms: Vec<u8>, records: Vec<Vec<u8>>) {
    let merged = merge_rooms(&[rooms.clone(), rooms.clone()], None);
    let fields = Tagged::parse(&rooms);
    let has_bad_logs = fields.is_ok_and(|fields| {
        let mut logs = fields.all(6).take(1);
        logs.any(|logs| LogsEstate::decode(logs).is_err())
    });
    let Ok(estate) = RoomsEstate::parse(rooms, Shift::between(5_000_000_000, 0)) else {
        assert!(merged.is_err() || has_bad_logs, "both read the same");
        return;
    };
    if let Some(logs) = estate.logs() {
        read_on(logs);
    }
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
