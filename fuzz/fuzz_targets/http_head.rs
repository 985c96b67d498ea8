//! Request heads of both listeners: how the bytes arrive changes nothing, and what is let in has one meaning.
//!
//! Input: four piece lengths, then the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use uproar_proto::base::id::FrameId;
use uproar_proto::framing::{Doubt, Framing};
use uproar_proto::http::{self, HeadFault, HeadScanner, Request};

fuzz_target!(|data: &[u8]| {
    let Some((lengths, stream)) = data.split_first_chunk::<4>() else {
        return;
    };
    let doubt = Framing::default().read(stream).err();
    let doubt = doubt.map(|raised| (raised.at, raised.doubt));
    assert_eq!(doubt, doubt_in_pieces(lengths, stream));
    let whole = HeadScanner::default().scan(stream);
    assert_eq!(whole, in_pieces(lengths, stream));
    let Ok(Some(end)) = whole else { return };
    // Values may hold bytes above 0x7F (RFC 9110 §5.5); nothing looked at here does.
    let head = &*String::from_utf8_lossy(&stream[..end]);
    if doubt.is_none_or(|(at, _)| at >= end) {
        let lengths = values(head, "content-length");
        let codings = values(head, "transfer-encoding");
        assert!(lengths.len() + codings.len() <= 1, "{head}");
        let is_digits = |length: &&str| length.bytes().all(|byte| byte.is_ascii_digit());
        assert!(lengths.iter().all(is_digits), "{head}");
    }
    match http::parse(&stream[..end]) {
        Ok(Request::Upgrade(upgrade)) => {
            assert_eq!(values(head, "host").len(), 1);
            assert_eq!(values(head, "sec-websocket-key"), [upgrade.key]);
            // Empty elements of a list count for nothing (RFC 9110, 5.6.1.2).
            let listed = values(head, "sec-websocket-protocol");
            let elements = listed.iter().flat_map(|list| list.split(','));
            let token: Vec<&str> = elements
                .map(|element| element.trim_matches([' ', '\t']))
                .filter(|element| !element.is_empty())
                .collect();
            assert_eq!(token.concat(), upgrade.token.unwrap_or_default());
            let mut answer = Vec::new();
            let agreement = upgrade.offers.agree(12, 12);
            http::switching_protocols(&mut answer, upgrade.key, upgrade.token, agreement);
            let answer = String::from_utf8(answer).expect("ASCII");
            assert_eq!(
                values(&answer, "sec-websocket-protocol").concat(),
                token.concat()
            );
            // No answer that was not asked for.
            let offered = values(head, "sec-websocket-extensions").concat();
            let answered = values(&answer, "sec-websocket-extensions").concat();
            assert_eq!(answered.is_empty(), agreement.is_none());
            if agreement.is_some() {
                assert!(offered.to_lowercase().contains("permessage-deflate"));
                assert_eq!(
                    answered.contains("server_max_window_bits=12"),
                    answered.contains("server_max_window_bits")
                );
            }
            assert!(
                answer
                    .find("\r\n\r\n")
                    .is_some_and(|at| at + 4 == answer.len())
            );
        }
        Ok(Request::Plain { method, .. }) => {
            assert!(matches!(method, "GET" | "HEAD"));
            assert!(values(head, "upgrade").is_empty());
            assert!(values(head, "sec-websocket-key").is_empty());
            assert!(values(head, "transfer-encoding").is_empty());
        }
        Err(fault) => {
            let mut answer = Vec::new();
            let id = FrameId::parse("AAAAAAAAAAAA").expect("twelve letters");
            http::refusal(&mut answer, fault.status(), id, 400, &fault.to_string());
            let answer = String::from_utf8(answer).expect("ASCII");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert_eq!(values(head, "content-length"), [body.len().to_string()]);
        }
    }
});

/// The first doubt, and where in the stream, when that arrives in pieces of these lengths.
fn doubt_in_pieces(lengths: &[u8; 4], stream: &[u8]) -> Option<(usize, Doubt)> {
    let (mut framing, mut start) = (Framing::default(), 0);
    for length in lengths.iter().cycle() {
        let end = (start + usize::from(*length) + 1).min(stream.len());
        if let Err(raised) = framing.read(&stream[start..end]) {
            return Some((start + raised.at, raised.doubt));
        }
        if end == stream.len() {
            return None;
        }
        start = end;
    }
    unreachable!("four lengths cycle for ever")
}

/// What the scanner says when the stream arrives in pieces of these lengths.
fn in_pieces(lengths: &[u8; 4], stream: &[u8]) -> Result<Option<usize>, HeadFault> {
    let (mut scanner, mut received) = (HeadScanner::default(), 0);
    for length in lengths.iter().cycle() {
        received = (received + usize::from(*length) + 1).min(stream.len());
        let said = scanner.scan(&stream[..received]);
        if said != Ok(None) || received == stream.len() {
            return said;
        }
    }
    unreachable!("four lengths cycle for ever")
}

/// The values of a field, by a reader that knows nothing but lines.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let fields = head
        .split("\r\n")
        .skip(1)
        .filter_map(|line| line.split_once(':'));
    let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    named
        .map(|(_, value)| value.trim_matches([' ', '\t']))
        .collect()
}
