//! Publish requests: parsed in place on a reused tape, no allocation in steady state.

#![expect(
    clippy::indexing_slicing,
    reason = "lengths are promised by the caller and asserted, indexes are of the tape itself"
)]

use simd_json::{Buffers, Node, StaticNode, Tape, fill_tape_padded};

use super::encode::object;
use super::json::is_shallow;
use super::{ErrorCode, request_id_scan, texts};
use crate::base::id::FrameId;
use crate::base::limits::{
    ATTRIBUTES_BYTES_MAX, JSON_DEPTH_MAX, JSON_MEMBERS_MAX, MESSAGE_BYTES_MAX, PARSE_PADDING_BYTES,
    REASON_CHARS_MAX, REQUEST_ID_BYTES_MAX, USER_ID_CHARS_MAX,
};
use crate::scan::mend_lone_surrogates;

/// A valid publish request. `request_id` and `reason` are empty if absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// `SEND_MESSAGE`.
    SendMessage {
        /// The text, 1 code point to the room's maximum.
        content: &'a str,
        /// The attributes as a JSON object of strings; `null` if absent.
        attributes_json: &'a str,
        /// The request's id, for the answer.
        request_id: &'a str,
    },
    /// `DELETE_MESSAGE`.
    DeleteMessage {
        /// The message's id: twelve letters and digits.
        id: &'a str,
        /// The reason, at most 256 code points.
        reason: &'a str,
        /// The request's id, for the answer.
        request_id: &'a str,
    },
    /// `DISCONNECT_USER`.
    DisconnectUser {
        /// The user's id, 1 to 128 code points.
        user_id: &'a str,
        /// The reason, at most 256 code points.
        reason: &'a str,
        /// The request's id, for the answer.
        request_id: &'a str,
    },
}

/// The kinds of request. Rates and counters are kept for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `SEND_MESSAGE`.
    SendMessage,
    /// `DELETE_MESSAGE`.
    DeleteMessage,
    /// `DISCONNECT_USER`.
    DisconnectUser,
}

impl<'a> Request<'a> {
    /// Returns which of the three it is.
    pub const fn action(&self) -> Action {
        match self {
            Self::SendMessage { .. } => Action::SendMessage,
            Self::DeleteMessage { .. } => Action::DeleteMessage,
            Self::DisconnectUser { .. } => Action::DisconnectUser,
        }
    }

    /// Returns the client's own id for the request; empty if it gave none.
    pub const fn request_id(&self) -> &'a str {
        match self {
            Self::SendMessage { request_id, .. }
            | Self::DeleteMessage { request_id, .. }
            | Self::DisconnectUser { request_id, .. } => request_id,
        }
    }

    /// Returns its texts: subject, detail, request id. [`Request::from_texts`] takes them back.
    pub const fn texts(&self) -> [&'a str; 3] {
        match *self {
            Self::SendMessage {
                content,
                attributes_json,
                request_id,
            } => [content, attributes_json, request_id],
            Self::DeleteMessage {
                id,
                reason,
                request_id,
            } => [id, reason, request_id],
            Self::DisconnectUser {
                user_id,
                reason,
                request_id,
            } => [user_id, reason, request_id],
        }
    }

    /// Makes a request of the texts that [`Request::texts`] returned.
    pub const fn from_texts(action: Action, [subject, detail, request_id]: [&'a str; 3]) -> Self {
        match action {
            Action::SendMessage => Self::SendMessage {
                content: subject,
                attributes_json: detail,
                request_id,
            },
            Action::DeleteMessage => Self::DeleteMessage {
                id: subject,
                reason: detail,
                request_id,
            },
            Action::DisconnectUser => Self::DisconnectUser {
                user_id: subject,
                reason: detail,
                request_id,
            },
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// The error code, 400 or 413.
    pub code: ErrorCode,
    /// The text, for people; applications compare some of the texts.
    pub message: &'static str,
    /// The request's own id if it can be read; else empty.
    pub request_id: &'a str,
}

type Fault = (ErrorCode, &'static str);

/// Parses requests, one parser per shard: its buffers are kept for the next request.
pub struct Parser {
    buffers: Buffers,
    tape: Tape<'static>,
    attributes: Vec<u8>,
    order: Vec<u32>,
    // A copy of the request, since parsing overwrites it; a refusal's id is read from it.
    original: Vec<u8>,
    // The id of the last request that was refused.
    refused_id: String,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            buffers: Buffers::with_max_depth(MESSAGE_BYTES_MAX, JSON_DEPTH_MAX),
            tape: Tape(Vec::with_capacity(256)),
            attributes: Vec::with_capacity(2 * ATTRIBUTES_BYTES_MAX),
            order: Vec::with_capacity(64),
            original: Vec::with_capacity(MESSAGE_BYTES_MAX + PARSE_PADDING_BYTES),
            refused_id: String::new(),
        }
    }
}

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parser").finish_non_exhaustive()
    }
}

