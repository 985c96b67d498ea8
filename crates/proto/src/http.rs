//! The messaging listener's HTTP/1.1: request heads in, upgrade answers and refusals out.
//!
//! The parser is strict where leniency has caused vulnerabilities: folded lines, bare line ends, bodies on an
//! upgrade, repeated or odd headers are refused with 400 and the connection is closed, so no bytes after a
//! head are ever taken for a second request.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::ws::extension::{Agreement, Offers};
use crate::base::id::FrameId;
use crate::base::limits::{HEAD_BYTES_MAX, HEAD_FIELDS_MAX, TOKEN_BYTES_MAX};

/// Why a request head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadFault {
    /// The head is longer than `HEAD_BYTES_MAX`.
    #[error("Request head is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// The head has more than `HEAD_FIELDS_MAX` fields.
    #[error("Request head has more than {HEAD_FIELDS_MAX} fields")]
    TooManyFields,
    /// The head is not HTTP/1.1 as RFC 9112 defines it.
    #[error("Malformed HTTP request head")]
    Malformed,
    /// The version is not HTTP/1.1, so it cannot upgrade.
    #[error("HTTP/1.1 is required")]
    Version,
    /// The method is not GET, or HEAD for a page.
    #[error("Method is not allowed")]
    Method,
    /// A field that must occur once is missing or repeated.
    #[error("Header {0} must appear exactly once")]
    NotOnce(&'static str),
    /// The request has a body.
    #[error("Request must not have a body")]
    Body,
    /// The upgrade is not to WebSocket.
    #[error("Only an upgrade to WebSocket is offered")]
    OtherUpgrade,
    /// The request has `Upgrade: websocket` but not the rest of RFC 6455 §4.2.1.
    #[error("Malformed WebSocket handshake: {0}")]
    Handshake(&'static str),
    /// The WebSocket version is not 13.
    #[error("Only WebSocket version 13 is spoken")]
    WebSocketVersion,
    /// The subprotocol is not a token of RFC 9110 §5.6.2, or more than one, or longer than `TOKEN_BYTES_MAX`.
    #[error(
        "Sec-WebSocket-Protocol must be one chat token of at most {TOKEN_BYTES_MAX} characters"
    )]
    Token,
}

impl HeadFault {
    /// Returns the HTTP status of the refusal.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLong | Self::TooManyFields => 431,
            Self::Version => 505,
            Self::Method => 405,
            Self::OtherUpgrade | Self::WebSocketVersion => 426,
            Self::Malformed | Self::NotOnce(_) | Self::Body | Self::Handshake(_) | Self::Token => {
                400
            }
        }
    }
}

/// Finds the end of a head in bytes that arrive in any pieces, and reads each byte once. It refuses forms that
/// parsers disagree about as soon as they arrive: bare CR or LF, NUL, folded lines.
#[derive(Debug, Default)]
pub struct HeadScanner {
    scanned: usize,
}

impl HeadScanner {
    /// Returns the head's length, including the blank line, once `received` holds it; `received` is all bytes so
    /// far.
    pub fn scan(&mut self, received: &[u8]) -> Result<Option<usize>, HeadFault> {
        // A client with another protocol should not have to wait for the deadline.
        if received
            .first()
            .is_some_and(|first| !first.is_ascii_uppercase())
        {
            return Err(HeadFault::Malformed);
        }
        let within = &received[..received.len().min(HEAD_BYTES_MAX)];
        let mut at = self.scanned;
        while at < within.len() {
            if !matches!(within[..at], [.., b'\r' | b'\n']) {
                at += ordinary_len(&within[at..]);
            }
            let Some(byte) = within.get(at) else { break };
            match (&within[..at], byte) {
                ([.., b'\r', b'\n', b'\r'], b'\n') => return Ok(Some(at + 1)),
                ([.., b'\r'], b'\n') => {}
                (_, b'\n' | 0) | ([.., b'\r'], _) | ([.., b'\n'], b' ' | b'\t') => {
                    return Err(HeadFault::Malformed);
                }
                _ => {}
            }
            at += 1;
        }
        self.scanned = within.len();
        if received.len() > HEAD_BYTES_MAX {
            return Err(HeadFault::TooLong);
        }
        Ok(None)
    }
}

