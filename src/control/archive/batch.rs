//! How a stretch of records is divided into parcels, one for each request or file, within the limits of
//! the destinations. Pure: the same stretch always makes the same parcels, so that a delivery can go on
//! where it broke off.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::spool::entry::Located;
use crate::base::id::RoomId;
use crate::base::limits::{
    PUT_LOG_EVENT_OVERHEAD_BYTES, PUT_LOG_EVENTS_BYTES_MAX, PUT_LOG_EVENTS_MAX,
    PUT_LOG_EVENTS_SPAN_MAX, PUT_RECORDS_BYTES_MAX, PUT_RECORDS_MAX,
};

/// Records that travel together: indexes into the stretch, in the order of their delivery.
pub type Picks = Vec<usize>;

/// Records of each room and window of `window_ms`, with the window's start.
pub fn objects(records: &[Located], window_ms: u64) -> Vec<(RoomId, u64, Picks)> {
    let mut objects: BTreeMap<(u64, RoomId), Picks> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        let start_ms = window_start(record.event_ms, window_ms);
        objects
            .entry((start_ms, record.room))
            .or_default()
            .push(index);
    }
    objects
        .into_iter()
        .map(|((start_ms, room), picks)| (room, start_ms, picks))
        .collect()
}

/// When the window of an event begins.
pub fn window_start(event_ms: u64, window_ms: u64) -> u64 {
    event_ms - event_ms % window_ms
}

/// `PutLogEvents` calls: each for one room, sorted by time, within count, bytes and span.
pub fn log_events(records: &[Located]) -> Vec<(RoomId, Picks)> {
    let span_max = u64::try_from(PUT_LOG_EVENTS_SPAN_MAX.as_millis()).expect("a day");
    let mut rooms: BTreeMap<RoomId, Picks> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        rooms.entry(record.room).or_default().push(index);
    }
    let mut calls = Vec::new();
    for (room, mut picks) in rooms {
        // A wall clock may have stepped back; the service wants order.
        picks.sort_by_key(|index| records[*index].event_ms);
        let (mut bytes, mut oldest_ms) = (0, 0);
        let split = divide(picks, |call, index| {
            let record = &records[index];
            let len = record.json.len() + PUT_LOG_EVENT_OVERHEAD_BYTES;
            let fits = call.len() < PUT_LOG_EVENTS_MAX
                && bytes + len <= PUT_LOG_EVENTS_BYTES_MAX
                && record.event_ms - oldest_ms < span_max;
            if call.is_empty() || !fits {
                (bytes, oldest_ms) = (0, record.event_ms);
            }
            bytes += len;
            fits
        });
        calls.extend(split.into_iter().map(|picks| (room, picks)));
    }
    calls
}

/// `PutRecordBatch` calls, in order, within count and bytes.
pub fn firehose_records(records: &[Located]) -> Vec<Picks> {
    let mut bytes = 0;
    divide((0..records.len()).collect(), |call, index| {
        let len = records[index].json.len() + 1;
        let fits = call.len() < PUT_RECORDS_MAX && bytes + len <= PUT_RECORDS_BYTES_MAX;
        if call.is_empty() || !fits {
            bytes = 0;
        }
        bytes += len;
        fits
    })
}

/// Records of each file, in order.
pub fn files(records: &[Located], path: impl Fn(&Located) -> PathBuf) -> Vec<(PathBuf, Picks)> {
    let mut files: BTreeMap<PathBuf, Picks> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        files.entry(path(record)).or_default().push(index);
    }
    files.into_iter().collect()
}

