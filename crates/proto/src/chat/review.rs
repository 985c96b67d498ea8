//! Message review (IVS Chat): writes the handler's request, and reads its answer.

use std::borrow::Cow;

use bytes::BufMut;
use serde_json::{Map, Value};

use super::encode::attributes_json;
use super::json::{string, string_bytes_max};
use crate::base::id::FrameId;
use crate::base::limits::{ATTRIBUTES_BYTES_MAX, REVIEW_REASON_CHARS_MAX};
use crate::scan::{Scan, mend_lone_surrogates};

/// The message in a handler's request.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The text as sent.
    pub content: &'a str,
    /// The attributes as a JSON object, or `null`.
    pub attributes_json: &'a str,
    /// The `Id` that the message will have.
    pub message_id: FrameId,
    /// The room's ARN.
    pub room_arn: &'a str,
    /// `Sender` as it appears in a message.
    pub sender_json: &'a str,
    /// The sender's address; empty if it is not known.
    pub ip: &'a str,
}

/// A handler's decision on a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Deliver it with this content.
    Allow(Rewrite),
    /// Do not deliver it; the reason is for the sender, empty if there is none.
    Deny(Box<str>),
}

/// The content of an allowed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The text, 1 code point to the room's maximum.
    pub content: Box<str>,
    /// The attributes as a JSON object; `None` if the handler named none.
    pub attributes_json: Option<Box<str>>,
}

/// Why an answer is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// It is not a JSON object.
    #[error("the answer is not a JSON object")]
    NotObject,
    /// Its result is neither of the two.
    #[error("ReviewResult is not ALLOW or DENY")]
    Result,
    /// Its content is missing, empty, too long, or not text.
    #[error("Content is not a string of 1 character to the room's maximumMessageLength")]
    Content,
    /// Its attributes are not an object of strings, or too large.
    #[error("Attributes is not an object of strings of at most 1 KB")]
    Attributes,
}

/// Encodes the request's body.
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
    // The address is only here, never in a frame: it is added after the object's last member.
    out.put_slice(sender.strip_suffix('}').unwrap_or(sender).as_bytes());
    out.put_slice(b",\"Ip\":");
    string(&mut out, question.ip);
    out.put_slice(b"}}");
    out
}

/// Reads an answer, whole or the part that arrived. Member names match in any letter case, unknown
/// ones are ignored, `null` is the same as absent.
///
/// A denial holds even if the rest of the answer is invalid: a handler that made a mistake
/// elsewhere, perhaps in quoting the message, has still denied. So a scanner apart from the parser
/// looks for it, and of several results a denial wins. An answer that is not valid JSON can only
/// deny.
///
/// # Errors
///
/// The fault of an answer that is not a denial.
pub fn read_answer(answer: &[u8], content_chars_max: usize) -> Result<Verdict, AnswerFault> {
    let text = decoded(answer);
    let mut scan = Scan::new("ReviewResult", DENIAL_BYTES_MAX, is_denial);
    scan.feed(&text);
    let parsed = serde_json::from_slice(&text);
    if scan.value().is_some() {
        // The reason may be lost, but not the denial.
        let reason = parsed.or_else(|_| {
            let mut mended = String::from_utf8_lossy(&text).into_owned().into_bytes();
            mend_lone_surrogates(&mut mended);
            serde_json::from_slice(&mended)
        });
        return Ok(Verdict::Deny(reason_of(&reason.unwrap_or_default()).into()));
    }
    let Ok(Value::Object(answer)) = parsed else {
        return Err(AnswerFault::NotObject);
    };
    if member(&answer, "ReviewResult").and_then(Value::as_str) != Some("ALLOW") {
        return Err(AnswerFault::Result);
    }
    let content = member(&answer, "Content")
        .and_then(Value::as_str)
        .filter(|content| !content.is_empty() && *content == cut(content, content_chars_max))
        .ok_or(AnswerFault::Content)?;
    let attributes = member(&answer, "Attributes");
    Ok(Verdict::Allow(Rewrite {
        content: content.into(),
        attributes_json: attributes.map(rewritten).transpose()?,
    }))
}

/// Reads only whether an answer denies, of one that cannot be used because it was cut off, failed,
/// or is too long.
pub fn read_denial(answer: &[u8]) -> Option<Verdict> {
    read_answer(answer, 0)
        .ok()
        .filter(|verdict| matches!(verdict, Verdict::Deny(_)))
}

/// Most bytes of `DENY` with spaces around it, each letter as an escape.
const DENIAL_BYTES_MAX: usize = 64;