/// Returns the length of the part before the first CR, LF or NUL; checks sixteen bytes at a time.
fn ordinary_len(bytes: &[u8]) -> usize {
    let is_special = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
    let (chunks, _) = bytes.as_chunks::<16>();
    let ordinary = chunks
        .iter()
        // No short circuit, so that the compiler compares sixteen bytes at once.
        .take_while(|chunk| !chunk.iter().fold(false, |any, byte| any | is_special(byte)))
        .count()
        * 16;
    let rest = bytes[ordinary..].iter().position(is_special);
    rest.map_or(bytes.len(), |at| ordinary + at)
}

/// Hands `read` the values of the field `name` in the order of the head, which must be whole, as
/// [`HeadScanner`] delimits it.
///
/// # Errors
///
/// The errors of [`parse`] about fields.
pub fn field_values(
    head: &[u8],
    name: &'static str,
    read: impl FnOnce(&mut dyn DoubleEndedIterator<Item = &[u8]>),
) -> Result<(), HeadFault> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooManyFields),
        Ok(httparse::Status::Partial) | Err(_) => return Err(HeadFault::Malformed),
    }
    let named = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
    read(
        &mut request
            .headers
            .iter()
            .filter(named)
            .map(|field| field.value),
    );
    Ok(())
}

/// The request of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// A WebSocket handshake.
    Upgrade(Upgrade<'a>),
    /// A request for a page; no field of the head belongs to an upgrade.
    Plain {
        /// `GET` or `HEAD`.
        method: &'a str,
        /// Path and query.
        target: &'a str,
    },
}

/// A WebSocket handshake (RFC 6455 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// `Sec-WebSocket-Key`.
    pub key: &'a str,
    /// The only offered subprotocol: the chat token.
    pub token: Option<&'a str>,
    /// `Origin`, which browsers send.
    pub origin: Option<&'a str>,
    /// Path and query.
    pub target: &'a str,
    /// The offers of compression.
    pub offers: Offers,
}

/// Parses a whole head, as [`HeadScanner`] delimits it.
pub fn parse(head: &[u8]) -> Result<Request<'_>, HeadFault> {
    if HeadScanner::default().scan(head)? != Some(head.len()) {
        return Err(HeadFault::Malformed);
    }
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooManyFields),
        Err(httparse::Error::Version) => return Err(HeadFault::Version),
        Ok(httparse::Status::Partial) | Err(_) => return Err(HeadFault::Malformed),
    }
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(HeadFault::Malformed);
    };
    let fields = Fields(request.headers);
    if version != 1 {
        return Err(HeadFault::Version);
    }
    fields.once("Host")?;
    if fields.has("Transfer-Encoding") || fields.all("Content-Length").any(|value| value != b"0") {
        return Err(HeadFault::Body);
    }
    if fields.all("Content-Length").count() > 1 {
        return Err(HeadFault::NotOnce("Content-Length"));
    }
    if !matches!(method, "GET" | "HEAD") {
        return Err(HeadFault::Method);
    }
    if !fields.want_upgrade() {
        return Ok(Request::Plain { method, target });
    }
    if method != "GET" {
        return Err(HeadFault::Method);
    }
    if !fields.lists("Upgrade", "websocket") {
        return Err(HeadFault::OtherUpgrade);
    }
    upgrade(&fields, target).map(Request::Upgrade)
}

/// The key's last character may have meaningless bits set, as in RFC 6455's own example.
const KEY: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

fn upgrade<'a>(fields: &Fields<'_, 'a>, target: &'a str) -> Result<Upgrade<'a>, HeadFault> {
    if !fields.lists("Connection", "upgrade") {
        return Err(HeadFault::Handshake("Connection must list Upgrade"));
    }
    if fields.once("Sec-WebSocket-Version")? != b"13" {
        return Err(HeadFault::WebSocketVersion);
    }
    let key = text(fields.once("Sec-WebSocket-Key")?)
        .filter(|key| KEY.decode(key).is_ok_and(|bytes| bytes.len() == 16))
        .ok_or(HeadFault::Handshake(
            "Sec-WebSocket-Key must be 16 bytes in base64",
        ))?;
    let token = match fields
        .at_most_once("Sec-WebSocket-Protocol")
        .map_err(|_| HeadFault::Token)?
    {
        None | Some(b"") => None,
        Some(value) => Some(token(value).ok_or(HeadFault::Token)?),
    };
    let origin = fields.at_most_once("Origin")?.and_then(text);
    let mut offers = Offers::default();
    for field in fields.all("Sec-WebSocket-Extensions") {
        offers.read(field);
    }
    Ok(Upgrade {
        key,
        token,
        origin,
        target,
        offers,
    })
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.is_ascii())
}

