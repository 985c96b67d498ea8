//! Where records are stored at their destinations, named as Amazon IVS Chat names them: object
//! keys, log streams, files. Pure.

use std::fmt::Write;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::control::arn::Account;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::hash::fnv1a_32;
use uproar_proto::base::id::{LoggingId, RoomId};

/// Key of the object with a room's records of the window that begins at `start_ms`. `hash`
/// distinguishes objects of one room and minute.
pub fn object_key(account: &Account, room: RoomId, start_ms: u64, hash: u32) -> String {
    let Account {
        region,
        id: account,
    } = account;
    let start = timestamp(start_ms);
    let folder = start.strftime("%Y/%m/%d/%H");
    let minute = start.strftime("%Y%m%dT%H%MZ");
    format!(
        "AWSLogs/{account}/IVSChatLogs/1.0/{region}/room_{room}/{folder}/\
         {account}_IVSChatLogs_1.0_{region}_room_{room}_{minute}_{hash:08x}.log.gz"
    )
}

/// Hash of an object's first record in its spool, by epoch and number. It differs for any two
/// numbers of an epoch less than 2^32 apart, and is the same whenever the object is made again.
pub fn object_hash(configuration: LoggingId, (epoch, number): (u32, u64)) -> u32 {
    let base = fnv1a_32(configuration.as_bytes());
    // An odd factor is a bijection of 32 bits.
    let low = u32::try_from(number & u64::from(u32::MAX)).expect("masked");
    base ^ low.wrapping_mul(0x9E37_79B1) ^ epoch.wrapping_mul(0x85EB_CA6B)
}

/// A room's log stream.
pub fn log_stream(room: RoomId) -> String {
    format!("aws/IVSChatLogs/1.0/room_{room}")
}

/// File for an object, in the directory that replaces object storage.
pub fn object_file(bucket: &str, key: &str) -> PathBuf {
    ["s3", &component(bucket), key].iter().collect()
}

/// File for a log stream's events of a day.
pub fn log_file(group: &str, stream: &str, event_ms: u64) -> PathBuf {
    let day = timestamp(event_ms).strftime("%Y-%m-%d.jsonl").to_string();
    ["cloudwatch", &component(group), stream, &day]
        .iter()
        .collect()
}

/// File for a Firehose stream's records of a day.
pub fn firehose_file(stream: &str, event_ms: u64) -> PathBuf {
    let day = timestamp(event_ms).strftime("%Y-%m-%d.jsonl").to_string();
    ["firehose", &component(stream), &day].iter().collect()
}

/// A user-chosen name as one component of a path: no separators, no leading dot, no `..`.
fn component(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let dot_inside = byte == b'.' && index > 0;
        if byte.is_ascii_alphanumeric() || b"-_#".contains(&byte) || dot_inside {
            out.push(char::from(byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn timestamp(millis: u64) -> Timestamp {
    UnixTime::from_millis(millis).timestamp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    fn room() -> RoomId {
        RoomId::parse("TC6fLHr7ycLt").expect("an id")
    }

    /// Goal: IVS's key layout, character for character.
    #[test]
    fn keys_follow_the_services_layout() {
        let account = Account {
            region: "us-west-2".to_owned(),
            id: "123456789012".to_owned(),
        };
        // 2025-08-04T05:45:00Z.
        assert_eq!(
            object_key(&account, room(), 1_754_286_300_000, 0xbeef),
            "AWSLogs/123456789012/IVSChatLogs/1.0/us-west-2/room_TC6fLHr7ycLt/2025/08/04/05/\
             123456789012_IVSChatLogs_1.0_us-west-2_room_TC6fLHr7ycLt_20250804T0545Z_0000beef.log.gz"
        );
        assert_eq!(log_stream(room()), "aws/IVSChatLogs/1.0/room_TC6fLHr7ycLt");
        assert_eq!(
            log_file("/aws/ivs", &log_stream(room()), 1_754_286_300_000),
            PathBuf::from(
                "cloudwatch/%2Faws%2Fivs/aws/IVSChatLogs/1.0/room_TC6fLHr7ycLt/2025-08-04.jsonl"
            )
        );
    }

    proptest! {
        /// Goal: no name the API admits leaves the directory; different names stay different.
        #[test]
        fn names_stay_in_their_directory(a in "[./_#A-Za-z0-9-]{1,12}", b in "[./_#A-Za-z0-9-]{1,12}") {
            let path = log_file(&a, "s", 0);
            let normal = path.components().all(|part| matches!(part, Component::Normal(_)));
            prop_assert!(normal && path.components().count() == 4, "{path:?}");
            prop_assert_eq!(a == b, component(&a) == component(&b));
        }

        /// Goal: objects of one spool do not overwrite each other.
        #[test]
        fn hashes_differ(epoch: u32, number: u64, distance in 1_u64..u64::from(u32::MAX)) {
            let id = LoggingId::parse("TC6fLHr7ycLt").expect("an id");
            let hash = |epoch, number| object_hash(id, (epoch, number));
            prop_assert_ne!(hash(epoch, number), hash(epoch, number.wrapping_add(distance)));
            prop_assert_ne!(hash(epoch, number), hash(epoch.wrapping_add(1), number));
        }
    }
}
