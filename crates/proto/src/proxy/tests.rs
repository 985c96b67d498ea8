use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn trusted(header: ForwardedHeader) -> TrustedProxies {
    let networks = ["10.0.0.0/8", "127.0.0.1", "2001:db8::/32"];
    let parse = |text: &&str| TrustedProxies::parse_network(text).expect("a network");
    TrustedProxies::new(networks.iter().map(parse).collect(), header)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn viewer(header: ForwardedHeader, peer: &str, values: &[&str]) -> String {
    let values = values.iter().map(|value| value.as_bytes());
    trusted(header).viewer(ip(peer), values).to_string()
}

/// Goal: the viewer is the peer of the last trusted proxy; values of other writers are ignored.
#[test]
fn x_forwarded_for_is_walked_from_the_right() {
    let x = |peer, values: &[&str]| viewer(ForwardedHeader::XForwardedFor, peer, values);
    // The peer is not trusted, so the value is forged.
    assert_eq!(x("192.0.2.9", &["203.0.113.1"]), "192.0.2.9");
    assert_eq!(x("127.0.0.2", &["203.0.113.1"]), "127.0.0.2");
    assert_eq!(x("127.0.0.1", &["203.0.113.1"]), "203.0.113.1");
    assert_eq!(x("127.0.0.1", &[]), "127.0.0.1");
    // The client wrote the first one itself; the proxy appended the second.
    assert_eq!(x("127.0.0.1", &["1.2.3.4, 203.0.113.1"]), "203.0.113.1");
    assert_eq!(x("127.0.0.1", &["1.2.3.4", "203.0.113.1"]), "203.0.113.1");
    // Two proxies.
    assert_eq!(
        x("127.0.0.1", &["1.2.3.4, 203.0.113.1 ,\t10.1.2.3"]),
        "203.0.113.1"
    );
    assert_eq!(x("127.0.0.1", &["203.0.113.1", "10.1.2.3"]), "203.0.113.1");
    // All are trusted: an internal client.
    assert_eq!(x("127.0.0.1", &["10.0.0.7, 10.1.2.3"]), "10.0.0.7");
    // Ports, brackets, IPv6, an IPv4 address in IPv6.
    assert_eq!(x("127.0.0.1", &["203.0.113.1:4711"]), "203.0.113.1");
    assert_eq!(x("127.0.0.1", &["[2001:470::1]:4711"]), "2001:470::1");
    assert_eq!(x("127.0.0.1", &["[2001:470::1]"]), "2001:470::1");
    assert_eq!(x("2001:db8::1", &["2001:470::1"]), "2001:470::1");
    assert_eq!(x("127.0.0.1", &["::ffff:203.0.113.1"]), "203.0.113.1");
    // A value that cannot be parsed ends the walk.
    for odd in [
        "",
        "unknown",
        "_hidden",
        "203.0.113.1.",
        "[203.0.113.1]",
        "localhost",
        "\u{e9}",
    ] {
        assert_eq!(
            x("127.0.0.1", &["203.0.113.1", odd]),
            "127.0.0.1",
            "{odd:?}"
        );
    }
    // Without trusted proxies no value is read.
    let none = TrustedProxies::default();
    assert_eq!(
        none.viewer(ip("127.0.0.1"), [&b"1.2.3.4"[..]].into_iter()),
        ip("127.0.0.1")
    );
}

/// Goal: the forms of RFC 7239 are understood.
#[test]
fn forwarded_is_understood() {
    let f = |value: &str| viewer(ForwardedHeader::Forwarded, "127.0.0.1", &[value]);
    assert_eq!(f("for=192.0.2.43"), "192.0.2.43");
    assert_eq!(f("For=\"[2001:470:cafe::17]:4711\""), "2001:470:cafe::17");
    assert_eq!(f("for=192.0.2.60;proto=http;by=203.0.113.43"), "192.0.2.60");
    assert_eq!(f("by=203.0.113.43; for=\"192.0.2.60:80\""), "192.0.2.60");
    assert_eq!(f("for=192.0.2.43, for=10.1.1.1"), "192.0.2.43");
    for odd in [
        "for=_gazonk",
        "for=unknown",
        "proto=http",
        "for=1.2.3.4;for=5.6.7.8",
        "for=\"1.2.3.4",
        "1.2.3.4",
    ] {
        assert_eq!(f(odd), "127.0.0.1", "{odd}");
    }
    // The other field comes from the client.
    assert_eq!(
        viewer(
            ForwardedHeader::XForwardedFor,
            "127.0.0.1",
            &["for=192.0.2.43"]
        ),
        "127.0.0.1"
    );
}

#[test]
fn networks_are_addresses_or_prefixes() {
    for text in ["10.0.0.0/8", "10.0.0.1", "::1", "2001:db8::/32"] {
        assert!(TrustedProxies::parse_network(text).is_some(), "{text}");
    }
    for text in [
        "",
        "10.0.0.0/33",
        "10.0.0",
        "localhost",
        "10.0.0.1:80",
        "/8",
    ] {
        assert!(TrustedProxies::parse_network(text).is_none(), "{text}");
    }
}

fn v2(command: u8, family: u8, addresses: &[u8], extra: &[u8]) -> Vec<u8> {
    let len = u16::try_from(addresses.len() + extra.len()).expect("short");
    let mut header = V2.to_vec();
    header.extend([0x20 | command, family]);
    header.extend(len.to_be_bytes());
    header.extend_from_slice(addresses);
    header.extend_from_slice(extra);
    header
}

fn v2_of(source: Ipv4Addr, extra: &[u8]) -> Vec<u8> {
    let mut addresses = source.octets().to_vec();
    addresses.extend([10, 0, 0, 1, 0x12, 0x34, 0, 80]);
    v2(1, 0x11, &addresses, extra)
}

fn v6_of(source: Ipv6Addr) -> Vec<u8> {
    let mut addresses = source.octets().to_vec();
    addresses.extend([0; 20]);
    v2(1, 0x21, &addresses, b"")
}

/// Goal: both versions, the proxy's own connections, and other bytes are told apart.
#[test]
fn proxy_headers_are_read() {
    let header = |bytes: &[u8]| match preface(bytes) {
        Ok(Preface::Header { len, source }) => {
            assert_eq!(len, bytes.len());
            source
        }
        other => panic!("{other:?} of {bytes:?}"),
    };
    let client = Some(ip("203.0.113.1"));
    assert_eq!(
        header(b"PROXY TCP4 203.0.113.1 10.0.0.1 52953 443\r\n"),
        client
    );
    assert_eq!(
        header(b"PROXY TCP6 ::ffff:203.0.113.1 ::1 52953 443\r\n"),
        client
    );
    assert_eq!(
        header(b"PROXY TCP6 2001:470::1 ::1 1 2\r\n"),
        Some(ip("2001:470::1"))
    );
    assert_eq!(header(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(header(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), None);
    assert_eq!(header(&v2_of(Ipv4Addr::new(203, 0, 113, 1), b"")), client);
    // A field of type 4 (NOOP) of 3 bytes, as fillers and load balancers send.
    assert_eq!(
        header(&v2_of(Ipv4Addr::new(203, 0, 113, 1), b"\x04\0\x03abc")),
        client
    );
    assert_eq!(
        header(&v6_of("2001:470::1".parse().expect("v6"))),
        Some(ip("2001:470::1"))
    );
    // LOCAL: a health check, with and without addresses.
    assert_eq!(header(&v2(0, 0, b"", b"")), None);
    assert_eq!(header(&v2(0, 0x11, &[1; 12], b"")), None);
    for other in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01",
        b"PRI * HTTP/2.0",
        b"PROXIES",
        b"POST / ",
    ] {
        assert_eq!(preface(other), Ok(Preface::Absent), "{other:?}");
    }
    for short in [
        &b""[..],
        b"P",
        b"PROXY",
        b"PROXY ",
        b"\r\n\r\n\0",
        b"PROXY TCP4 203.0.113.1",
    ] {
        assert_eq!(preface(short), Ok(Preface::Incomplete), "{short:?}");
    }
    let mut endless = b"PROXY UNKNOWN ".to_vec();
    endless.resize(300, b'x');
    endless.extend(b"\r\n");
    let mut huge = v2(1, 0x11, &[1; 12], &vec![0; 60_000]);
    for bad in [
        &b"PROXY TCP4 203.0.113.256 10.0.0.1 52953 443\r\n"[..],
        b"PROXY TCP4 203.0.113.1 10.0.0.1 70000 443\r\n",
        b"PROXY TCP5 203.0.113.1 10.0.0.1 52953 443\r\n",
        b"PROXY TCP4 203.0.113.1 10.0.0.1 52953 443\rGET",
        b"PROXY TCP4  203.0.113.1 10.0.0.1 52953 443\r\n",
        b"PROXY TCP4 2001:470::1 ::1 52953 443\r\n",
        &endless,
        &huge,
        &v2(2, 0x11, &[1; 12], b""),
        &v2(1, 0x11, &[1; 11], b""),
        &v2(1, 0x41, &[1; 12], b""),
    ] {
        assert_eq!(
            preface(bad),
            Err(PrefaceFault),
            "{}",
            String::from_utf8_lossy(bad)
        );
    }
    // It is refused before all of it has arrived.
    huge.truncate(V2_FIXED_BYTES);
    assert_eq!(preface(&huge), Err(PrefaceFault));
}

proptest! {
    /// Goal: no bytes panic, and the verdict does not depend on their pieces: once there is one,
    /// more bytes keep it.
    #[test]
    fn a_verdict_stands(
        start in prop::sample::select(vec![&b""[..], V1, V2, b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [start, &rest].concat();
        let mut verdict = Ok(Preface::Incomplete);
        for end in 0..=bytes.len() {
            let now = preface(&bytes[..end]);
            if verdict != Ok(Preface::Incomplete) {
                prop_assert_eq!(now, verdict, "{}", end);
            }
            verdict = now;
            if let Ok(Preface::Header { len, .. }) = now {
                prop_assert!(len <= end);
            }
        }
    }

    /// Goal: no value of an untrusted peer changes the verdict; behind a trusted proxy no value
    /// before the one it appended does.
    #[test]
    fn forged_values_change_nothing(
        forged in prop::collection::vec("[ -~]{0,40}", 0..4),
        stranger in any::<[u8; 4]>().prop_filter("not trusted", |ip| ip[0] != 10 && ip[0] != 127),
        uses_x in any::<bool>(),
    ) {
        let header = if uses_x { ForwardedHeader::XForwardedFor } else { ForwardedHeader::Forwarded };
        let stranger = IpAddr::from(stranger);
        let trusted = trusted(header);
        let values = || forged.iter().map(String::as_bytes);
        prop_assert_eq!(trusted.viewer(stranger, values()), stranger);
        let appended = if uses_x { stranger.to_string() } else { format!("for={stranger}") };
        let all: Vec<&[u8]> = values().chain([appended.as_bytes()]).collect();
        prop_assert_eq!(trusted.viewer(ip("127.0.0.1"), all.into_iter()), stranger);
        let joined = format!("{},{appended}", forged.join(","));
        let one = [joined.as_bytes()];
        prop_assert_eq!(trusted.viewer(ip("127.0.0.1"), one.into_iter()), stranger);
    }
}
