//! Message review (IVS Chat): what a handler is asked, and how its answer is read.

use bytes::BufMut;
use serde_json::{Map, Value};

use super::encode::attributes_json;
use super::json::{string, string_bytes_max};
use crate::base::id::FrameId;
use crate::base::limits::{ATTRIBUTES_BYTES_MAX, REVIEW_REASON_CHARS_MAX};

/// A message as its handler sees it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// As sent.
    pub content: &'a str,
    /// A JSON object, or `null`.
    pub attributes_json: &'a str,
    /// The `Id` that the message will have.
    pub message_id: FrameId,
    /// Of the room.
    pub room_arn: &'a str,
    /// `Sender` as it appears in a message.
    pub sender_json: &'a str,
    /// The sender's address; empty if it is not known.
    pub ip: &'a str,
}

/// What a handler says of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver it, so.
    Allow(Rewrite),
    /// Do not; the reason is for the sender, empty if there is none.
    Deny(Box<str>),
}

/// What an allowed message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// 1 code point to the room's maximum.
    pub content: Box<str>,
    /// A JSON object; `None` if the handler named no attributes.
    pub attributes_json: Option<Box<str>>,
}

/// Why an answer is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// Not a JSON object.
    #[error("the answer is not a JSON object")]
    NotObject,
    /// Neither of the two results.
    #[error("ReviewResult is not ALLOW or DENY")]
    Result,
    /// Missing, empty, too long, or not text.
    #[error("Content is not a string of 1 character to the room's maximumMessageLength")]
    Content,
    /// Not an object of strings, or too large.
    #[error("Attributes is not an object of strings of at most 1 KB")]
    Attributes,
}

/// The request's body.
pub fn question_json(question: &Question<'_>) -> Vec<u8> {
    let sender = question.sender_json;
    let mut out = Vec::with_capacity(
        string_bytes_max(question.content)
            + question.attributes_json.len()
            + question.room_arn.len()
            + sender.len()
            + 256,
    );
    out.put_slice(b"{\"Content\":");
    string(&mut out, question.content);
    out.put_slice(b",\"MessageId\":\"");
    out.put_slice(question.message_id.as_bytes());
    out.put_slice(b"\",\"RoomArn\":");
    string(&mut out, question.room_arn);
    out.put_slice(b",\"Attributes\":");
    out.put_slice(question.attributes_json.as_bytes());
    out.put_slice(b",\"Sender\":");
    // The address exists only here, never in a frame: it goes in behind the object's last member.
    out.put_slice(sender.strip_suffix('}').unwrap_or(sender).as_bytes());
    out.put_slice(b",\"Ip\":");
    string(&mut out, question.ip);
    out.put_slice(b"}}");
    out
}

