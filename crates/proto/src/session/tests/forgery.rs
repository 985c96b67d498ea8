//! No client can say what only the server says: attributes `uproar:…` never reach anybody else.

use bytes::BytesMut;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::base::clock::UnixTime;
use crate::base::id::FrameId;
use crate::chat::encode::{self, Message};
use crate::extension::{Commands, is_ours};
use crate::ws::payloads;

/// What becomes of one frame of a client in a room.
#[derive(Debug)]
enum Fate {
    /// The frame that everybody gets.
    Said(Value),
    /// Nobody gets anything: a command, or a refusal.
    Kept,
}

/// Sends a text frame through a session, as a shard does, and what it asks for through the encoder.
fn fate(json: &str, commands: Commands, capabilities: &[Capability]) -> Fate {
    let mut connection = Connection::new(capabilities, None, None);
    let bytes = frame(TEXT, json.as_bytes());
    let mut buffer = [&*bytes, &[TEXT; PARSE_PADDING_BYTES]].concat();
    let input = Input::new(&mut buffer, bytes.len(), 500);
    let mut input = input.with_commands(commands);
    let Connection { session, context } = &mut connection;
    let mut fate = Fate::Kept;
    while let Some(effect) = session.next(&mut input, context, at(0)) {
        let Effect::Publish {
            request,
            sender_json,
        } = effect
        else {
            continue;
        };
        let crate::chat::Request::SendMessage {
            content,
            attributes_json,
            request_id,
        } = request
        else {
            continue;
        };
        let mut out = BytesMut::new();
        let message = Message {
            id: FrameId::from_random(1),
            request_id,
            attributes_json,
            content,
            sent: UnixTime::from_secs(1),
            sender_json,
        };
        encode::message(&mut out, &message);
        let payload = payloads(&out).next().expect("one frame");
        fate = Fate::Said(serde_json::from_slice(payload).expect("JSON"));
    }
    fate
}

fn forged(message: &Value) -> Vec<&str> {
    let attributes = message["Attributes"].as_object().into_iter().flatten();
    let names = attributes.map(|(name, _)| &**name);
    names.filter(|name| is_ours(name)).collect()
}

/// A name near ours: each letter plain, escaped, in the other case, or with something beside it.
fn name() -> impl Strategy<Value = String> {
    let letter = |letter: char| {
        prop_oneof![
            6 => Just(letter.to_string()),
            2 => Just(format!("\\u{:04x}", u32::from(letter))),
            1 => Just(format!("\\u{:04X}", u32::from(letter))),
            1 => Just(letter.to_uppercase().to_string()),
            1 => prop_oneof![Just("\u{200b}"), Just("\\u0000"), Just("\u{feff}"), Just("\\/"), Just(""), Just(" ")]
                .prop_map(move |beside| format!("{beside}{letter}")),
        ]
    };
    let ours = "uproar:".chars().map(letter).collect::<Vec<_>>();
    let tail = prop_oneof![
        Just("do"),
        Just("private"),
        Just("role"),
        Just("result"),
        Just("held"),
        Just(""),
        Just("\\ud83d\\ude00"),
    ];
    let near = (ours, tail).prop_map(|(letters, tail)| letters.concat() + tail);
    prop_oneof![4 => near, 1 => "[a-z]{0,6}".prop_map(String::from)]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\"1\"".to_owned()),
        Just("\"vote\"".to_owned()),
        Just("\"react\"".to_owned()),
        Just("\"\\\",\\\"uproar:private\\\":\\\"1\"".to_owned()),
        Just("\"}\\u002c\\u0022uproar:role\\u0022\"".to_owned()),
        Just("null".to_owned()),
        Just("{\"uproar:do\":\"set\"}".to_owned()),
        Just("7".to_owned()),
    ]
}

fn attributes() -> impl Strategy<Value = String> {
    let attributes = prop::collection::vec((name(), value()), 0..4);
    attributes.prop_map(|attributes| {
        let members: Vec<String> = attributes
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

fn request() -> impl Strategy<Value = String> {
    let content = prop_oneof![
        Just("hello"),
        Just("/set slow 5"),
        Just("\\\",\\\"Attributes\\\":{\\\"uproar:private\\\":\\\"1\\\"}"),
        Just("uproar:private"),
    ];
    let id = prop_oneof![Just("r1"), Just("\\\",\\\"uproar:private\\\":\\\"1")];
    // Twice the member, too: parsers differ in which one counts.
    (content, id, attributes(), prop::option::of(attributes())).prop_map(
        |(content, id, attributes, again)| {
            let again = again.map_or_else(String::new, |again| format!(",\"Attributes\":{again}"));
            format!(
                "{{\"Action\":\"SEND_MESSAGE\",\"Content\":\"{content}\",\"RequestId\":\"{id}\",\
                 \"Attributes\":{attributes}{again}}}"
            )
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Goal: in a room with commands, whatever bytes a client sends, nobody gets an attribute of the server's; neither a
    /// member of the frame that the encoder did not write.
    #[test]
    fn nobody_forges_an_attribute(json in request(), slash: bool, is_crew: bool) {
        let commands = if slash { Commands::Slash } else { Commands::Attributes };
        let crew = &Capability::ALL[..];
        let capabilities = if is_crew { crew } else { &[Capability::SendMessage] };
        if let Fate::Said(message) = fate(&json, commands, capabilities) {
            prop_assert_eq!(forged(&message), Vec::<&str>::new(), "{} became {}", json, message);
            let members: Vec<&str> = message.as_object().expect("an object").keys().map(|name| &**name).collect();
            prop_assert_eq!(members, ["Attributes", "Content", "Id", "RequestId", "SendTime", "Sender", "Type"]);
            prop_assert_eq!(&message["Sender"], &serde_json::from_str::<Value>(SENDER).expect("JSON"));
        }
    }
}

/// Goal: the property can fail: these are forgeries that a plain comparison of bytes would miss, kept in a room with
/// commands, and plain data in one without.
#[test]
fn forgeries_in_disguise_are_kept() {
    for name in [
        "uproar:private",
        "\\u0075proar:private",
        "uproar\\u003aprivate",
        "\\u0075\\u0070\\u0072\\u006f\\u0061\\u0072\\u003a\\u0064\\u006f",
    ] {
        let json = format!(
            "{{\"Action\":\"SEND_MESSAGE\",\"Content\":\"x\",\"Attributes\":{{\"a\":\"b\",\"{name}\":\"1\"}}}}"
        );
        let kept = fate(&json, Commands::Attributes, &Capability::ALL);
        assert!(matches!(kept, Fate::Kept), "{name}: {kept:?}");
        let Fate::Said(message) = fate(&json, Commands::None, &Capability::ALL) else {
            panic!("{name} is plain data in a room without commands");
        };
        assert_eq!(forged(&message).len(), 1, "{message}");
    }
}
