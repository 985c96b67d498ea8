//! Divides a batch of records into upload requests, one for each request or file, within the limits
//! of the destinations. Pure: the same batch always gives the same requests, so that a delivery can
//! resume after an interruption.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::spool::entry::SpooledRecord;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{
    PUT_LOG_EVENT_OVERHEAD_BYTES, PUT_LOG_EVENTS_BYTES_MAX, PUT_LOG_EVENTS_MAX,
    PUT_LOG_EVENTS_SPAN_MAX, PUT_RECORDS_BYTES_MAX, PUT_RECORDS_MAX,
};

/// Records of one request: indexes into the batch, in the order of their delivery.
pub type Indexes = Vec<usize>;

/// Records of each room and window of `window_ms`, with the window's start.
pub fn objects(records: &[SpooledRecord], window_ms: u64) -> Vec<(RoomId, u64, Indexes)> {
    let mut objects: BTreeMap<(u64, RoomId), Indexes> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        let start_ms = window_start(record.event_ms, window_ms);
        objects
            .entry((start_ms, record.room))
            .or_default()
            .push(index);
    }
    objects
        .into_iter()
        .map(|((start_ms, room), indexes)| (room, start_ms, indexes))
        .collect()
}

/// The start of an event's window.
pub fn window_start(event_ms: u64, window_ms: u64) -> u64 {
    event_ms - event_ms % window_ms
}

/// `PutLogEvents` calls: each for one room, sorted by time, within count, bytes and span.
pub fn log_events(records: &[SpooledRecord]) -> Vec<(RoomId, Indexes)> {
    let span_max = u64::try_from(PUT_LOG_EVENTS_SPAN_MAX.as_millis()).expect("a day");
    let mut rooms: BTreeMap<RoomId, Indexes> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        rooms.entry(record.room).or_default().push(index);
    }
    let mut calls = Vec::new();
    for (room, mut indexes) in rooms {
        // A wall clock may have stepped back; the service requires order.
        indexes.sort_by_key(|index| records[*index].event_ms);
        let (mut bytes, mut oldest_ms) = (0, 0);
        let split = divide(indexes, |call, index| {
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
        calls.extend(split.into_iter().map(|indexes| (room, indexes)));
    }
    calls
}

/// `PutRecordBatch` calls, in order, within count and bytes.
pub fn firehose_records(records: &[SpooledRecord]) -> Vec<Indexes> {
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
pub fn files(
    records: &[SpooledRecord],
    path: impl Fn(&SpooledRecord) -> PathBuf,
) -> Vec<(PathBuf, Indexes)> {
    let mut files: BTreeMap<PathBuf, Indexes> = BTreeMap::new();
    for (index, record) in records.iter().enumerate() {
        files.entry(path(record)).or_default().push(index);
    }
    files.into_iter().collect()
}

/// Starts a new call where `fits` says that the next index does not fit the current one. The first
/// index of a call always fits.
fn divide(indexes: Indexes, mut fits: impl FnMut(&[usize], usize) -> bool) -> Vec<Indexes> {
    let mut calls: Vec<Indexes> = Vec::new();
    let mut call = Indexes::new();
    for index in indexes {
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

    fn records() -> impl Strategy<Value = Vec<SpooledRecord>> {
        let day_ms = 86_400_000_u64;
        let record = (
            0..3_u128,
            0..3 * day_ms,
            prop_oneof![1..2_000_usize, 400_000..600_000_usize],
        );
        proptest::collection::vec(record, 0..60).prop_map(|list| {
            list.into_iter()
                .map(|(room, event_ms, len)| SpooledRecord {
                    number: 0,
                    room: RoomId::from_random(room),
                    event_ms,
                    json: 0..len,
                })
                .collect()
        })
    }

    /// Whether each record occurs exactly once.
    fn covers<'a>(indexes: impl Iterator<Item = &'a Indexes>, count: usize) -> bool {
        let mut all: Vec<usize> = indexes.flatten().copied().collect();
        all.sort_unstable();
        all == (0..count).collect::<Vec<_>>()
    }

    /// Goal: the limits on counts hold, and calls are filled.
    #[test]
    fn calls_are_filled_to_the_count() {
        let room = RoomId::from_random(1);
        let small = vec![
            SpooledRecord {
                number: 0,
                room,
                event_ms: 5,
                json: 0..10
            };
            25_001
        ];
        let sizes = |calls: &[Indexes]| calls.iter().map(Vec::len).collect::<Vec<_>>();
        let events: Vec<Indexes> = log_events(&small)
            .into_iter()
            .map(|(_, indexes)| indexes)
            .collect();
        assert_eq!(sizes(&events), [10_000, 10_000, 5_001]);
        assert_eq!(sizes(&firehose_records(&small[..1_001])), [500, 500, 1]);
        assert!(log_events(&[]).is_empty() && firehose_records(&[]).is_empty());
    }

    proptest! {
        /// Goal: for any records, each is in one call, every call is within the service's limits,
        /// and no two neighbours could have been one call.
        #[test]
        fn calls_are_within_limits(records in records()) {
            let calls = log_events(&records);
            prop_assert!(covers(calls.iter().map(|(_, indexes)| indexes), records.len()));
            let bytes = |indexes: &Indexes| indexes.iter()
                .map(|index| records[*index].json.len() + PUT_LOG_EVENT_OVERHEAD_BYTES).sum::<usize>();
            for (room, indexes) in &calls {
                prop_assert!(indexes.iter().all(|index| records[*index].room == *room));
                prop_assert!(indexes.is_sorted_by_key(|index| records[*index].event_ms));
                prop_assert!(bytes(indexes) <= PUT_LOG_EVENTS_BYTES_MAX);
                let span = records[*indexes.last().expect("not empty")].event_ms - records[indexes[0]].event_ms;
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
            prop_assert!(covers(objects.iter().map(|(.., indexes)| indexes), records.len()));
            for (room, start_ms, indexes) in objects {
                prop_assert!(indexes.is_sorted());
                for index in indexes {
                    let record = &records[index];
                    prop_assert_eq!(record.room, room);
                    prop_assert!((start_ms..start_ms + window_ms).contains(&record.event_ms));
                }
            }
        }
    }
}