impl Parser {
    /// Parses `padded[..len]`, valid UTF-8, with at least `PARSE_PADDING_BYTES` after it; strings
    /// are unescaped in place. A usual message takes 250-400 ns.
    ///
    /// Keys match in any letter case, unknown ones are ignored, a repeated key is refused, and
    /// `null` is the same as absent. Half a surrogate pair (`"\ud83d"`: JavaScript's `slice`
    /// through an emoji) is read as U+FFFD, as by the parsers of most languages.
    ///
    /// # Errors
    ///
    /// A refusal with the request's id if it can be read: without it the client's promise never
    /// settles.
    pub fn parse<'a>(
        &'a mut self,
        padded: &'a mut [u8],
        len: usize,
        content_chars_max: usize,
    ) -> Result<Request<'a>, Refusal<'a>> {
        let Self {
            buffers,
            tape,
            attributes,
            order,
            original,
            refused_id,
        } = self;
        original.clear();
        original.extend_from_slice(&padded[..len]);
        let mut kept = Kept {
            buffers,
            tape,
            attributes,
            order,
        };
        let mut fault = match attempt(padded, len, &mut kept, content_chars_max) {
            Ok(read) => return Ok(read.request(attributes)),
            Err(fault) => fault,
        };
        let mut scan = request_id_scan();
        scan.feed(original);
        refused_id.clear();
        refused_id.push_str(scan.value().unwrap_or_default());
        if fault.1 == texts::NOT_JSON && mend_lone_surrogates(original) {
            original.resize(len + PARSE_PADDING_BYTES, 0);
            fault = match attempt(original, len, &mut kept, content_chars_max) {
                Ok(read) => return Ok(read.request(attributes)),
                Err(fault) => fault,
            };
        }
        Err(Refusal {
            code: fault.0,
            message: fault.1,
            request_id: refused_id,
        })
    }
}

/// Buffers kept from one parse to the next.
struct Kept<'k> {
    buffers: &'k mut Buffers,
    tape: &'k mut Tape<'static>,
    attributes: &'k mut Vec<u8>,
    order: &'k mut Vec<u32>,
}

fn attempt<'a>(
    padded: &'a mut [u8],
    len: usize,
    kept: &mut Kept<'_>,
    content_chars_max: usize,
) -> Result<Read<'a>, Fault> {
    if !is_shallow(&padded[..len], JSON_DEPTH_MAX) {
        return Err(bad(texts::TOO_DEEP));
    }
    let mut tape = std::mem::replace(kept.tape, Tape(Vec::new())).reset();
    let filled = fill_tape_padded(padded, len, kept.buffers, &mut tape);
    let outcome = match filled {
        Ok(()) => read(&tape.0, kept.attributes, kept.order, content_chars_max),
        Err(_) => Err(bad(texts::NOT_JSON)),
    };
    *kept.tape = tape.reset();
    outcome
}

/// A request whose attributes, if any, are in the parser's buffer.
enum Read<'a> {
    Send {
        content: &'a str,
        has_attributes: bool,
        request_id: &'a str,
    },
    Other(Request<'a>),
}

