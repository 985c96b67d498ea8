//! How a session ends: both closing handshakes, violations, floods; and that nothing follows.

use super::*;
use crate::base::limits::{FRAGMENTS_MAX, OVERSIZED_BYTES_MAX};
use crate::chat::texts;

/// A name, what arrives, what the session asks for.
type Case = (&'static str, Vec<u8>, Vec<Seen>);

/// What ends a session.
pub(super) fn ends() -> Vec<Case> {
    let claimed = |len: u64| [&[BINARY, 0xFF][..], &len.to_be_bytes(), &[0; 4]].concat();
    let largest = u64::try_from(OVERSIZED_BYTES_MAX).expect("64 bits");
    let answered = |code| vec![Seen::AnswerClose(code), Seen::PeerClosed];
    let broken = |violation| vec![Seen::Violation(violation)];
    let too_big = || {
        let violation = Seen::Violation(Violation::TooBig);
        vec![refused(413, texts::FRAME_TOO_BIG, ""), violation]
    };
    let fragments: Vec<_> = (0..=FRAGMENTS_MAX)
        .flat_map(|number| frame(u8::from(number == 0), b""))
        .collect();
    let inside = [frame(FRAGMENT, b"{"), send("a")].concat();
    vec![
        ("Close", frame(CLOSE, b""), answered(None)),
        (
            "Close 1000",
            frame(CLOSE, &[0x03, 0xE8]),
            answered(Some(1000)),
        ),
        (
            "Close 4000",
            frame(CLOSE, b"\x0F\xA0bye"),
            answered(Some(4000)),
        ),
        ("no mask", vec![TEXT, 1, b'x'], broken(Violation::Unmasked)),
        ("RSV1", frame(0xC1, b"x"), broken(Violation::ReservedBits)),
        ("RSV2", frame(0xA1, b"x"), broken(Violation::ReservedBits)),
        (
            "opcode 3",
            frame(0x83, b"x"),
            broken(Violation::ReservedOpcode),
        ),
        (
            "opcode 11",
            frame(0x8B, b"x"),
            broken(Violation::ReservedOpcode),
        ),
        (
            "long ping",
            frame(PING, &[0; 126]),
            broken(Violation::ControlTooLong),
        ),
        (
            "split ping",
            frame(0x09, b""),
            broken(Violation::ControlFragmented),
        ),
        (
            "continuation",
            frame(LAST, b"x"),
            broken(Violation::NothingToContinue),
        ),
        (
            "text inside a text",
            inside,
            broken(Violation::InsideFragmented),
        ),
        (
            "Close of one byte",
            frame(CLOSE, &[3]),
            broken(Violation::CloseTooShort),
        ),
        (
            "Close 1005",
            frame(CLOSE, &[0x03, 0xED]),
            broken(Violation::CloseCode),
        ),
        (
            "Close, no UTF-8",
            frame(CLOSE, &[0x03, 0xE8, 0xFF]),
            broken(Violation::Utf8),
        ),
        ("no UTF-8", frame(TEXT, &[0xFF]), broken(Violation::Utf8)),
        ("fragments", fragments, broken(Violation::TooManyFragments)),
        ("one byte too many", claimed(largest + 1), too_big()),
        ("2^63 bytes", claimed(1 << 63), too_big()),
    ]
}

/// Goal: each way of the client to end a session has its effects, and nothing follows them. Method:
/// a request before and after it, in the same bytes and in the next; then a Close frame, which is
/// not answered again.
#[test]
fn nothing_follows_an_end() {
    for (name, end, expected) in ends() {
        let mut connection = Connection::open();
        assert!(!connection.session.is_closing());
        let bytes = [send("before"), end.clone(), send("after"), frame(PING, b"")].concat();
        let seen = connection.receive(&bytes, at(0));
        assert_eq!(seen[0], sent("before"), "{name}");
        assert_eq!(seen[1..], expected, "{name}");
        assert!(connection.session.is_closing(), "{name}");
        for late in [send("late"), frame(BINARY, b"x"), frame(PING, b"p"), end] {
            let seen = connection.receive(&late, at(1));
            let is_close = late[0] == CLOSE && expected.contains(&Seen::PeerClosed);
            let closed = if is_close {
                vec![Seen::PeerClosed]
            } else {
                vec![]
            };
            assert_eq!(seen, closed, "{name}: {late:?}");
        }
        let seen = connection.receive(&frame(CLOSE, b""), at(2));
        assert_eq!(seen, [Seen::PeerClosed], "{name}: Close after it");
    }
}

/// Goal: after our own Close frame only the client's Close counts, and it is not answered.
#[test]
fn our_close_is_answered_by_the_clients() {
    let mut connection = Connection::open();
    connection.session.begin_close();
    assert!(connection.session.is_closing());
    let bytes = [send("a"), frame(BINARY, b"x"), frame(PING, b"p")].concat();
    assert_eq!(connection.receive(&bytes, at(0)), []);
    let close = [frame(CLOSE, &[0x03, 0xE8]), send("b")].concat();
    assert_eq!(connection.receive(&close, at(0)), [Seen::PeerClosed]);
}

/// Goal: a violation while our Close frame travels adds no second Close, and the client's Close
/// still counts if it can be told where it begins.
#[test]
fn violations_after_our_close_are_silent() {
    for (name, end, expected) in ends() {
        if expected.contains(&Seen::PeerClosed) {
            continue;
        }
        let mut connection = Connection::open();
        connection.session.begin_close();
        assert_eq!(connection.receive(&end, at(0)), [], "{name}");
        let seen = connection.receive(&frame(CLOSE, b""), at(0));
        assert_eq!(seen, [Seen::PeerClosed], "{name}");
    }
}

/// Goal: a flood cuts the connection at once, within one input, and nothing follows.
#[test]
fn a_flood_is_the_last_effect() {
    let mut connection = Connection::open();
    let pings = frame(PING, b"").repeat(10_000);
    let seen = connection.receive(&[pings, send("after")].concat(), at(0));
    let (last, pongs) = seen.split_last().expect("effects");
    assert_eq!(*last, Seen::Flood);
    assert!(pongs.iter().all(|one| *one == Seen::Pong(Vec::new())));
    assert!(connection.session.is_closing());
    assert_eq!(connection.receive(&send("late"), at(0)), []);
}

/// Goal: the Close frame that names a violation has the code of RFC 6455 §7.4.1, within 125 bytes.
#[test]
fn violations_are_named_by_their_close_frames() {
    for (name, _, expected) in ends() {
        let Some(Seen::Violation(violation)) = expected.last() else {
            continue;
        };
        let mut out = bytes::BytesMut::new();
        super::super::Ending::Violation(*violation).encode(&mut out);
        let code = u16::from_be_bytes([out[2], out[3]]);
        let expected = match violation {
            Violation::Utf8 | Violation::Deflate => 1007,
            Violation::TooManyFragments => 1008,
            Violation::TooBig => 1009,
            _ => 1002,
        };
        assert_eq!((out[0], code), (CLOSE, expected), "{name}");
        assert!(
            out.len() <= 127 && usize::from(out[1]) == out.len() - 2,
            "{name}"
        );
    }
}