/// Cuts `picks` where `fits` says that the next one does not fit the call so far. The first of a call
/// always fits.
fn divide(picks: Picks, mut fits: impl FnMut(&[usize], usize) -> bool) -> Vec<Picks> {
    let mut calls: Vec<Picks> = Vec::new();
    let mut call = Picks::new();
    for index in picks {
        if !fits(&call, index) && !call.is_empty() {
            calls.push(std::mem::take(&mut call));
        }
        call.push(index);
    }
    if !call.is_empty() {
        calls.push(call);
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = Vec<Located>> {
        let day_ms = 86_400_000_u64;
        let record = (
            0..3_u128,
            0..3 * day_ms,
            prop_oneof![1..2_000_usize, 400_000..600_000_usize],
        );
        proptest::collection::vec(record, 0..60).prop_map(|list| {
            list.into_iter()
                .map(|(room, event_ms, len)| Located {
                    number: 0,
                    room: RoomId::from_random(room),
                    event_ms,
                    json: 0..len,
                })
                .collect()
        })
    }

    /// Each record exactly once.
    fn covers<'a>(picks: impl Iterator<Item = &'a Picks>, count: usize) -> bool {
        let mut all: Vec<usize> = picks.flatten().copied().collect();
        all.sort_unstable();
        all == (0..count).collect::<Vec<_>>()
    }

    /// Goal: the limits on counts hold, and calls are filled.
    #[test]
    fn calls_are_filled_to_the_count() {
        let room = RoomId::from_random(1);
        let small = vec![
            Located {
                number: 0,
                room,
                event_ms: 5,
                json: 0..10
            };
            25_001
        ];
        let sizes = |calls: &[Picks]| calls.iter().map(Vec::len).collect::<Vec<_>>();
        let events: Vec<Picks> = log_events(&small)
            .into_iter()
            .map(|(_, picks)| picks)
            .collect();
        assert_eq!(sizes(&events), [10_000, 10_000, 5_001]);
        assert_eq!(sizes(&firehose_records(&small[..1_001])), [500, 500, 1]);
        assert!(log_events(&[]).is_empty() && firehose_records(&[]).is_empty());
    }

    proptest! {
        /// Goal: whatever the records, each travels once, every call is within the service's limits,
        /// and no two neighbours could have been one call.
        #[test]
        fn calls_are_within_limits(records in records()) {
            let calls = log_events(&records);
            prop_assert!(covers(calls.iter().map(|(_, picks)| picks), records.len()));
            let bytes = |picks: &Picks| picks.iter()
                .map(|index| records[*index].json.len() + PUT_LOG_EVENT_OVERHEAD_BYTES).sum::<usize>();
            for (room, picks) in &calls {
                prop_assert!(picks.iter().all(|index| records[*index].room == *room));
                prop_assert!(picks.is_sorted_by_key(|index| records[*index].event_ms));
                prop_assert!(bytes(picks) <= PUT_LOG_EVENTS_BYTES_MAX);
                let span = records[*picks.last().expect("not empty")].event_ms - records[picks[0]].event_ms;
                prop_assert!(span < 86_400_000);
            }
            for pair in calls.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
                let next = pair[1].1[0];
                let too_long = bytes(&pair[0].1) + bytes(&vec![next]) > PUT_LOG_EVENTS_BYTES_MAX;
                let too_late = records[next].event_ms - records[pair[0].1[0]].event_ms >= 86_400_000;
                prop_assert!(too_long || too_late);
            }

            let calls = firehose_records(&records);
            prop_assert!(covers(calls.iter(), records.len()));
            prop_assert!(calls.iter().flatten().is_sorted(), "order is kept");
            for call in &calls {
                let bytes: usize = call.iter().map(|index| records[*index].json.len() + 1).sum();
                prop_assert!(bytes <= PUT_RECORDS_BYTES_MAX && call.len() <= PUT_RECORDS_MAX);
            }
        }

        /// Goal: an object holds one room's records of one window, in order.
        #[test]
        fn objects_are_of_one_room_and_window(records in records(), window_ms in 1..200_000_000_u64) {
            let objects = objects(&records, window_ms);
            prop_assert!(covers(objects.iter().map(|(.., picks)| picks), records.len()));
            for (room, start_ms, picks) in objects {
                prop_assert!(picks.is_sorted());
                for index in picks {
                    let record = &records[index];
                    prop_assert_eq!(record.room, room);
                    prop_assert!((start_ms..start_ms + window_ms).contains(&record.event_ms));
                }
            }
        }
    }
}
