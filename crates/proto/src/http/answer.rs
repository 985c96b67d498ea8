//! Answers: the upgrade, refusals, pages.

#![expect(
    clippy::indexing_slicing,
    reason = "the caller names where its answer begins in the same buffer"
)]

use std::fmt::Write;

use crate::base::id::FrameId;
use crate::ws::extension::Agreement;

/// Appends the `101` answer. It repeats the token verbatim, once: without it every browser and
/// every Node client fails the handshake.
pub fn switching_protocols(
    out: &mut Vec<u8>,
    key: &str,
    token: Option<&str>,
    agreement: Option<Agreement>,
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: ",
    );
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    out.extend_from_slice(accept.as_bytes());
    if let Some(token) = token {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(token.as_bytes());
    }
    if let Some(agreement) = agreement {
        out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
        agreement.answer(out);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Appends a refusal in the form of IVS Chat's error frames; the connection closes after it.
pub fn refusal(out: &mut Vec<u8>, status: u16, id: FrameId, code: u16, message: &str) {
    let mut body = format!(
        r#"{{"Type":"ERROR","Id":"{id}","RequestId":"","ErrorCode":{code},"ErrorMessage":""#
    );
    for character in message.chars() {
        match character {
            '"' | '\\' => body.extend(['\\', character]),
            '\0'..' ' => body.push(' '),
            _ => body.push(character),
        }
    }
    body.push_str("\"}");
    plain(out, status, "application/json", body.as_bytes());
}

/// Appends a whole answer; the connection closes after it.
pub fn plain(out: &mut Vec<u8>, status: u16, content_type: &str, body: &[u8]) {
    // RFC 9110 §15.5.22 and RFC 6455 §4.4: the answer names the accepted protocol or version.
    let (instead, option) = match status {
        426 => (
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "Upgrade, ",
        ),
        _ => ("", ""),
    };
    let mut head = format!("HTTP/1.1 {status} {}\r\n{instead}", reason(status));
    let length = body.len();
    let _infallible = write!(
        head,
        "Content-Type: {content_type}\r\nContent-Length: {length}\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: {CONTENT_SECURITY}\r\nReferrer-Policy: no-referrer\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: {option}close\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body);
}

/// Cuts the body off the answer that begins at `start`, for HEAD (RFC 9110 §9.3.2).
pub fn cut_body(out: &mut Vec<u8>, start: usize) {
    const BLANK: &[u8] = b"\r\n\r\n";
    let blank = out[start..]
        .windows(BLANK.len())
        .position(|four| four == BLANK);
    if let Some(at) = blank {
        out.truncate(start + at + BLANK.len());
    }
}

/// A page loads scripts, styles and data from this listener only, and cannot be framed. The
/// WebSocket schemes are for browsers whose `'self'` does not cover them.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}
