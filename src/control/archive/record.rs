//! One log record in Amazon IVS Chat's format: the frame that clients got, in an envelope. Pure.

use std::borrow::Cow;

use serde::Deserialize;
use uproar_proto::extension::reactions::REACTIONS;
use uproar_proto::extension::tally::TALLY;

use uproar_proto::extension::viewers::VIEWERS;

/// The members of the frame that the envelope repeats. They are parsed from the frame, which a
/// shard encoded, rather than handed on beside it: a batch is one piece of memory without an index
/// of its frames, and an index would move this work to the shard.
#[derive(Deserialize)]
struct FrameHead<'a> {
    #[serde(rename = "Type", borrow)]
    kind: Cow<'a, str>,
    #[serde(rename = "SendTime", borrow)]
    sent: Cow<'a, str>,
    #[serde(rename = "EventName", borrow, default)]
    event: Cow<'a, str>,
}

/// Whether an event is one for the log. What a tally or reactions have counted so far is not: the last one of a tally is.
fn is_logged(event: &str, payload: &[u8]) -> bool {
    match event {
        REACTIONS | VIEWERS => false,
        // Nobody writes this: within a text a quote has a backslash before it.
        TALLY => !payload.windows(OPEN.len()).any(|part| part == OPEN),
        _ => true,
    }
}

/// An attribute of a tally that goes on.
const OPEN: &[u8] = b"\"State\":\"open\"";

/// Digits of `SendTime` up to whole seconds: `2025-08-14T05:48:40`.
const SECONDS_CHARS: usize = 19;

