use super::*;
use crate::config::{Flags, Mode, load};
use std::io::{Read, Write};
use std::net::TcpStream;

/// Settings of `uproar dev` with these ports; port 0: any.
fn settings(messaging: SocketAddr, shards: usize) -> Settings {
    let mut settings = load(Mode::DEV, &Flags::default(), std::iter::empty())
        .expect("the defaults are valid")
        .settings;
    settings.control_listen = "127.0.0.1:0".parse().expect("an address");
    settings.messaging_listen = messaging;
    settings.shard.shard_count = shards;
    settings
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().expect("an address")
}

fn listeners(settings: &Settings, inherited: Inherited) -> Listeners {
    Listeners::inherited_or_bound(settings, inherited, &Notifier::default()).expect("loopback")
}

fn names(listeners: &Listeners) -> Vec<String> {
    let named = listeners.named().expect("a few descriptors");
    named.into_iter().map(|(name, _)| name).collect()
}

/// Goal: only this process's variables count, and what they leave out is no error.
#[test]
fn the_variables_name_what_was_passed_to_this_process() {
    let of = |pid, count, text| passed_names(7, pid, count, text);
    let (seven, two) = (Some("7"), Some("2"));
    assert_eq!(
        of(seven, two, Some("control:messaging-0")),
        ["control", "messaging-0"]
    );
    assert_eq!(of(seven, two, Some("control")), ["control", ""]);
    assert_eq!(of(seven, two, None), ["", ""]);
    for (pid, count) in [
        (Some("8"), two),
        (None, two),
        (seven, None),
        (seven, Some("-1")),
    ] {
        assert!(of(pid, count, Some("control")).is_empty());
    }
    let hostile = of(seven, Some("4294967295"), None);
    assert_eq!(hostile.len(), INHERITED_LISTENERS_MAX);
}

/// Goal: a successor takes the same sockets, whatever their order and whatever its number of shards, and a client
/// that waited at one of them is accepted. Method: hand them over from a start to the next, reversed.
#[test]
fn sockets_pass_from_start_to_start() {
    let mut last = listeners(&settings(any(), 2), Inherited::default());
    assert_eq!(names(&last), ["control", "messaging-0", "messaging-1"]);
    let control = last
        .control()
        .expect("a descriptor")
        .local_addr()
        .expect("bound");
    let messaging = last.messaging[0].socket.local_addr().expect("bound");
    let mut client = TcpStream::connect(messaging).expect("listening");
    client.write_all(b"G").expect("open");
    for (shards, kept, all) in [(3, 3, 4), (1, 4, 4), (2, 4, 4)] {
        let mut wanted = settings(messaging, shards);
        wanted.control_listen = control;
        let mut named = last.named().expect("a few descriptors");
        named.reverse();
        last = listeners(&wanted, Inherited::of_named(named));
        assert_eq!((last.inherited, names(&last).len()), (kept, all));
        let dealt = last.messaging(shards).expect("a few descriptors");
        assert_eq!(dealt.count(), (all - 1).max(shards));
    }
    let accept = |named: &Named| {
        named.socket.set_nonblocking(true).expect("a socket");
        named.socket.accept().ok()
    };
    let (mut accepted, _) = last.messaging.iter().find_map(accept).expect("it waited");
    let mut byte = [0];
    accepted.set_nonblocking(false).expect("a socket");
    accepted.read_exact(&mut byte).expect("sent");
    assert_eq!(&byte, b"G");
}

/// Goal: sockets of a `.socket` unit, whose names are its own, are told apart by their addresses, and shards share
/// them if no others may be bound beside them. Method: listeners without `SO_REUSEPORT`, as systemd makes them.
#[test]
fn sockets_of_a_socket_unit_are_taken_by_address() {
    let foreign = [any(), any()].map(|address| TcpListener::bind(address).expect("loopback"));
    let addresses = foreign
        .each_ref()
        .map(|socket| socket.local_addr().expect("bound"));
    let mut wanted = settings(addresses[0], 3);
    wanted.control_listen = addresses[1];
    let passed = foreign.map(|socket| ("uproar.socket".to_owned(), OwnedFd::from(socket)));
    let taken = listeners(&wanted, Inherited::of_named(passed.into()));
    assert_eq!((taken.inherited, taken.messaging.len()), (2, 1));
    assert_eq!(taken.messaging(3).expect("a few descriptors").count(), 3);
    let bound = taken
        .control()
        .expect("a descriptor")
        .local_addr()
        .expect("bound");
    assert_eq!(bound, addresses[1]);
}

/// Goal: what does not fit is closed, and others are bound: a changed port, a socket that listens nowhere, a file.
#[test]
fn what_does_not_fit_is_replaced() {
    let first = listeners(&settings(any(), 1), Inherited::default());
    let old = first.messaging[0].socket.local_addr().expect("bound");
    let mut passed = first.named().expect("a few descriptors");
    drop(first);
    let (stream, _) = std::os::unix::net::UnixStream::pair().expect("two descriptors");
    passed.push(("messaging-1".to_owned(), stream.into()));
    let file = std::fs::File::open("/dev/null").expect("always there");
    passed.push(("messaging-2".to_owned(), file.into()));
    let elsewhere = "127.0.0.2:0".parse().expect("an address");
    let taken = listeners(&settings(elsewhere, 1), Inherited::of_named(passed));
    assert_eq!(taken.inherited, 1, "the control listener, at any port");
    assert_eq!(names(&taken), ["control", "messaging-0"]);
    let bound = taken.messaging[0].socket.local_addr().expect("bound");
    assert_eq!(bound.ip(), elsewhere.ip());
    assert!(
        TcpStream::connect(old).is_err(),
        "nobody listens there any more"
    );
}