fn is_denial(result: &str) -> bool {
    result.trim().eq_ignore_ascii_case("DENY")
}

fn reason_of(answer: &Value) -> &str {
    let attributes = answer
        .as_object()
        .and_then(|answer| member(answer, "Attributes"));
    let reason = attributes
        .and_then(Value::as_object)
        .and_then(|attributes| member(attributes, "Reason"));
    let reason = reason.and_then(Value::as_str).unwrap_or_default();
    cut(reason, REVIEW_REASON_CHARS_MAX)
}

/// Converts the answer to UTF-8 without a byte order mark. UTF-16 is recognised by its byte order
/// mark, or by the zero beside the first bracket.
fn decoded(answer: &[u8]) -> Cow<'_, [u8]> {
    type Unit = fn([u8; 2]) -> u16;
    let (units, unit): (&[u8], Unit) = match answer {
        [0xEF, 0xBB, 0xBF, text @ ..] => return Cow::Borrowed(text),
        [0xFF, 0xFE, units @ ..] => (units, u16::from_le_bytes),
        [0xFE, 0xFF, units @ ..] => (units, u16::from_be_bytes),
        [1..=255, 0, ..] => (answer, u16::from_le_bytes),
        [0, 1..=255, ..] => (answer, u16::from_be_bytes),
        _ => return Cow::Borrowed(answer),
    };
    let (pairs, _) = units.as_chunks::<2>();
    let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
    Cow::Owned(String::from_utf16_lossy(&units).into_bytes())
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

/// Cuts a text to at most `chars_max` code points.
fn cut(text: &str, chars_max: usize) -> &str {
    text.char_indices()
        .nth(chars_max)
        .map_or(text, |(end, _)| &text[..end])
}

