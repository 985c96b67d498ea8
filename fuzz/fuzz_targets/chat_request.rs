//! Publish requests: what is accepted means what serde_json says it means, and the frame made of it is
//! JSON that says the same.
//!
//! Input: the text of one request. One parser reads all inputs, as on a shard, so that what one leaves
//! behind would show in the next.

#![no_main]

use std::cell::RefCell;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::limits::PARSE_PADDING_BYTES;
use uproar_proto::chat::encode::{self, Message};
use uproar_proto::chat::{Parser, Request};

const CONTENT_CHARS_MAX: usize = 100;
const SENDER: &str = r#"{"UserId":"u","Attributes":{}}"#;

thread_local!(static PARSER: RefCell<Parser> = RefCell::default());

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    PARSER.with_borrow_mut(|parser| {
        let mut buffer = data.to_vec();
        // Padding that would complete a request that was cut off.
        buffer.resize(text.len() + PARSE_PADDING_BYTES, b'}');
        let parsed = parser.parse(&mut buffer, text.len(), CONTENT_CHARS_MAX);
        let again = &mut Parser::default();
        let mut buffer = data.to_vec();
        buffer.resize(text.len() + PARSE_PADDING_BYTES, 0);
        assert_eq!(
            parsed,
            again.parse(&mut buffer, text.len(), CONTENT_CHARS_MAX)
        );
        if let Ok(request) = parsed {
            agree(text, request);
        }
    });
});

fn agree(text: &str, request: Request<'_>) {
    let oracle: Value = serde_json::from_str(&paired(text)).expect("what we accept is JSON");
    let member = |key: &str| {
        let members = oracle.as_object().expect("an object");
        let found = members
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key));
        found.map_or(&Value::Null, |(_, value)| value)
    };
    let is = |key: &str, ours: &str| {
        assert_eq!(member(key).as_str().unwrap_or_default(), ours, "{key}");
    };
    match request {
        Request::SendMessage {
            content,
            attributes_json,
            request_id,
        } => {
            is("Action", "SEND_MESSAGE");
            is("Content", content);
            is("RequestId", request_id);
            assert!((1..=CONTENT_CHARS_MAX).contains(&content.chars().count()));
            let attributes: Value = serde_json::from_str(attributes_json).expect("JSON");
            assert_eq!(member("Attributes"), &attributes);
            delivered(content, attributes_json, request_id);
        }
        Request::DeleteMessage {
            id,
            reason,
            request_id,
        } => {
            is("Action", "DELETE_MESSAGE");
            is("Id", id);
            is("Reason", reason);
            is("RequestId", request_id);
        }
        Request::DisconnectUser {
            user_id,
            reason,
            request_id,
        } => {
            is("Action", "DISCONNECT_USER");
            is("UserId", user_id);
            is("Reason", reason);
            is("RequestId", request_id);
        }
    }
}

/// The text with U+FFFD for each escaped surrogate that has no partner: half of an emoji, which JavaScript's `slice`
/// leaves. We read it so; serde_json refuses it.
fn paired(text: &str) -> String {
    let escaped = |at: usize| {
        let digits = text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        u32::from_str_radix(digits, 16).ok()
    };
    let (mut out, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(next) = text[at..].chars().next() {
        let length = match escaped(at) {
            Some(0xD800..=0xDBFF) if matches!(escaped(at + 6), Some(0xDC00..=0xDFFF)) => 12,
            Some(0xD800..=0xDFFF) => {
                out.push_str("\\ufffd");
                at += 6;
                continue;
            }
            Some(_) => 6,
            None if next == '\\' => 1 + text[at + 1..].chars().next().map_or(0, char::len_utf8),
            None => next.len_utf8(),
        };
        out.push_str(&text[at..at + length]);
        at += length;
    }
    out
}

/// The frame every member would get.
fn delivered(content: &str, attributes_json: &str, request_id: &str) {
    let message = Message {
        id: FrameId::parse("AAAAAAAAAAAA").expect("twelve letters"),
        request_id,
        attributes_json,
        content,
        sent: UnixTime::from_secs(1_800_000_000),
        sender_json: SENDER,
    };
    let mut frame = BytesMut::new();
    encode::message(&mut frame, &message);
    assert!(frame.len() <= message.bytes_max());
    // RFC 6455 §5.2: 126 says that two bytes of length follow; nothing here is above 64 KiB.
    let start = if frame[1] == 126 { 4 } else { 2 };
    let json: Value = serde_json::from_slice(&frame[start..]).expect("receivers get JSON");
    assert_eq!(json["Content"], content);
    assert_eq!(json["RequestId"], request_id);
    let attributes: Value = serde_json::from_str(attributes_json).expect("JSON");
    assert_eq!(json["Attributes"], attributes);
}
