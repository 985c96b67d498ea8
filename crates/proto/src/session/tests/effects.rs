//! Each effect of an open session.

use super::*;
use crate::chat::{Request, texts};

/// A name, what arrives, what the session asks for.
type Case = (&'static str, Vec<u8>, Vec<Seen>);

fn published(request: Request<'_>) -> Seen {
    Seen::Publish(format!("{request:?}"))
}

/// What a session does with whole and fragmented frames of a client that may do everything.
pub(super) fn cases() -> Vec<Case> {
    let text = |json: &str| frame(TEXT, json.as_bytes());
    let long = "x".repeat(20_000);
    let oversized = format!(r#"{{"RequestId":"big","Content":"{long}"}}"#);
    let delete = published(Request::DeleteMessage {
        id: "M2YcHkgffEvU",
        reason: "rude",
        request_id: "d",
    });
    let disconnect = published(Request::DisconnectUser {
        user_id: "bob",
        reason: "",
        request_id: "",
    });
    vec![
        ("a message", send("a"), vec![sent("a")]),
        ("a message without id", send(""), vec![sent("")]),
        (
            "a deletion",
            text(
                r#"{"Action":"DELETE_MESSAGE","Id":"M2YcHkgffEvU","Reason":"rude","RequestId":"d"}"#,
            ),
            vec![delete],
        ),
        (
            "a disconnection",
            text(r#"{"Action":"DISCONNECT_USER","UserId":"bob"}"#),
            vec![disconnect],
        ),
        (
            "two messages",
            [send("a"), send("b")].concat(),
            vec![sent("a"), sent("b")],
        ),
        (
            "a message in fragments, a ping among them",
            [
                frame(FRAGMENT, br#"{"Action":"SEND_MESSAGE","Reque"#),
                frame(PING, b"p"),
                frame(LAST, br#"stId":"f","Content":"hi"}"#),
            ]
            .concat(),
            vec![Seen::Pong(b"p".into()), sent("f")],
        ),
        (
            "no JSON",
            text(r#"{"RequestId":"n","Action":"#),
            vec![refused(400, texts::NOT_JSON, "n")],
        ),
        (
            "an empty text",
            text(""),
            vec![refused(400, texts::NOT_JSON, "")],
        ),
        (
            "no action",
            text(r#"{"RequestId":"n"}"#),
            vec![refused(400, texts::ACTION, "n")],
        ),
        (
            "a message over the room's length",
            text(r#"{"Action":"SEND_MESSAGE","RequestId":"l","Content":"12345678901"}"#),
            vec![refused(400, texts::TOO_LONG, "l")],
        ),
        (
            "a binary message",
            frame(BINARY, br#"{"RequestId":"b"}"#),
            vec![refused(400, texts::BINARY, "b")],
        ),
        (
            "a binary message without id, after a refusal that had one",
            [frame(BINARY, br#"{"RequestId":"b"}"#), frame(BINARY, b"x")].concat(),
            vec![
                refused(400, texts::BINARY, "b"),
                refused(400, texts::BINARY, ""),
            ],
        ),
        (
            "a message too large to keep, and the next",
            [text(&oversized), send("a")].concat(),
            vec![refused(413, texts::FRAME_TOO_BIG, "big"), sent("a")],
        ),
        (
            "the same in fragments",
            [fragmented(TEXT, oversized.as_bytes(), 7_000), send("a")].concat(),
            vec![refused(413, texts::FRAME_TOO_BIG, "big"), sent("a")],
        ),
        (
            "a ping",
            frame(PING, b"payload"),
            vec![Seen::Pong(b"payload".into())],
        ),
        (
            "an empty ping",
            frame(PING, b""),
            vec![Seen::Pong(Vec::new())],
        ),
        (
            "a pong, and a message",
            [frame(PONG, b"x"), send("a")].concat(),
            vec![sent("a")],
        ),
    ]
}

/// Goal: each kind of frame leads to its effect, with the request's own id in each refusal.
#[test]
fn frames_have_their_effects() {
    for (name, bytes, expected) in cases() {
        assert_eq!(
            Connection::open().receive(&bytes, at(0)),
            expected,
            "{name}"
        );
    }
}

/// Goal: compressed messages mean the same; on a connection without compression they are
/// violations.
#[test]
fn compressed_messages_have_the_same_effects() {
    let json = br#"{"Action":"SEND_MESSAGE","RequestId":"z","Content":"hi"}"#;
    let large = format!(r#"{{"Content":"{}","RequestId":"z"}}"#, "x".repeat(20_000));
    let (whole, large) = (deflated(json), deflated(large.as_bytes()));
    let cases = [
        ("whole", frame(TEXT | COMPRESSED, &whole), sent("z")),
        (
            "fragments",
            fragmented(TEXT | COMPRESSED, &whole, 7),
            sent("z"),
        ),
        (
            "binary",
            frame(BINARY | COMPRESSED, &whole),
            refused(400, texts::BINARY, "z"),
        ),
        (
            "small, and large once it is plain",
            frame(TEXT | COMPRESSED, &large),
            refused(413, texts::FRAME_TOO_BIG, "z"),
        ),
    ];
    for (name, bytes, expected) in cases {
        let mut connection = Connection::compressed();
        for piece in [1, 5, bytes.len()] {
            let seen = connection.receive_pieces(&bytes, piece);
            assert_eq!(
                seen,
                std::slice::from_ref(&expected),
                "{name} in pieces of {piece}"
            );
        }
        let seen = Connection::open().receive(&bytes, at(0));
        assert_eq!(seen, [Seen::Violation(Violation::ReservedBits)], "{name}");
    }
}

/// Goal: an action needs its own capability. Method: each action with each set of one capability.
#[test]
fn each_action_needs_its_capability() {
    let requests = [
        (Capability::SendMessage, r#""SEND_MESSAGE","Content":"hi""#),
        (
            Capability::DeleteMessage,
            r#""DELETE_MESSAGE","Id":"M2YcHkgffEvU""#,
        ),
        (
            Capability::DisconnectUser,
            r#""DISCONNECT_USER","UserId":"bob""#,
        ),
    ];
    for granted in Capability::ALL {
        let mut connection = Connection::new(&[granted], None, None);
        for (needed, request) in requests {
            let json = format!(r#"{{"RequestId":"r","Action":{request}}}"#);
            let seen = connection.receive(&frame(TEXT, json.as_bytes()), at(0));
            if needed == granted {
                assert!(matches!(seen[..], [Seen::Publish(_)]), "{seen:?}");
            } else {
                assert_eq!(seen, [refused(403, texts::CAPABILITY, "r")], "{request}");
            }
        }
    }
}

/// Goal: requests beyond the rate are refused by it, whatever else is wrong with them, and each
/// request is charged whatever comes of it. Method: ten a second; for each kind of request ten at
/// once, of which none is refused by its rate, then each kind, then one more 100 ms later.
#[test]
fn the_rate_is_judged_first() {
    let long = format!(r#"{{"RequestId":"r","Content":"{}"}}"#, "x".repeat(20_000));
    let forbidden = br#"{"Action":"DISCONNECT_USER","UserId":"b","RequestId":"r"}"#;
    let kinds = [
        send("r"),
        frame(TEXT, forbidden),
        frame(TEXT, br#"{"RequestId":"r""#),
        frame(BINARY, br#"{"RequestId":"r"}"#),
        frame(TEXT, long.as_bytes()),
    ];
    let over = [refused(429, texts::RATE, "r")];
    for first in &kinds {
        let rate = Some(Rate::per_second(10));
        let mut connection = Connection::new(&[Capability::SendMessage], rate, None);
        for _ in 0..10 {
            assert_ne!(connection.receive(first, at(0)), over);
        }
        for then in &kinds {
            assert_eq!(connection.receive(then, at(99)), over);
        }
        assert_eq!(connection.receive(&send("r"), at(100)), [sent("r")]);
        assert_eq!(connection.receive(&send("r"), at(100)), over);
    }
}

/// Goal: conformance mode gives every message back, whatever it says.
#[test]
fn conformance_mode_echoes() {
    let mut connection = Connection::open();
    connection.context = SessionContext::echo();
    let long = vec![b'x'; 200_000];
    let bytes = [
        frame(TEXT, b"no JSON"),
        fragmented(TEXT, b"in parts", 3),
        frame(BINARY, &[0xFF]),
        frame(PING, b"p"),
        frame(BINARY, &long),
    ];
    let seen = connection.receive(&bytes.concat(), at(0));
    let expected = [
        Seen::Echo(true, b"no JSON".into()),
        Seen::Echo(true, b"in parts".into()),
        Seen::Echo(false, vec![0xFF]),
        Seen::Pong(b"p".into()),
        Seen::Echo(false, long),
    ];
    assert!(seen == expected, "{} effects", seen.len());
}