/// Appends the record of a frame's payload, one line of JSON without a line break, and returns its
/// `event_timestamp` in milliseconds since the epoch. `None`, and nothing appended, for anything
/// but a MESSAGE or EVENT, and for events that pass.
pub fn encode(out: &mut Vec<u8>, payload: &[u8]) -> Option<u64> {
    let head: FrameHead<'_> = serde_json::from_slice(payload).ok()?;
    if !matches!(&*head.kind, "MESSAGE" | "EVENT") {
        return None;
    }
    if !is_logged(&head.event, payload) {
        return None;
    }
    let sent: jiff::Timestamp = head.sent.parse().ok()?;
    let millis = u64::try_from(sent.as_millisecond()).ok()?;
    let (seconds, rest) = head.sent.split_at_checked(SECONDS_CHARS)?;
    let fraction = rest.strip_prefix('.').unwrap_or_default();
    let digits = fraction.trim_end_matches('Z');
    let digits = digits.get(..3).unwrap_or(digits);
    out.extend_from_slice(b"{\"event_timestamp\":\"");
    out.extend_from_slice(seconds.as_bytes());
    // Cut to milliseconds; the frame has trimmed trailing zeros.
    out.extend_from_slice(format!(".{digits:0<3}Z").as_bytes());
    out.extend_from_slice(b"\",\"type\":\"");
    out.extend_from_slice(head.kind.as_bytes());
    out.extend_from_slice(b"\",\"payload\":");
    out.extend_from_slice(payload);
    out.extend_from_slice(b",\"version\":\"1.0\"}");
    Some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uproar_proto::base::clock::UnixTime;
    use uproar_proto::base::id::FrameId;
    use uproar_proto::chat::encode::{
        Event, Message, attributes_json, event, message, sender_json,
    };
    use uproar_proto::ws::payloads;

    /// Goal: the record as consumers of the managed service know it, byte for byte.
    #[test]
    fn the_record_has_the_services_shape() {
        let payload = br#"{"Type":"MESSAGE","Id":"9ojK4zRlO8QQ","RequestId":"d9","Attributes":null,"Content":"x","SendTime":"2025-08-14T05:48:40.41551437Z","Sender":{"UserId":"u","Attributes":{}}}"#;
        let mut out = Vec::new();
        assert_eq!(encode(&mut out, payload), Some(1_755_150_520_415));
        assert_eq!(
            String::from_utf8(out).expect("text"),
            r#"{"event_timestamp":"2025-08-14T05:48:40.415Z","type":"MESSAGE","payload":{"Type":"MESSAGE","Id":"9ojK4zRlO8QQ","RequestId":"d9","Attributes":null,"Content":"x","SendTime":"2025-08-14T05:48:40.41551437Z","Sender":{"UserId":"u","Attributes":{}}},"version":"1.0"}"#
        );
    }

    /// Goal: of a tally its last event is logged, whatever its texts; of reactions nothing.
    #[test]
    fn what_passes_is_not_logged() {
        let frame = |name: &str, state: &str| {
            let attributes =
                attributes_json([("State", state), ("Question", "\"State\":\"open\"")]);
            let mut frame = bytes::BytesMut::new();
            event(
                &mut frame,
                &Event {
                    id: FrameId::parse("9ojK4zRlO8QQ").expect("an id"),
                    request_id: "",
                    name,
                    attributes_json: &attributes,
                    sent: UnixTime::from_secs(1),
                },
            );
            let payload = payloads(&frame).next().expect("one frame").to_vec();
            encode(&mut Vec::new(), &payload).is_some()
        };
        assert!(!frame("uproar:tally", "open") && !frame("uproar:reactions", "open"));
        assert!(frame("uproar:tally", "closed") && frame("uproar:room", "open"));
    }

    /// Goal: errors and noise are not logged.
    #[test]
    fn only_messages_and_events_are_records() {
        let mut out = Vec::new();
        for other in [
            &br#"{"Type":"ERROR","Id":"9ojK4zRlO8QQ","RequestId":"","ErrorCode":400}"#[..],
            br#"{"Type":"MESSAGE","SendTime":"soon"}"#,
            br#"{"Type":"EVENT","EventName":"uproar:viewers","SendTime":"2025-08-14T05:48:40Z"}"#,
            b"",
            b"hello",
        ] {
            assert_eq!(encode(&mut out, other), None);
        }
        assert!(out.is_empty());
    }

    proptest! {
        /// Goal: for any message the record is one line whose members agree with the frame; names
        /// that users choose do not confuse it. Oracle: serde_json, jiff.
        #[test]
        fn any_frame_is_recorded(
            content in "[\\x00-\\x7fé🔥]{1,60}",
            key in "(SendTime|Type|[a-z\"]{0,6})",
            nanos in 0_u64..4_000_000_000_000_000_000,
            is_event: bool,
        ) {
            let attributes = attributes_json([(&*key, &*content)]);
            let sender = sender_json("u", [(&*key, "2020-01-01T00:00:00Z")]);
            let (id, sent) = (FrameId::parse("9ojK4zRlO8QQ").expect("an id"), UnixTime::from_nanos(nanos));
            let mut frame = bytes::BytesMut::new();
            if is_event {
                event(&mut frame, &Event {
                    id, request_id: "", name: &content, attributes_json: &attributes, sent,
                });
            } else {
                message(&mut frame, &Message {
                    id, request_id: "r", attributes_json: &attributes, content: &content, sent,
                    sender_json: &sender,
                });
            }
            let payload = payloads(&frame).next().expect("one frame");
            let mut out = Vec::new();
            prop_assert_eq!(encode(&mut out, payload), Some(nanos / 1_000_000));
            prop_assert!(!out.contains(&b'\n'));
            let record: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
            let frame: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
            prop_assert_eq!(&record["payload"], &frame);
            prop_assert_eq!(&record["type"], if is_event { "EVENT" } else { "MESSAGE" });
            prop_assert_eq!(&record["version"], "1.0");
            let stamp = record["event_timestamp"].as_str().expect("text");
            prop_assert_eq!(stamp.len(), "2025-08-14T05:48:40.415Z".len());
            let stamp: jiff::Timestamp = stamp.parse().expect("RFC 3339");
            prop_assert_eq!(u64::try_from(stamp.as_millisecond()), Ok(nanos / 1_000_000));
        }
    }
}
