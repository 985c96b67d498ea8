//! Requests of official clients and of less exact ones; refusals and their ids.

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
