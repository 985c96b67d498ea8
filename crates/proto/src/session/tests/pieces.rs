//! How the network cuts a client's bytes changes nothing.

use super::*;
use proptest::prelude::*;

/// Goal: input split at every byte gives the same effects. Method: each case of the tables of
/// effects and of ends, in two pieces cut at each place (long ones at each 997th), and byte by
/// byte.
#[test]
fn a_cut_changes_no_effect() {
    let cases = effects::cases().into_iter();
    for (name, bytes, expected) in cases.chain(closing::ends()) {
        let step = if bytes.len() < 2_000 { 1 } else { 997 };
        for cut in (0..bytes.len()).step_by(step) {
            let mut connection = Connection::open();
            let (first, rest) = bytes.split_at(cut);
            let mut seen = connection.receive(first, at(0));
            seen.extend(connection.receive(rest, at(0)));
            assert_eq!(seen, expected, "{name}, cut at {cut}");
        }
        let seen = Connection::open().receive_pieces(&bytes, 1);
        assert_eq!(seen, expected, "{name}, byte by byte");
    }
}

/// A piece of a client's stream: legal frames mostly.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let message = br#"{"Action":"SEND_MESSAGE","RequestId":"m","Content":"hi"}"#;
    prop_oneof![
        4 => "[a-z]{0,3}".prop_map(|id| send(&id)),
        2 => (1_usize..30).prop_map(|len| fragmented(TEXT, message, len)),
        2 => (1_usize..30).prop_map(|len| fragmented(TEXT | COMPRESSED, &deflated(message), len)),
        1 => Just(frame(TEXT | COMPRESSED, &deflated(message))),
        1 => "[{}\":a]{0,20}".prop_map(|text| frame(TEXT, text.as_bytes())),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| frame(BINARY, &bytes)),
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| frame(PING, &bytes)),
        1 => Just(frame(PONG, b"")),
        1 => prop::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| frame(CLOSE, &bytes)),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ]
}

/// Whether effects follow the grammar of the module's documentation.
fn is_grammatical(seen: &[Seen]) -> bool {
    let is_last = |one: &Seen| {
        matches!(
            one,
            Seen::Flood | Seen::Violation(_) | Seen::AnswerClose(_) | Seen::PeerClosed
        )
    };
    let start = seen.iter().position(is_last).unwrap_or(seen.len());
    matches!(
        &seen[start..],
        [] | [Seen::Flood | Seen::Violation(_)] | [Seen::AnswerClose(_), Seen::PeerClosed]
    )
}

proptest! {
    /// Goal: streams of any frames in any pieces have the effects of the same stream in one piece,
    /// and these follow the grammar. After a violation only a Close counts, and where it begins
    /// depends on the pieces.
    #[test]
    fn any_stream_means_the_same_in_any_pieces(
        parts in prop::collection::vec(part(), 0..12),
        len in 1_usize..100,
    ) {
        let stream = parts.concat();
        let whole = Connection::compressed().receive(&stream, at(0));
        prop_assert!(is_grammatical(&whole), "{whole:?}");
        let mut pieces = Connection::compressed().receive_pieces(&stream, len);
        let end = |one: &Seen| matches!(one, Seen::Violation(_) | Seen::PeerClosed);
        if let Some(last) = pieces.iter().position(end) {
            let rest = pieces.split_off(last + 1);
            prop_assert!(rest.iter().all(|one| *one == Seen::PeerClosed), "{rest:?}");
        }
        prop_assert_eq!(whole, pieces);
    }
}
