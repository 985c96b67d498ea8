//! Subscribe frames: whole WebSocket text frames with IVS Chat's keys in IVS Chat's order.

use bytes::{BufMut, BytesMut};

use super::ErrorCode;
use super::json::{string, string_bytes_max};
use super::time::{TIME_BYTES_MAX, rfc3339};
use crate::base::clock::UnixTime;
use crate::base::id::FrameId;
use crate::ws::text_frame;

/// `EventName` of a deletion.
pub const DELETED: &str = "aws:DELETE_MESSAGE";
/// `EventName` of a disconnect.
pub const DISCONNECTED: &str = "aws:DISCONNECT_USER";
/// `EventName` of the removal of all of a user's messages, unless the configuration has another: the one of AWS's samples.
pub const PURGED: &str = "app:DELETE_BY_USER";
/// `EventName` of the removal of all messages of a room.
pub const CLEARED: &str = "uproar:clear";

/// How the payload of an EVENT begins, up to its `Id`.
pub const EVENT_START: &[u8] = br#"{"Type":"EVENT","Id":""#;

/// Bytes of keys, punctuation and header of the longest frame, without its values.
const SKELETON_BYTES_MAX: usize = 192;

/// A MESSAGE frame.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// `Id`.
    pub id: FrameId,
    /// `RequestId`; empty if the sender gave none.
    pub request_id: &'a str,
    /// `Attributes`: a JSON object, or `null`.
    pub attributes_json: &'a str,
    /// `Content`.
    pub content: &'a str,
    /// `SendTime`.
    pub sent: UnixTime,
    /// `Sender`: JSON as [`sender_json`] makes it.
    pub sender_json: &'a str,
}

impl Message<'_> {
    /// Returns the most bytes that the frame can have.
    pub fn bytes_max(&self) -> usize {
        SKELETON_BYTES_MAX
            + TIME_BYTES_MAX
            + string_bytes_max(self.request_id)
            + self.attributes_json.len()
            + string_bytes_max(self.content)
            + self.sender_json.len()
    }
}

/// An EVENT frame.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// `Id`.
    pub id: FrameId,
    /// `RequestId`; empty for events of the API.
    pub request_id: &'a str,
    /// `EventName`.
    pub name: &'a str,
    /// `Attributes`: a JSON object.
    pub attributes_json: &'a str,
    /// `SendTime`.
    pub sent: UnixTime,
}

impl Event<'_> {
    /// Returns the most bytes that the frame can have.
    pub fn bytes_max(&self) -> usize {
        SKELETON_BYTES_MAX
            + TIME_BYTES_MAX
            + string_bytes_max(self.request_id)
            + string_bytes_max(self.name)
            + self.attributes_json.len()
    }
}

/// An ERROR frame.
#[derive(Debug, Clone, Copy)]
pub struct Error<'a> {
    /// `Id`.
    pub id: FrameId,
    /// `RequestId`; empty if it answers none.
    pub request_id: &'a str,
    /// `ErrorCode`.
    pub code: ErrorCode,
    /// `ErrorMessage`.
    pub message: &'a str,
    /// When the request may be made again, in seconds from now. Clients of IVS Chat ignore it.
    pub retry_after: Option<u64>,
}

/// Appends a MESSAGE frame; no allocation if `out` has [`Message::bytes_max`] bytes to spare.
pub fn message(out: &mut BytesMut, message: &Message<'_>) {
    text_frame(out, |out| {
        head(out, "MESSAGE", message.id, message.request_id);
        out.put_slice(b",\"Attributes\":");
        out.put_slice(message.attributes_json.as_bytes());
        out.put_slice(b",\"Content\":");
        string(out, message.content);
        out.put_slice(b",\"SendTime\":\"");
        rfc3339(out, message.sent);
        out.put_slice(b"\",\"Sender\":");
        out.put_slice(message.sender_json.as_bytes());
        out.put_u8(b'}');
    });
}

/// Appends an EVENT frame; no allocation if `out` has [`Event::bytes_max`] bytes to spare.
pub fn event(out: &mut BytesMut, event: &Event<'_>) {
    text_frame(out, |out| {
        head(out, "EVENT", event.id, event.request_id);
        out.put_slice(b",\"EventName\":");
        string(out, event.name);
        out.put_slice(b",\"Attributes\":");
        out.put_slice(event.attributes_json.as_bytes());
        out.put_slice(b",\"SendTime\":\"");
        rfc3339(out, event.sent);
        out.put_slice(b"\"}");
    });
}

