//! Heads of official clients, doubtful heads, any bytes.

use super::*;
use crate::base::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, TOKEN_BYTES_MAX};
use proptest::prelude::*;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn head(extra: &str) -> String {
    format!(
        "GET /chat?x=1 HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{extra}\r\n"
    )
}

/// Goal: the handshakes of the official clients are understood.
#[test]
fn a_handshake_with_a_token_is_understood() {
    let text = head("sec-websocket-protocol: AQICAHtok_en-1!#0\r\nOrigin: http://x\r\n");
    let Ok(Request::Upgrade(upgrade)) = parse(text.as_bytes()) else {
        panic!("valid")
    };
    assert_eq!(upgrade.token, Some("AQICAHtok_en-1!#0"));
    assert_eq!(
        (upgrade.origin, upgrade.target),
        (Some("http://x"), "/chat?x=1")
    );
    let mut out = Vec::new();
    switching_protocols(&mut out, upgrade.key, upgrade.token, None);
    let out = String::from_utf8(out).expect("ASCII");
    assert!(!out.contains("Extensions"), "{out}");
    assert!(
        out.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{out}"
    );
    assert_eq!(out.matches("AQICAHtok_en-1!#0").count(), 1);
}

/// Goal: an offer of compression is found in any of several fields, and answered once.
#[test]
fn compression_is_negotiated_across_fields() {
    let text = head(
        "Sec-WebSocket-Extensions: foo, permessage-deflate; server_max_window_bits=9\r\n\
         sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n",
    );
    let Ok(Request::Upgrade(upgrade)) = parse(text.as_bytes()) else {
        panic!("valid")
    };
    let mut out = Vec::new();
    let agreement = upgrade.offers.agree(12, 12);
    switching_protocols(&mut out, upgrade.key, None, agreement);
    let out = String::from_utf8(out).expect("ASCII");
    let line = "\r\nSec-WebSocket-Extensions: permessage-deflate; \
                server_no_context_takeover; client_no_context_takeover\r\n\r\n";
    assert!(out.ends_with(line), "{out}");
}

/// Goal: all forms that parsers are known to disagree about are refused, with the right status.
#[test]
fn doubtful_heads_are_refused() {
    let long = format!("X: {}\r\n", "a".repeat(HEAD_BYTES_MAX));
    let many = "X: y\r\n".repeat(HEAD_FIELDS_MAX);
    let token = format!(
        "Sec-WebSocket-Protocol: {}\r\n",
        "a".repeat(TOKEN_BYTES_MAX + 1)
    );
    let cases: &[(&str, u16)] = &[
        ("Sec-WebSocket-Protocol: a, b\r\n", 400),
        (
            "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n",
            400,
        ),
        ("Sec-WebSocket-Protocol: a b\r\n", 400),
        ("Sec-WebSocket-Protocol: t\u{e9}\r\n", 400),
        ("Sec-WebSocket-Protocol: ,,,,\r\n", 400),
        ("Content-Length: 5\r\n", 400),
        ("Content-Length: 0\r\nContent-Length: 0\r\n", 400),
        ("Transfer-Encoding: chunked\r\n", 400),
        ("X: a\r\n folded\r\n", 400),
        ("X: a\nY: b\r\n", 400),
        ("X: a\rY: b\r\n", 400),
        ("X: a\0b\r\n", 400),
        ("X : a\r\n", 400),
        ("Host: twice\r\n", 400),
        (&many, 431),
        (&token, 400),
    ];
    for (extra, status) in cases {
        let fault = parse(head(extra).as_bytes()).expect_err(extra);
        assert_eq!(fault.status(), *status, "{extra}");
    }
    let mut scanner = HeadScanner::default();
    let fault = scanner.scan(head(&long).as_bytes()).expect_err("too long");
    assert_eq!(fault.status(), 431);
    let version = head("").replace("Version: 13", "Version: 12");
    assert_eq!(
        parse(version.as_bytes()).expect_err("version").status(),
        426
    );
    let other = head("").replace("WebSocket\r\n", "h2c\r\n");
    assert_eq!(parse(other.as_bytes()).expect_err("h2c").status(), 426);
    let old = head("").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(parse(old.as_bytes()).expect_err("1.0").status(), 505);
    let key = head("").replace(KEY, "short");
    assert_eq!(parse(key.as_bytes()).expect_err("key").status(), 400);
    let post = head("").replace("GET", "POST");
    assert_eq!(parse(post.as_bytes()).expect_err("method").status(), 405);
}

/// Goal: a page answers only requests that cannot have been meant as an upgrade.
#[test]
fn a_request_with_an_upgrade_field_gets_no_page() {
    let text = "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n";
    let page = Request::Plain {
        method: "GET",
        target: "/",
        host: "h",
    };
    assert_eq!(parse(text.as_bytes()), Ok(page));
    for hint in [
        "Upgrade: h2c",
        "Connection: upgrade",
        "sec-websocket-protocol: t",
        "Sec-WebSocket-Key: k",
    ] {
        let text = text.replace("Host: h", &format!("Host: h\r\n{hint}"));
        let fault = parse(text.as_bytes()).expect_err(hint);
        assert_eq!(fault, HeadFault::OtherUpgrade, "{hint}");
    }
    let mut out = Vec::new();
    plain(&mut out, 426, "text/plain", b"");
    let out = String::from_utf8(out).expect("ASCII");
    assert!(out.contains("\r\nUpgrade: websocket\r\n"), "{out}");
    assert!(out.contains("\r\nConnection: Upgrade, close\r\n"), "{out}");
}

/// Goal: a doubtful line is refused when it arrives, not when the head ends or time runs out.
#[test]
fn a_doubtful_line_is_refused_before_the_head_ends() {
    for doubt in ["\n", "\rX", "\0", "\r\n ", "\r\n\t", "\r\n\rX", "\r\n\n"] {
        let text = format!("GET / HTTP/1.1\r\nX: y{doubt}");
        let mut scanner = HeadScanner::default();
        for end in 1..text.len() {
            let so_far = scanner.scan(&text.as_bytes()[..end]);
            assert_eq!(so_far, Ok(None), "{text:?} up to {end}");
        }
        let fault = scanner.scan(text.as_bytes());
        assert_eq!(fault, Err(HeadFault::Malformed), "{text:?}");
    }
}

proptest! {
    /// Goal: the scanner finds the same end however the bytes arrive.
    #[test]
    fn the_end_is_found_in_any_pieces(chunk in 1_usize..40, tail in "[a-z\r\n]{0,20}") {
        let text = head("") + &tail;
        let mut scanner = HeadScanner::default();
        let mut found = None;
        for end in (chunk..text.len() + chunk).step_by(chunk) {
            found = scanner.scan(&text.as_bytes()[..end.min(text.len())]).expect("short");
            if found.is_some() {
                break;
            }
        }
        prop_assert_eq!(found, Some(head("").len()));
    }

    /// Goal: no bytes make the parser panic.
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _refused_or_not = parse(&bytes);
        let mut text = head("").into_bytes();
        let at = bytes.len() % text.len();
        text.splice(at..at, bytes);
        let _refused_or_not = parse(&text);
    }
}
