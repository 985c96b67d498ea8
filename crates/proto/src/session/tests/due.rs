//! Deadlines: pings, silence, the end of the session.

use super::*;
use crate::base::limits::{IDLE_MAX, PING_INTERVAL};
use crate::session::Due;
use std::time::Duration;

/// Makes a session that ends `secs` after its start.
fn ending_after(secs: u64) -> Session {
    let grant = Grant {
        sender_json: SENDER.into(),
        capabilities: Capability::ALL.into_iter().collect(),
        ends: at(secs * 1000),
    };
    Session::new(grant, None, at(0))
}

/// Goal: each deadline is met to the nanosecond. Method: ask at, and just before, every one.
#[test]
fn silence_is_answered_in_time() {
    let start = at(0);
    let session = ending_after(3600);
    let after = |wait: Duration| start.after(wait);
    let just_before = |wait| Tick::from_nanos(after(wait).nanos() - 1);
    let (first, second) = (PING_INTERVAL, PING_INTERVAL * 2);
    let cases = [
        (start, Due::Later(after(first))),
        (just_before(first), Due::Later(after(first))),
        (after(first), Due::Ping(after(second))),
        (just_before(second), Due::Ping(after(second))),
        (after(second), Due::Ping(after(IDLE_MAX))),
        (just_before(IDLE_MAX), Due::Ping(after(IDLE_MAX))),
        (after(IDLE_MAX), Due::Idle),
        (after(IDLE_MAX * 2), Due::Idle),
    ];
    for (now, expected) in cases {
        assert_eq!(session.due(now), expected, "{:?}", now.since(start));
    }
}

/// Goal: the session's end comes first, and no later check is planned beyond it.
#[test]
fn the_end_of_the_session_is_met() {
    let session = ending_after(10);
    assert_eq!(session.due(at(0)), Due::Later(at(10_000)));
    assert_eq!(session.due(at(9_999)), Due::Later(at(10_000)));
    assert_eq!(session.due(at(10_000)), Due::SessionEnd);
    assert_eq!(ending_after(30).due(at(25_000)), Due::Ping(at(30_000)));
    // A client that is silent, too, is told that its session is over.
    assert_eq!(ending_after(60).due(at(60_000)), Due::SessionEnd);
}

/// Goal: any bytes count as a sign of life, a part of a frame too; a closing session's as well.
#[test]
fn any_bytes_are_a_sign_of_life() {
    let later = at(20_000);
    let expected = Due::Later(later.after(PING_INTERVAL));
    for bytes in [&send("a")[..], &send("a")[..1], &frame(PONG, b""), &[0xFF]] {
        let mut connection = Connection::open();
        connection.receive(bytes, later);
        assert_eq!(connection.session.due(later), expected);
        connection.session.begin_close();
        connection.receive(bytes, at(30_000));
        let due = connection.session.due(at(30_000));
        assert_eq!(due, Due::Later(at(30_000).after(PING_INTERVAL)));
    }
}

/// Goal: a shard that asks again when it is told to, and only then, sends two pings to a silent
/// client and drops it at the idle limit.
#[test]
fn a_silent_client_gets_two_pings() {
    let session = ending_after(7200);
    let (mut now, mut pings) = (at(0), 0);
    loop {
        now = match session.due(now) {
            Due::Later(next) => next,
            Due::Ping(next) => {
                pings += 1;
                assert!(pings <= 2, "a third ping");
                next
            }
            Due::Idle => break,
            Due::SessionEnd => panic!("after {now:?}"),
        };
    }
    assert_eq!((pings, now), (2, at(0).after(IDLE_MAX)));
}