/// Appends an ERROR frame.
pub fn error(out: &mut BytesMut, error: &Error<'_>) {
    text_frame(out, |out| {
        head(out, "ERROR", error.id, error.request_id);
        out.put_slice(b",\"ErrorCode\":");
        out.put_slice(error.code.number().to_string().as_bytes());
        out.put_slice(b",\"ErrorMessage\":");
        string(out, error.message);
        if let Some(seconds) = error.retry_after {
            out.put_slice(b",\"RetryAfter\":");
            out.put_slice(seconds.to_string().as_bytes());
        }
        out.put_u8(b'}');
    });
}

/// `Attributes` of [`DELETED`]: the JavaScript SDK reads only the old spelling `MessageID`, newer
/// clients `MessageId`.
pub fn deleted_attributes(message_id: &str, reason: &str) -> String {
    attributes_json([
        ("MessageID", message_id),
        ("MessageId", message_id),
        ("Reason", reason),
    ])
}

/// `Attributes` of [`PURGED`]: samples read one spelling or the other.
pub fn purged_attributes(user_id: &str, reason: &str) -> String {
    attributes_json([("userId", user_id), ("UserId", user_id), ("Reason", reason)])
}

/// `Attributes` of [`DISCONNECTED`].
pub fn disconnected_attributes(user_id: &str, reason: &str) -> String {
    attributes_json([("Reason", reason), ("UserId", user_id)])
}

/// `SendTime` of a frame, as a text.
pub fn send_time(sent: UnixTime) -> String {
    let mut out = BytesMut::new();
    rfc3339(&mut out, sent);
    String::from_utf8_lossy(&out).into_owned()
}

/// Encodes strings as a JSON object.
pub fn attributes_json<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = Vec::new();
    object(&mut out, attributes);
    into_text(out)
}

/// Encodes `Sender` of a message, once for each connection.
pub fn sender_json<'a>(
    user_id: &str,
    attributes: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut out = Vec::new();
    out.put_slice(SENDER_START);
    string(&mut out, user_id);
    out.put_slice(SENDER_MIDDLE);
    object(&mut out, attributes);
    out.put_u8(b'}');
    into_text(out)
}

/// Whether `sender_json` is that of `user_id`; a name has one encoding only.
pub fn is_sender(sender_json: &str, user_id: &str) -> bool {
    let mut name = Vec::with_capacity(string_bytes_max(user_id));
    string(&mut name, user_id);
    sender_json
        .as_bytes()
        .strip_prefix(SENDER_START)
        .and_then(|rest| rest.strip_prefix(&name[..]))
        .is_some_and(|rest| rest.starts_with(SENDER_MIDDLE))
}

/// Returns the user id in a [`sender_json`]; empty if it has none. For log lines: it allocates.
pub fn sender_name(sender_json: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Sender {
        #[serde(rename = "UserId")]
        user_id: String,
    }
    let sender = serde_json::from_str::<Sender>(sender_json);
    sender.map(|sender| sender.user_id).unwrap_or_default()
}

/// Returns `Attributes` in a [`sender_json`] of this user, as JSON.
pub fn sender_attributes<'a>(sender_json: &'a str, user_id: &str) -> &'a str {
    let mut name = Vec::with_capacity(string_bytes_max(user_id));
    string(&mut name, user_id);
    let start = SENDER_START.len() + name.len() + SENDER_MIDDLE.len();
    let attributes = sender_json.get(start..);
    attributes
        .and_then(|rest| rest.strip_suffix('}'))
        .unwrap_or("{}")
}

const SENDER_START: &[u8] = b"{\"UserId\":";
const SENDER_MIDDLE: &[u8] = b",\"Attributes\":";

fn head(out: &mut BytesMut, kind: &str, id: FrameId, request_id: &str) {
    out.put_slice(b"{\"Type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"Id\":\"");
    out.put_slice(id.as_bytes());
    out.put_slice(b"\",\"RequestId\":");
    string(out, request_id);
}