/// Parses a list of one token (RFC 9110 §5.6.2). The list may have empty elements, which a recipient must ignore
/// (§5.6.1.2).
fn token(value: &[u8]) -> Option<&str> {
    let mut elements = value
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty());
    let value = elements.next().filter(|_| elements.next().is_none())?;
    (value.len() <= TOKEN_BYTES_MAX && value.iter().all(|byte| IS_TOKEN[usize::from(*byte)]))
        .then(|| text(value))
        .flatten()
}

/// Whether a byte is a `tchar` of RFC 9110.
const IS_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut marks: &[u8] = b"!#$%&'*+-.^_`|~";
    while let [mark, rest @ ..] = marks {
        table[*mark as usize] = true;
        marks = rest;
    }
    table
};

struct Fields<'f, 'a>(&'f [httparse::Header<'a>]);

impl<'a> Fields<'_, 'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|f| f.value)
    }

    fn has(&self, name: &'static str) -> bool {
        self.all(name).next().is_some()
    }

    fn at_most_once(&self, name: &'static str) -> Result<Option<&'a [u8]>, HeadFault> {
        let mut all = self.all(name);
        let first = all.next();
        if all.next().is_some() {
            Err(HeadFault::NotOnce(name))
        } else {
            Ok(first)
        }
    }

    fn once(&self, name: &'static str) -> Result<&'a [u8], HeadFault> {
        self.at_most_once(name)?.ok_or(HeadFault::NotOnce(name))
    }

    /// Whether any field belongs to an upgrade. Half a handshake comes from a broken client, or a proxy that dropped
    /// the rest; a page would hide that.
    fn want_upgrade(&self) -> bool {
        const WEB_SOCKET: &str = "Sec-WebSocket-";
        self.has("Upgrade")
            || self.lists("Connection", "upgrade")
            || self.0.iter().any(|field| {
                let start = field.name.get(..WEB_SOCKET.len());
                start.is_some_and(|start| start.eq_ignore_ascii_case(WEB_SOCKET))
            })
    }

    /// Whether a comma-separated field lists `item`, in any letter case.
    fn lists(&self, name: &'static str, item: &str) -> bool {
        self.all(name).any(|value| {
            value
                .split(|byte| *byte == b',')
                .any(|part| part.trim_ascii().eq_ignore_ascii_case(item.as_bytes()))
        })
    }
}

/// Appends the `101` answer. It repeats the token verbatim, once: without it every browser and every Node
/// client fails the handshake.
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

/// Whether a first byte on a TLS port is that of a request without TLS: a method begins with a letter, a TLS record
/// with 20 to 24.
pub fn is_without_tls(first_byte: u8) -> bool {
    first_byte.is_ascii_uppercase()
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

/// A page loads scripts, styles and data from this listener only, and cannot be framed. The WebSocket schemes
/// are for browsers whose `'self'` does not cover them.
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
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let plain = "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n";
        let page = Request::Plain {
            method: "GET",
            target: "/",
        };
        assert_eq!(parse(plain.as_bytes()), Ok(page));
        for hint in [
            "Upgrade: h2c",
            "Connection: upgrade",
            "sec-websocket-protocol: t",
            "Sec-WebSocket-Key: k",
        ] {
            let text = plain.replace("Host: h", &format!("Host: h\r\n{hint}"));
            let fault = parse(text.as_bytes()).expect_err(hint);
            assert_eq!(fault, HeadFault::OtherUpgrade, "{hint}");
        }
        let mut out = Vec::new();
        super::plain(&mut out, 426, "text/plain", b"");
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
}