/// Whether a text is the ARN of a Lambda function.
pub fn is_function_arn(text: &str) -> bool {
    let parts = || {
        let rest = text.strip_prefix("arn:aws:lambda:")?;
        let (region, rest) = rest.split_once(':')?;
        let (account, rest) = rest.split_once(':')?;
        Some((region, account, rest.strip_prefix("function:")?))
    };
    parts().is_some_and(|(region, account, name)| {
        let of_region = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let region_holds = !region.is_empty() && region.bytes().all(of_region);
        let account_holds = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        region_holds && account_holds && !name.is_empty()
    })
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

    /// Goal: the request has the service's members, including the address.
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

    /// Goal: each answer is read as the contract requires, and a mistake is named.
    #[test]
    fn answers_are_read_as_the_contract_requires() {
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
                r#"{"ReviewResult":"DENY","Content":"\ud800","Attributes":{"Reason":"spam"}}"#,
                Ok(deny("spam")),
            ),
            // An inexact denial.
            (r#"{"reviewresult":" Deny "}"#, Ok(deny(""))),
            (r#"{"ReviewResult":"\u0044ENY"}"#, Ok(deny(""))),
            (
                r#"{"Confidence":1e999,"ReviewResult":"DENY"}"#,
                Ok(deny("")),
            ),
            (
                r#"{"ReviewResult":"DENY","ReviewResult":"ALLOW","Content":"x"}"#,
                Ok(deny("")),
            ),
            (
                r#"{"ReviewResult":"ALLOW","reviewResult":"DENY","Content":"x"}"#,
                Ok(deny("")),
            ),
            (r#"{"ReviewResult":"DENY","Content":"half"#, Ok(deny(""))),
            (r#"{"ReviewResult":"DENY"} trailing"#, Ok(deny(""))),
            (
                "\u{feff}{\"ReviewResult\":\"DENY\",\"Attributes\":{\"Reason\":\"no\"}}",
                Ok(deny("no")),
            ),
            (
                "\u{feff}{\"ReviewResult\":\"ALLOW\",\"Content\":\"x\"}",
                Ok(allow("x", None)),
            ),
            // An answer written by hand, with the message's unescaped quotes in it.
            (r#"{"Content":"hi" ","ReviewResult":"DENY"}"#, Ok(deny(""))),
            (
                r#"{"Content":"a","ReviewResult":"ALLOW","x":"","ReviewResult":"DENY"}"#,
                Ok(deny("")),
            ),
            // A quoted message is not a verdict.
            (
                r#"{"ReviewResult":"ALLOW","Content":"\"DENY\"","Attributes":{"ReviewResult":"DENY"}}"#,
                Ok(allow("\"DENY\"", Some(r#"{"ReviewResult":"DENY"}"#))),
            ),
            (
                r#"{"ReviewResult":["DENY"],"Content":"x"}"#,
                Err(AnswerFault::Result),
            ),
            (r#"["ReviewResult","DENY"]"#, Err(AnswerFault::NotObject)),
        ];
        for (json, expected) in cases {
            assert_eq!(read(json), expected, "{json}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(read(&deep), Err(AnswerFault::NotObject));
    }

    proptest! {
        /// Goal: for any message the request is JSON with the same values, and a handler that
        /// returns them returns the whole message.
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

        /// Goal: any bytes are a verdict or a named mistake.
        #[test]
        fn any_bytes_are_judged(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Verdict::Allow(rewrite)) = read_answer(&json, 10) {
                prop_assert!((1..=10).contains(&rewrite.content.chars().count()));
            }
        }

        /// Goal: a denied message stays denied, however the answer is written or continues.
        #[test]
        fn a_denial_counts_whatever_surrounds_it(
            content in "[\\x20-\\x7f\"\\\\{}\\[\\]:,é🔥]{0,30}",
            is_quoted_right in any::<bool>(),
            cased in "[dD][eE][nN][yY]",
            beside in prop_oneof![
                Just("1e999".to_owned()),
                Just(format!("{}{}", "[".repeat(200), "]".repeat(200))),
                Just("-01.e".to_owned()),
                Just("NaN".to_owned()),
                Just(r#""\ud83d\q""#.to_owned()),
                Just(r#"{"ReviewResult":"ALLOW"}"#.to_owned()),
            ],
            (first, order) in (any::<bool>(), any::<bool>()),
            behind in "[\\x00-\\x7f]{0,10}",
            encoding in 0_u8..6,
            cut in any::<Option<prop::sample::Index>>(),
        ) {
            let quoted = if is_quoted_right {
                serde_json::json!(content).to_string()
            } else {
                format!("\"{content}\"")
            };
            let denial = format!("\"ReviewResult\" : \"{cased}\"");
            let allowance = "\"ReviewResult\":\"ALLOW\"";
            let (one, two) = if order { (&*denial, allowance) } else { (allowance, &*denial) };
            let mut json = if first {
                format!("{{{one},{two},\"Content\":{quoted},\"Other\":{beside}}}{behind}")
            } else {
                format!("{{\"Other\":{beside},\"Content\":{quoted},{one},{two}}}{behind}")
            };
            if let Some(cut) = cut {
                let end = json.find(&denial).expect("it is there") + denial.len();
                let mut until = end + cut.index(json.len() - end + 1);
                while !json.is_char_boundary(until) {
                    until += 1;
                }
                json.truncate(until);
            }
            let utf16 = |bytes: fn(u16) -> [u8; 2], mark: bool| -> Vec<u8> {
                let mark = mark.then_some('\u{feff}').into_iter().collect::<String>();
                format!("{mark}{json}").encode_utf16().flat_map(bytes).collect()
            };
            let answer = match encoding {
                0 => json.into_bytes(),
                1 => format!("\u{feff}{json}").into_bytes(),
                2 => utf16(u16::to_le_bytes, true),
                3 => utf16(u16::to_be_bytes, true),
                4 => utf16(u16::to_le_bytes, false),
                _ => json.chars().map(|letter| u8::try_from(letter).unwrap_or(0xFF)).collect(),
            };
            let verdict = read_answer(&answer, 500);
            prop_assert!(matches!(verdict, Ok(Verdict::Deny(_))), "{:?} {}", verdict, String::from_utf8_lossy(&answer));
        }

        /// Goal: a message's content never denies it, as long as the handler quotes it as JSON.
        #[test]
        fn a_quoted_denial_denies_nothing(
            text in prop_oneof![
                ".{1,40}".boxed(),
                Just(r#"{"ReviewResult":"DENY"}"#.to_owned()).boxed(),
                Just(r#"","ReviewResult":"DENY","x":""#.to_owned()).boxed(),
            ],
            first in any::<bool>(),
        ) {
            let text_json = serde_json::json!(text);
            let quoted = format!(r#""Content":{text_json},"Attributes":{{"ReviewResult":"DENY","a":{text_json}}}"#);
            let json = if first {
                format!(r#"{{{quoted},"ReviewResult":"ALLOW"}}"#)
            } else {
                format!(r#"{{"ReviewResult":"ALLOW",{quoted}}}"#)
            };
            let verdict = read_answer(json.as_bytes(), 500);
            let Ok(Verdict::Allow(rewrite)) = verdict else {
                return Err(TestCaseError::fail(format!("{verdict:?}: {json}")));
            };
            prop_assert_eq!(&*rewrite.content, &text);
        }
    }
}