pub(super) fn object<'a>(
    out: &mut impl BufMut,
    members: impl IntoIterator<Item = (&'a str, &'a str)>,
) {
    out.put_u8(b'{');
    for (index, (key, value)) in members.into_iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        string(out, key);
        out.put_u8(b':');
        string(out, value);
    }
    out.put_u8(b'}');
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("made of strings and ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(frame: &BytesMut) -> &str {
        let start = if frame[1] < 126 { 2 } else { 4 };
        std::str::from_utf8(&frame[start..]).expect("UTF-8")
    }

    fn id() -> FrameId {
        FrameId::parse("M2YcHkgffEvU").expect("an id")
    }

    /// Goal: every frame equals the service's, byte for byte.
    #[test]
    fn frames_have_the_services_shape() {
        let sent = UnixTime::from_nanos(1_669_969_280_754_555_595);
        let sender_json = sender_json("bob.55b2", [("avatar", "https://a"), ("username", "bob")]);
        let (request_id, content) = ("8fe65e61", "Hi");
        let attributes_json = "null";
        let posted = Message {
            id: id(),
            request_id,
            attributes_json,
            content,
            sent,
            sender_json: &sender_json,
        };
        let mut out = BytesMut::new();
        message(&mut out, &posted);
        assert_eq!(
            payload(&out),
            r#"{"Type":"MESSAGE","Id":"M2YcHkgffEvU","RequestId":"8fe65e61","Attributes":null,"Content":"Hi","SendTime":"2022-12-02T08:21:20.754555595Z","Sender":{"UserId":"bob.55b2","Attributes":{"avatar":"https://a","username":"bob"}}}"#
        );
        assert!(out.len() <= posted.bytes_max());

        let attributes_json = &deleted_attributes("M2YcHkgffEvU", "Deleted by moderator");
        let deleted = Event {
            id: id(),
            request_id: "",
            name: DELETED,
            attributes_json,
            sent,
        };
        let mut out = BytesMut::new();
        event(&mut out, &deleted);
        assert_eq!(
            payload(&out),
            r#"{"Type":"EVENT","Id":"M2YcHkgffEvU","RequestId":"","EventName":"aws:DELETE_MESSAGE","Attributes":{"MessageID":"M2YcHkgffEvU","MessageId":"M2YcHkgffEvU","Reason":"Deleted by moderator"},"SendTime":"2022-12-02T08:21:20.754555595Z"}"#
        );
        assert!(out.len() <= deleted.bytes_max());
        assert_eq!(
            disconnected_attributes("aaa.7235", "Kicked"),
            r#"{"Reason":"Kicked","UserId":"aaa.7235"}"#
        );

        for (retry_after, end) in [(None, "}"), (Some(7), r#","RetryAfter":7}"#)] {
            let mut out = BytesMut::new();
            let refused = Error {
                id: id(),
                request_id: "r",
                code: ErrorCode::TooManyRequests,
                message: super::super::texts::RATE,
                retry_after,
            };
            error(&mut out, &refused);
            let start = r#"{"Type":"ERROR","Id":"M2YcHkgffEvU","RequestId":"r","ErrorCode":429,"ErrorMessage":"rate limit exceeded""#;
            assert_eq!(payload(&out), format!("{start}{end}"));
        }
    }

    /// Goal: a user is distinguished from others whose name has the same start or quotes.
    #[test]
    fn senders_are_compared_by_their_whole_name() {
        let json = sender_json("a\"b", std::iter::empty());
        assert_eq!(json, r#"{"UserId":"a\"b","Attributes":{}}"#);
        assert!(is_sender(&json, "a\"b"));
        for other in ["a", "a\"", "a\"bc", "a\\\"b", ""] {
            assert!(!is_sender(&json, other), "{other}");
        }
    }

    proptest! {
        /// Goal: for any values the frame is JSON with the same values, within its bound.
        #[test]
        fn messages_read_back(
            content in "[\\x00-\\x7fé🔥]{1,200}",
            request_id in ".{0,36}",
            user in ".{1,30}",
            key in ".{0,10}",
        ) {
            let sender_json = sender_json(&user, [(&*key, &*content)]);
            let attributes_json = &attributes_json([(&*key, &*user)]);
            let sent = UnixTime::from_secs(1);
            let posted = Message {
                id: id(), request_id: &request_id, attributes_json, content: &content, sent,
                sender_json: &sender_json,
            };
            let mut out = BytesMut::new();
            message(&mut out, &posted);
            prop_assert!(out.len() <= posted.bytes_max());
            let back: serde_json::Value = serde_json::from_str(payload(&out)).expect("JSON");
            prop_assert_eq!(&back["Content"], &content);
            prop_assert_eq!(&back["RequestId"], &request_id);
            prop_assert_eq!(&back["Attributes"][&key], &user);
            prop_assert_eq!(&back["Sender"]["UserId"], &user);
            prop_assert_eq!(&back["Sender"]["Attributes"][&key], &content);
            prop_assert!(is_sender(&sender_json, &user));
        }
    }
}