impl<'a> Read<'a> {
    fn request(self, attributes: &'a [u8]) -> Request<'a> {
        match self {
            Self::Send {
                content,
                has_attributes,
                request_id,
            } => Request::SendMessage {
                content,
                attributes_json: if has_attributes {
                    std::str::from_utf8(attributes).expect("made of strings and ASCII")
                } else {
                    "null"
                },
                request_id,
            },
            Self::Other(request) => request,
        }
    }
}

/// The known members, by their index on the tape.
#[derive(Default)]
struct Members {
    action: Option<usize>,
    request_id: Option<usize>,
    content: Option<usize>,
    attributes: Option<usize>,
    id: Option<usize>,
    reason: Option<usize>,
    user_id: Option<usize>,
}

fn read<'a>(
    tape: &[Node<'a>],
    attributes: &mut Vec<u8>,
    order: &mut Vec<u32>,
    content_chars_max: usize,
) -> Result<Read<'a>, Fault> {
    let members = members(tape)?;
    let request_id = match member(tape, members.request_id) {
        None => "",
        Some(Node::String(id)) if id.len() <= REQUEST_ID_BYTES_MAX => id,
        Some(_) => return Err(bad(texts::REQUEST_ID)),
    };
    let text = |index: Option<usize>| match member(tape, index) {
        Some(Node::String(text)) => Some(text),
        _ => None,
    };
    let reason = || match member(tape, members.reason) {
        None => Ok(""),
        Some(Node::String(reason)) if chars_at_most(reason, REASON_CHARS_MAX) => Ok(reason),
        Some(_) => Err(bad(texts::REASON)),
    };
    match text(members.action) {
        Some("SEND_MESSAGE") => {
            let content = text(members.content)
                .filter(|content| !content.is_empty())
                .ok_or(bad(texts::CONTENT))?;
            if !chars_at_most(content, content_chars_max) {
                return Err(bad(texts::TOO_LONG));
            }
            let has_attributes = match members.attributes {
                Some(at) if member(tape, Some(at)).is_some() => {
                    take_attributes(tape, at, attributes, order)?;
                    true
                }
                _ => false,
            };
            Ok(Read::Send {
                content,
                has_attributes,
                request_id,
            })
        }
        Some("DELETE_MESSAGE") => {
            let id = text(members.id)
                .filter(|id| FrameId::parse(id).is_some())
                .ok_or(bad(texts::ID))?;
            Ok(Read::Other(Request::DeleteMessage {
                id,
                reason: reason()?,
                request_id,
            }))
        }
        Some("DISCONNECT_USER") => {
            let user_id = text(members.user_id)
                .filter(|user| !user.is_empty() && chars_at_most(user, USER_ID_CHARS_MAX))
                .ok_or(bad(texts::USER_ID))?;
            Ok(Read::Other(Request::DisconnectUser {
                user_id,
                reason: reason()?,
                request_id,
            }))
        }
        Some(_) | None => Err(bad(texts::ACTION)),
    }
}

const fn bad(message: &'static str) -> Fault {
    (ErrorCode::BadRequest, message)
}

/// Returns a member's value; `null` is the same as absent.
fn member<'a>(tape: &[Node<'a>], index: Option<usize>) -> Option<Node<'a>> {
    let node = *tape.get(index?)?;
    (node != Node::Static(StaticNode::Null)).then_some(node)
}