/// Reads an answer. Member names count in any letter case, unknown ones are ignored, `null` is the same
/// as absent.
///
/// A denial counts whatever else the answer holds: what a handler denies must not be delivered because
/// it made a mistake elsewhere.
pub fn read_answer(json: &[u8], content_chars_max: usize) -> Result<Verdict, AnswerFault> {
    let Ok(Value::Object(answer)) = serde_json::from_slice(json) else {
        return Err(AnswerFault::NotObject);
    };
    let attributes = member(&answer, "Attributes");
    match member(&answer, "ReviewResult").and_then(Value::as_str) {
        Some("DENY") => {
            let reason = attributes
                .and_then(Value::as_object)
                .and_then(|attributes| member(attributes, "Reason"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            Ok(Verdict::Deny(cut(reason, REVIEW_REASON_CHARS_MAX).into()))
        }
        Some("ALLOW") => {
            let content = member(&answer, "Content")
                .and_then(Value::as_str)
                .filter(|content| {
                    !content.is_empty() && *content == cut(content, content_chars_max)
                })
                .ok_or(AnswerFault::Content)?;
            Ok(Verdict::Allow(Rewrite {
                content: content.into(),
                attributes_json: attributes.map(rewritten).transpose()?,
            }))
        }
        Some(_) | None => Err(AnswerFault::Result),
    }
}

fn rewritten(attributes: &Value) -> Result<Box<str>, AnswerFault> {
    let fault = AnswerFault::Attributes;
    let pairs = attributes.as_object().ok_or(fault)?;
    let pairs = pairs
        .iter()
        .map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let pairs: Vec<_> = pairs.collect::<Option<_>>().ok_or(fault)?;
    let bytes: usize = pairs
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if bytes > ATTRIBUTES_BYTES_MAX {
        return Err(fault);
    }
    Ok(attributes_json(pairs).into_boxed_str())
}

fn member<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let same =
        |(key, value): &(&String, &Value)| key.eq_ignore_ascii_case(name) && !value.is_null();
    object.iter().find(same).map(|(_, value)| value)
}

/// At most `chars_max` code points.
fn cut(text: &str, chars_max: usize) -> &str {
    text.char_indices()
        .nth(chars_max)
        .map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::super::encode::sender_json;
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Result<Verdict, AnswerFault> {
        read_answer(json.as_bytes(), 10)
    }

    fn allow(content: &str, attributes_json: Option<&str>) -> Verdict {
        Verdict::Allow(Rewrite {
            content: content.into(),
            attributes_json: attributes_json.map(Into::into),
        })
    }

    fn deny(reason: &str) -> Verdict {
        Verdict::Deny(reason.into())
    }

    /// Goal: the question has the service's members, the address included.
    #[test]
    fn the_question_has_the_services_shape() {
        let question = Question {
            content: "a\"b",
            attributes_json: r#"{"k":"v"}"#,
            message_id: FrameId::parse("M2YcHkgffEvU").expect("an id"),
            room_arn: "arn:aws:ivschat:us-west-2:123456789012:room/TC6fLHr7ycLt",
            sender_json: &sender_json("bob", [("name", "Bob")]),
            ip: "203.0.113.7",
        };
        assert_eq!(
            String::from_utf8(question_json(&question)).expect("UTF-8"),
            r#"{"Content":"a\"b","MessageId":"M2YcHkgffEvU","RoomArn":"arn:aws:ivschat:us-west-2:123456789012:room/TC6fLHr7ycLt","Attributes":{"k":"v"},"Sender":{"UserId":"bob","Attributes":{"name":"Bob"},"Ip":"203.0.113.7"}}"#
        );
    }

    /// Goal: each answer means what the contract says, and a mistake is named.
    #[test]
    fn answers_are_read_as_the_contract_says() {
        let large = format!(
            r#"{{"ReviewResult":"ALLOW","Content":"x","Attributes":{{"k":"{}"}}}}"#,
            "v".repeat(ATTRIBUTES_BYTES_MAX)
        );
        let long_reason = format!(
            r#"{{"ReviewResult":"DENY","Attributes":{{"Reason":"{}"}}}}"#,
            "é".repeat(REVIEW_REASON_CHARS_MAX + 1)
        );
        let cases = [
            (
                r#"{"ReviewResult":"ALLOW","Content":"hi"}"#,
                Ok(allow("hi", None)),
            ),
            (
                r#"{"ReviewResult":"ALLOW","Content":"hi","Attributes":{"a":"1"},"Sender":{"x":[1]}}"#,
                Ok(allow("hi", Some(r#"{"a":"1"}"#))),
            ),
            (
                r#"{"ReviewResult":"ALLOW","Content":"hi","Attributes":{}}"#,
                Ok(allow("hi", Some("{}"))),
            ),
            (
                r#"{"reviewResult":"ALLOW","content":"ten é 🔥 ab","attributes":null}"#,
                Ok(allow("ten é 🔥 ab", None)),
            ),
            (r#"{"ReviewResult":"DENY"}"#, Ok(deny(""))),
            (
                r#"{"ReviewResult":"DENY","Content":"","Attributes":{"Reason":"spam"}}"#,
                Ok(deny("spam")),
            ),
            (
                r#"{"ReviewResult":"DENY","Attributes":{"Reason":7}}"#,
                Ok(deny("")),
            ),
            (r#"{"ReviewResult":"DENY","Attributes":"no"}"#, Ok(deny(""))),
            (&long_reason, Ok(deny(&"é".repeat(REVIEW_REASON_CHARS_MAX)))),
            (r#"{"ReviewResult":"ALLOW"}"#, Err(AnswerFault::Content)),
            (
                r#"{"ReviewResult":"ALLOW","Content":""}"#,
                Err(AnswerFault::Content),
            ),
            (
                r#"{"ReviewResult":"ALLOW","Content":"eleven char"}"#,
                Err(AnswerFault::Content),
            ),
            (
                r#"{"ReviewResult":"ALLOW","Content":7}"#,
                Err(AnswerFault::Content),
            ),
            (
                r#"{"ReviewResult":"ALLOW","Content":"x","Attributes":{"a":1}}"#,
                Err(AnswerFault::Attributes),
            ),
            (
                r#"{"ReviewResult":"ALLOW","Content":"x","Attributes":[]}"#,
                Err(AnswerFault::Attributes),
            ),
            (&large, Err(AnswerFault::Attributes)),
            (
                r#"{"ReviewResult":"allow","Content":"x"}"#,
                Err(AnswerFault::Result),
            ),
            (r#"{"Content":"x"}"#, Err(AnswerFault::Result)),
            (r#""ALLOW""#, Err(AnswerFault::NotObject)),
            ("", Err(AnswerFault::NotObject)),
            (
                r#"{"ReviewResult":"DENY","Content":"\ud800"}"#,
                Err(AnswerFault::NotObject),
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(read(json), expected, "{json}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(read(&deep), Err(AnswerFault::NotObject));
    }

    proptest! {
        /// Goal: whatever a message says, the question is JSON with the same values, and a handler that
        /// gives it back gives it back whole.
        #[test]
        fn questions_read_back(
            content in "[\\x00-\\x7fé🔥]{1,60}",
            user in ".{1,20}",
            key in ".{0,10}",
        ) {
            let attributes_json = attributes_json([(&*key, &*user)]);
            let question = Question {
                content: &content,
                attributes_json: &attributes_json,
                message_id: FrameId::parse("M2YcHkgffEvU").expect("an id"),
                room_arn: "arn",
                sender_json: &sender_json(&user, [(&*key, &*content)]),
                ip: "::1",
            };
            let mut back: Value = serde_json::from_slice(&question_json(&question)).expect("JSON");
            prop_assert_eq!(&back["Content"], &content);
            prop_assert_eq!(&back["Attributes"][&key], &user);
            prop_assert_eq!(&back["Sender"]["UserId"], &user);
            prop_assert_eq!(&back["Sender"]["Attributes"][&key], &content);
            prop_assert_eq!(&back["Sender"]["Ip"], "::1");
            back["ReviewResult"] = "ALLOW".into();
            let verdict = read_answer(back.to_string().as_bytes(), 60);
            prop_assert_eq!(verdict, Ok(Verdict::Allow(Rewrite {
                content: content.into(), attributes_json: Some(attributes_json.into()),
            })));
        }

        /// Goal: no answer, however odd, is more than a verdict or a named mistake.
        #[test]
        fn any_bytes_are_judged(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Verdict::Allow(rewrite)) = read_answer(&json, 10) {
                prop_assert!((1..=10).contains(&rewrite.content.chars().count()));
            }
        }
    }
}
