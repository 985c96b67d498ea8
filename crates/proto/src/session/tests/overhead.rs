//! Tests of the limit on frames beside requests.

use std::time::Duration;

use super::*;
use crate::base::limits::OVERHEAD_FRAMES_BURST;

/// Receives `bytes`; returns the refusals, and whether the connection must be cut.
fn feed(connection: &mut Connection, bytes: &[u8], now: Tick) -> (usize, bool) {
    let seen = connection.receive(bytes, now);
    let refusals = seen.iter().filter(|one| matches!(one, Seen::Refuse(..)));
    (refusals.count(), seen.contains(&Seen::Flood))
}

/// Goal: every frame that is no accepted request is charged, and beyond the burst the connection is
/// cut. Method: each kind of frame, ten thousand at one instant, with and without a rate of
/// requests.
#[test]
fn every_kind_of_frame_is_charged() {
    let message = [
        frame(FRAGMENT, b"{"),
        frame(CONTINUATION, b""),
        frame(CONTINUATION, b"}"),
        frame(LAST, b""),
    ];
    let kinds = [
        ("binary", frame(0x82, b"x"), 1),
        ("empty text", frame(0x81, b""), 1),
        ("no JSON", frame(0x81, b"x"), 1),
        ("no action", frame(0x81, b"{}"), 1),
        (
            "no capability",
            frame(0x81, br#"{"Action":"SEND_MESSAGE","Content":"x"}"#),
            1,
        ),
        ("ping", frame(0x89, b""), 1),
        ("pong", frame(0x8A, b""), 1),
        ("fragments", message.concat(), 4),
    ];
    for (name, bytes, cost) in kinds {
        for rate in [None, Some(Rate::per_second(10))] {
            let mut connection = Connection::new(&[], rate, None);
            let cut = (0_u32..10_000)
                .find(|_| feed(&mut connection, &bytes, at(0)).1)
                .unwrap_or_else(|| panic!("{name} is not charged"));
            assert_eq!(cut, OVERHEAD_FRAMES_BURST / cost, "{name}");
            let (refusals, _) = feed(&mut connection, &frame(0x82, b"x"), at(0));
            assert_eq!(
                refusals, 0,
                "{name}: what comes behind the cut does not count"
            );
        }
    }
}

/// Goal: a client that keeps to the limits is never cut. Method: an hour of ten requests a second
/// in six fragments each, a ping of its own every second, and a pong for each of ours.
#[test]
fn a_legal_client_is_never_cut() {
    let mut connection = Connection::new(&[], Some(Rate::per_second(10)), None);
    let text = br#"{"Action":"SEND_MESSAGE","Content":"x"}"#;
    let (first, rest) = text.split_at(7);
    let mut request = frame(FRAGMENT, first);
    for piece in rest.chunks(7) {
        request.extend(frame(CONTINUATION, piece));
    }
    request.extend(frame(LAST, b""));
    for tenth in 0_u64..36_000 {
        let now = at(tenth * 100);
        let mut bytes = request.clone();
        if tenth % 10 == 0 {
            bytes.extend(frame(0x89, b"mine"));
            bytes.extend(frame(0x8A, b"yours"));
        }
        let (_, flood) = feed(&mut connection, &bytes, now);
        assert!(!flood, "cut after {:?}", Duration::from_millis(tenth * 100));
    }
}

/// Goal: no client is blamed for where the network cuts its stream. Method: requests without a limit on
/// their rate, all at one instant, each in two pieces, cut at every place.
#[test]
fn a_request_in_pieces_is_not_charged() {
    let request = frame(0x81, br#"{"Action":"SEND_MESSAGE","Content":"x"}"#);
    for cut in 1..request.len() {
        let mut connection = Connection::new(&[Capability::SendMessage], None, None);
        for number in 0..2 * OVERHEAD_FRAMES_BURST {
            let (first, rest) = request.split_at(cut);
            for piece in [first, rest] {
                let (refusals, flood) = feed(&mut connection, piece, at(0));
                assert_eq!(
                    (refusals, flood),
                    (0, false),
                    "cut at {cut}, request {number}"
                );
            }
        }
    }
}