/// Finds the known members of the object.
fn members(tape: &[Node<'_>]) -> Result<Members, Fault> {
    let Some(Node::Object { len, .. }) = tape.first() else {
        return Err(bad(texts::NOT_OBJECT));
    };
    if *len > JSON_MEMBERS_MAX {
        return Err(bad(texts::TOO_MANY_MEMBERS));
    }
    let mut members = Members::default();
    let mut seen = [0_usize; JSON_MEMBERS_MAX];
    let mut at = 1;
    for count in 0..*len {
        let Some(Node::String(key)) = tape.get(at) else {
            return Err(bad(texts::NOT_JSON));
        };
        let twice = seen[..count].iter().any(|earlier| {
            matches!(tape.get(*earlier), Some(Node::String(other)) if key.eq_ignore_ascii_case(other))
        });
        if twice {
            return Err(bad(texts::DUPLICATE));
        }
        seen[count] = at;
        if let Some(place) = members.place(key) {
            *place = Some(at + 1);
        }
        at = after(tape, at + 1);
    }
    Ok(members)
}

impl Members {
    fn place(&mut self, key: &str) -> Option<&mut Option<usize>> {
        let places: [(&str, &mut Option<usize>); 7] = [
            ("Action", &mut self.action),
            ("RequestId", &mut self.request_id),
            ("Content", &mut self.content),
            ("Attributes", &mut self.attributes),
            ("Id", &mut self.id),
            ("Reason", &mut self.reason),
            ("UserId", &mut self.user_id),
        ];
        places
            .into_iter()
            .find(|(name, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, place)| place)
    }
}

/// Returns the index after the value at `at`.
fn after(tape: &[Node<'_>], at: usize) -> usize {
    match tape.get(at) {
        Some(Node::Object { count, .. } | Node::Array { count, .. }) => at + 1 + count,
        Some(Node::String(_) | Node::Static(_)) | None => at + 1,
    }
}

/// Checks the attributes at `at` and writes them to `out` as compact JSON.
fn take_attributes(
    tape: &[Node<'_>],
    at: usize,
    out: &mut Vec<u8>,
    order: &mut Vec<u32>,
) -> Result<(), Fault> {
    let Some(Node::Object { len, .. }) = tape.get(at) else {
        return Err(bad(texts::ATTRIBUTES));
    };
    let pairs = tape
        .get(at + 1..at + 1 + 2 * len)
        .ok_or(bad(texts::ATTRIBUTES))?;
    let (pairs, _) = pairs.as_chunks::<2>();
    let mut bytes = 0;
    for pair in pairs {
        let [Node::String(key), Node::String(value)] = pair else {
            return Err(bad(texts::ATTRIBUTES));
        };
        bytes += key.len() + value.len();
    }
    if bytes > ATTRIBUTES_BYTES_MAX {
        return Err((ErrorCode::PayloadTooLarge, texts::ATTRIBUTES_SIZE));
    }
    if has_duplicates(pairs, order) {
        return Err(bad(texts::DUPLICATE));
    }
    out.clear();
    object(
        out,
        pairs
            .iter()
            .filter_map(|pair| Some((string(pair[0])?, string(pair[1])?))),
    );
    Ok(())
}

/// Whether two keys are equal. It sorts, since a kilobyte holds hundreds of short keys.
fn has_duplicates(pairs: &[[Node<'_>; 2]], order: &mut Vec<u32>) -> bool {
    let key = |index: &u32| {
        let index = usize::try_from(*index).expect("an index into memory");
        pairs
            .get(index)
            .and_then(|pair| string(pair[0]))
            .unwrap_or_default()
    };
    order.clear();
    order.extend((0..).take(pairs.len()));
    order.sort_unstable_by(|a, b| key(a).cmp(key(b)));
    order.windows(2).any(|pair| key(&pair[0]) == key(&pair[1]))
}

fn string(node: Node<'_>) -> Option<&str> {
    match node {
        Node::String(text) => Some(text),
        Node::Object { .. } | Node::Array { .. } | Node::Static(_) => None,
    }
}

/// Whether `text` has at most `max` code points; the byte length decides most cases.
fn chars_at_most(text: &str, max: usize) -> bool {
    text.len() <= max || text.chars().count() <= max
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::PARSE_PADDING_BYTES;
    use proptest::prelude::*;

    /// Parses as the session does; returns owned texts: action, two texts, request id.
    fn parse(parser: &mut Parser, json: &str) -> Result<[String; 3], (u16, String, String)> {
        let mut buffer = json.as_bytes().to_vec();
        buffer.resize(json.len() + PARSE_PADDING_BYTES, b'"');
        match parser.parse(&mut buffer, json.len(), 10) {
            Ok(Request::SendMessage {
                content,
                attributes_json,
                request_id,
            }) => Ok([content, attributes_json, request_id].map(str::to_owned)),
            Ok(Request::DeleteMessage {
                id,
                reason,
                request_id,
            }) => Ok([id, reason, request_id].map(str::to_owned)),
            Ok(Request::DisconnectUser {
                user_id,
                reason,
                request_id,
            }) => Ok([user_id, reason, request_id].map(str::to_owned)),
            Err(Refusal {
                code,
                message,
                request_id,
            }) => Err((code.number(), message.to_owned(), request_id.to_owned())),
        }
    }

    /// Goal: requests of the official clients, and of less exact ones, are understood.
    #[test]
    fn valid_requests_are_understood() {
        let parser = &mut Parser::default();
        let cases = [
            (
                r#"{"Action":"SEND_MESSAGE","RequestId":"r","Content":"x","Attributes":{"a":"1"}}"#,
                ["x", r#"{"a":"1"}"#, "r"],
            ),
            (
                r#"{"action":"SEND_MESSAGE","content":"h\u00e9llo \ud83d\udd25","attributes":{}}"#,
                ["héllo 🔥", "{}", ""],
            ),
            (
                r#" {"CONTENT":"a\u0000b","X":[{"Action":1}],"Action":"SEND_MESSAGE","Attributes":null} "#,
                ["a\0b", "null", ""],
            ),
            (
                r#"{"Action":"DELETE_MESSAGE","RequestId":"q","Id":"M2YcHkgffEvU"}"#,
                ["M2YcHkgffEvU", "", "q"],
            ),
            (
                r#"{"Action":"DISCONNECT_USER","UserId":"u2","Reason":"why","RequestId":null}"#,
                ["u2", "why", ""],
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(
                parse(parser, json),
                Ok(expected.map(str::to_owned)),
                "{json}"
            );
        }
    }

    /// Goal: each invalid request gets its code, and its id if that can be read.
    #[test]
    fn invalid_requests_are_refused() {
        let parser = &mut Parser::default();
        let deep = format!(
            r#"{{"A":{}1{},"RequestId":"r"}}"#,
            "[".repeat(17),
            "]".repeat(17)
        );
        let members: Vec<String> = (0..65).map(|n| format!("\"k{n}\":1,")).collect();
        let members = members.concat();
        let members = format!("{{{members}\"Action\":\"X\",\"RequestId\":\"r\"}}");
        let large = format!(
            r#"{{"Action":"SEND_MESSAGE","Content":"x","RequestId":"r","Attributes":{{"k":"{}"}}}}"#,
            "v".repeat(1024)
        );
        let endless_id = format!(r#"{{"RequestId":"{}"}}"#, "r".repeat(1025));
        let long_id = format!(
            r#"{{"Action":"SEND_MESSAGE","RequestId":"{}"}}"#,
            "r".repeat(129)
        );
        let reason = format!(
            r#"{{"RequestId":"r","Action":"DELETE_MESSAGE","Id":"M2YcHkgffEvU","Reason":"{}"}}"#,
            "é".repeat(257)
        );
        let cases: &[(&str, u16, &str)] = &[
            ("", 400, ""),
            ("nonsense", 400, ""),
            ("[]", 400, ""),
            ("\"SEND_MESSAGE\"", 400, ""),
            ("{} {}", 400, ""),
            ("\u{feff}{}", 400, ""),
            (
                r#"{"Action":"SEND_MESSAGE","Content":"\ud800\q","RequestId":"r"}"#,
                400,
                "r",
            ),
            ("\u{feff}{\"RequestId\":\"r\"}", 400, "r"),
            (r#"{"RequestId":"r","Action":"#, 400, "r"),
            (r#"{"Action":,"Content":"x","RequestId":"r"}"#, 400, "r"),
            (
                "{\"Action\":\"SEND_MESSAGE\",\"Content\":\"a\u{1}b\"}",
                400,
                "",
            ),
            (r#"{"Content":"x","RequestId":"r"}"#, 400, "r"),
            (r#"{"Action":1,"RequestId":"r"}"#, 400, "r"),
            (
                r#"{"Action":"send_message","Content":"x","RequestId":"r"}"#,
                400,
                "r",
            ),
            (r#"{"Action":"SEND_MESSAGE","RequestId":7}"#, 400, ""),
            (
                r#"{"Action":"SEND_MESSAGE","Content":"","RequestId":"r"}"#,
                400,
                "r",
            ),
            (
                r#"{"Action":"SEND_MESSAGE","Content":1e400,"RequestId":"r"}"#,
                400,
                "r",
            ),
            (
                r#"{"Action":"SEND_MESSAGE","Content":null,"RequestId":"r"}"#,
                400,
                "r",
            ),
            (
                r#"{"Action":"SEND_MESSAGE","Content":"12345678901","RequestId":"r"}"#,
                400,
                "r",
            ),
            (
                r#"{"Action":"SEND_MESSAGE","Content":"x","content":"y","RequestId":"r"}"#,
                400,
                "r",
            ),
            (
                r#"{"Action":"SEND_MESSAGE","Content":"x","\u0043ontent":"y"}"#,
                400,
                "",
            ),
            (
                r#"{"Action":"SEND_MESSAGE","Content":"x","Attributes":[],"RequestId":"r"}"#,
                400,
                "r",
            ),
            (
                r#"{"Action":"SEND_MESSAGE","Content":"x","Attributes":{"a":1}}"#,
                400,
                "",
            ),
            (
                r#"{"Action":"SEND_MESSAGE","Content":"x","Attributes":{"a":"1","a":"2"}}"#,
                400,
                "",
            ),
            (
                r#"{"Action":"SEND_MESSAGE","Content":"x","Attributes":{"a":{"b":"c"}}}"#,
                400,
                "",
            ),
            (
                r#"{"Action":"DELETE_MESSAGE","Id":"short","RequestId":"r"}"#,
                400,
                "r",
            ),
            (
                r#"{"Action":"DISCONNECT_USER","UserId":"","RequestId":"r"}"#,
                400,
                "r",
            ),
            (&deep, 400, "r"),
            (&members, 400, "r"),
            (&large, 413, "r"),
            (&long_id, 400, &"r".repeat(129)),
            (&endless_id, 400, ""),
            (&reason, 400, "r"),
        ];
        for (json, code, request_id) in cases {
            let (refused, message, id) = parse(parser, json).expect_err(json);
            assert_eq!((refused, &*id), (*code, *request_id), "{json}: {message}");
        }
        let long = parse(
            parser,
            r#"{"Action":"SEND_MESSAGE","Content":"12345678901"}"#,
        );
        assert_eq!(
            long.expect_err("11 of 10").1,
            "Message exceeds maximum length"
        );
    }

    fn any_case(word: &'static str) -> impl Strategy<Value = String> {
        prop::collection::vec(any::<bool>(), word.len()).prop_map(move |upper| {
            let cased = word.chars().zip(upper).map(|(letter, upper)| {
                if upper {
                    letter.to_ascii_uppercase()
                } else {
                    letter.to_ascii_lowercase()
                }
            });
            cased.collect()
        })
    }

    proptest! {
        /// Goal: a request written by serde_json, in any case, order and spacing, is read the same.
        #[test]
        fn requests_agree_with_serde_json(
            content in "[\\x00-\\x7fé🔥]{1,10}",
            keys in (any_case("Action"), any_case("Content"), any_case("RequestId")),
            request_id in ".{0,30}",
            extra in "[xyz]{1,5}",
            rotate in 0_usize..4,
            pretty in any::<bool>(),
        ) {
            let mut members = vec![
                (keys.0, serde_json::json!("SEND_MESSAGE")),
                (keys.1, serde_json::json!(content)),
                (keys.2, serde_json::json!(request_id)),
                (extra, serde_json::json!([1, {"a": null}, "x"])),
            ];
            members.rotate_left(rotate);
            let object: serde_json::Map<_, _> = members.into_iter().collect();
            let json = if pretty {
                serde_json::to_string_pretty(&object)
            } else {
                serde_json::to_string(&object)
            }
            .expect("serialisable");
            let parsed = parse(&mut Parser::default(), &json);
            prop_assert_eq!(parsed, Ok([content, "null".to_owned(), request_id]));
        }

        /// Goal: no text panics, and serde_json accepts every accepted request with the same
        /// content.
        #[test]
        fn mutated_requests_are_refused_or_agreed_upon(
            at in 0_usize..90,
            insert in "[\\x00-\\x7f\"{}:,é]{0,3}",
            remove in 0_usize..3,
        ) {
            let mut json =
                r#"{"Action":"SEND_MESSAGE","RequestId":"r","Content":"x\n","Attributes":{"a":"1"}}"#
                    .to_owned();
            let at = at.min(json.len());
            let end = (at + remove).min(json.len());
            json.replace_range(at..end, &insert);
            if let Ok([content, ..]) = parse(&mut Parser::default(), &json) {
                let oracle: serde_json::Value = serde_json::from_str(&json).expect("we accepted it");
                let values = oracle.as_object().expect("an object");
                prop_assert!(values.values().any(|value| value == &content), "{} {}", json, content);
            }
        }

        /// Goal: whatever single fault the rest of a request has, its id comes back, so no client
        /// waits for ever. Method: one cut, insertion, replacement or end anywhere except in the
        /// id's member.
        #[test]
        fn a_refusal_names_the_request(
            content in "[\\x20-\\x7f\"\\\\{}\\[\\]:,é🔥]{0,20}",
            attribute in "[\"\\\\{}:,a]{0,6}",
            id in "[\\x20-\\x7f\"\\\\é🔥]{1,36}",
            rotate in 0_usize..4,
            at in any::<prop::sample::Index>(),
            remove in 0_usize..4,
            insert in prop_oneof![
                "[\\x00-\\x7f\"\\\\{}\\[\\]:,]{0,3}",
                Just("\u{feff}".to_owned()),
                Just("1e400".to_owned()),
                Just(r"\ud83d".to_owned()),
                Just(r"\q".to_owned()),
                Just("[".repeat(300)),
                Just(r#""Content":"twice","#.to_owned()),
            ],
            ends in any::<bool>(),
        ) {
            let member = format!("\"RequestId\":{}", serde_json::json!(id));
            let mut members = [
                r#""Action":"SEND_MESSAGE""#.to_owned(),
                member.clone(),
                format!("\"Content\":{}", serde_json::json!(content)),
                format!(r#""Attributes":{{"a":{},"b":"2"}}"#, serde_json::json!(attribute)),
            ];
            members.rotate_left(rotate);
            let json = format!("{{{}}}", members.join(","));
            let start = json.find(&member).expect("it is there");
            let end = start + member.len();
            // Anywhere from the first byte to the last, except inside the id's member.
            let at = at.index(json.len() - member.len() + 2);
            let at = json.floor_char_boundary(if at > start { at + member.len() - 1 } else { at });
            let until = (at + remove).min(if at <= start { start } else { json.len() });
            let until = json.floor_char_boundary(until).max(at);
            let broken = if ends && at >= end {
                json[..at].to_owned()
            } else {
                format!("{}{insert}{}", &json[..at], &json[until..])
            };
            if let Err((_, message, request_id)) = parse(&mut Parser::default(), &broken) {
                prop_assert_eq!(request_id, id, "{}: {}", broken, message);
            }
        }

        /// Goal: half a surrogate pair is U+FFFD, a whole one is its character. Oracle: UTF-16
        /// decoded by the standard library.
        #[test]
        fn half_surrogate_pairs_are_read(units in prop::collection::vec(
            prop_oneof![Just(0xD83D_u16), Just(0xDD25), Just(0x41), Just(0xFFFD), Just(0x22)], 1..8,
        )) {
            let written: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let written = written.concat();
            let json = format!(r#"{{"Action":"SEND_MESSAGE","RequestId":"r","Content":"{written}"}}"#);
            let expected = [String::from_utf16_lossy(&units), "null".to_owned(), "r".to_owned()];
            prop_assert_eq!(parse(&mut Parser::default(), &json), Ok(expected));
        }
    }
}
