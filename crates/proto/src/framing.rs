//! Follows byte by byte where the requests of an HTTP/1 connection begin and end (RFC 9112 §6), in
//! front of the HTTP library.
//!
//! A form that parsers are known to disagree about is a doubt: two lengths, a length beside a
//! transfer coding, a coding other than `chunked`, bare line ends, folded lines. A proxy in front
//! of us may see the request end elsewhere (request smuggling), so no bytes after a doubt may be
//! read as a request.
//!
//! Owns: the stream's position in a head or body. Never: targets, other fields, the library's
//! verdict.

#![expect(
    clippy::indexing_slicing,
    reason = "ends come from `position` and `min` on the same slice"
)]

/// The first bytes of HTTP/2 (RFC 9113 §3.4); it has frames, and so no doubts.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes kept of a line. The longest relevant field, a length of 19 digits, has 37 bytes.
const LINE_BYTES_KEPT: usize = 64;

/// Why the end of a request is not certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// A CR without LF, an LF without CR, or a NUL.
    #[error("a bare CR, LF or NUL in the request head")]
    LineEnd,
    /// A line that continues the one before.
    #[error("a folded line in the request head")]
    Folded,
    /// Two `Content-Length`, or one beside `Transfer-Encoding`, or two of the latter.
    #[error("Content-Length and Transfer-Encoding must appear once, and not both")]
    TwoLengths,
    /// A length that is not digits, or has too many.
    #[error("Content-Length must be a number of digits")]
    Length,
    /// A coding other than `chunked` alone.
    #[error("Transfer-Encoding must be chunked")]
    Coding,
}

/// A doubt, and the byte that raised it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised {
    /// The doubt.
    pub doubt: Doubt,
    /// The index of the byte in the given bytes.
    pub at: usize,
}

/// The position of a connection in its requests.
#[derive(Debug)]
pub struct Framing {
    at: At,
    head: Head,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// This many bytes match the beginning of HTTP/2.
    Preface(usize),
    Head,
    /// This many bytes of a body are still to come.
    Body(u64),
    /// No more bytes are examined: HTTP/2, or a chunked body, which ends its connection; see
    /// [`Framing::read`].
    Through,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            at: At::Preface(0),
            head: Head::default(),
        }
    }
}

impl Framing {
    /// Follows `bytes`, the next ones of the connection.
    ///
    /// A request with a chunked body must be the last one answered on its connection: only the HTTP
    /// library finds its end.
    ///
    /// # Errors
    ///
    /// The first doubt; no bytes after it may be read.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Raised> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.at {
                At::Preface(seen) => {
                    if rest[0] == HTTP2_PREFACE[seen] {
                        let seen = seen + 1;
                        self.at = if seen == HTTP2_PREFACE.len() {
                            At::Through
                        } else {
                            At::Preface(seen)
                        };
                        at += 1;
                    } else {
                        // It was the start of a request line; its bytes raise no doubt.
                        self.at = At::Head;
                        for byte in &HTTP2_PREFACE[..seen] {
                            self.head_byte(*byte)
                                .map_err(|doubt| Raised { doubt, at })?;
                        }
                    }
                }
                At::Head => {
                    self.head_byte(rest[0])
                        .map_err(|doubt| Raised { doubt, at })?;
                    at += 1;
                }
                At::Body(left) => {
                    let here = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    at += here;
                    let left = left - u64::try_from(here).expect("64 bits");
                    self.at = if left == 0 { At::Head } else { At::Body(left) };
                }
                At::Through => return Ok(()),
            }
        }
        Ok(())
    }

    fn head_byte(&mut self, byte: u8) -> Result<(), Doubt> {
        let Some(body) = self.head.push(byte)? else {
            return Ok(());
        };
        self.head = Head::default();
        self.at = match body {
            BodyLength::Bytes(0) => At::Head,
            BodyLength::Bytes(length) => At::Body(length),
            BodyLength::Chunked => At::Through,
        };
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyLength {
    Bytes(u64),
    Chunked,
}

/// A request head that is still incomplete.
#[derive(Debug, Default)]
struct Head {
    // The current line, without its end.
    line: Line,
    after_cr: bool,
    has_request_line: bool,
    body: Option<BodyLength>,
}

impl Head {
    /// Takes a byte; at the head's last one returns the length of its body.
    fn push(&mut self, byte: u8) -> Result<Option<BodyLength>, Doubt> {
        match (self.after_cr, byte) {
            (true, b'\n') => {
                self.after_cr = false;
                return self.end_line();
            }
            (true, _) | (false, b'\n' | 0) => return Err(Doubt::LineEnd),
            (false, b'\r') => self.after_cr = true,
            (false, _) => {
                if self.line.len == 0 && self.has_request_line && matches!(byte, b' ' | b'\t') {
                    return Err(Doubt::Folded);
                }
                self.line.push(byte);
            }
        }
        Ok(None)
    }

    fn end_line(&mut self) -> Result<Option<BodyLength>, Doubt> {
        let line = std::mem::take(&mut self.line);
        if line.len == 0 {
            // Empty lines before a request are ignored (RFC 9112 §2.2).
            let over = self.has_request_line;
            return Ok(over.then(|| self.body.unwrap_or(BodyLength::Bytes(0))));
        }
        if !std::mem::replace(&mut self.has_request_line, true) {
            return Ok(None);
        }
        let Some((name, value)) = line.field() else {
            return Ok(None);
        };
        let is_length = name.eq_ignore_ascii_case(b"content-length");
        if !is_length && !name.eq_ignore_ascii_case(b"transfer-encoding") {
            return Ok(None);
        }
        let body = match (is_length, line.whole().then_some(value)) {
            (true, value) => value.and_then(digits).ok_or(Doubt::Length)?,
            (false, Some(value)) if value.eq_ignore_ascii_case(b"chunked") => BodyLength::Chunked,
            (false, _) => return Err(Doubt::Coding),
        };
        match self.body.replace(body) {
            None => Ok(None),
            Some(_) => Err(Doubt::TwoLengths),
        }
    }
}

fn digits(value: &[u8]) -> Option<BodyLength> {
    let is_number = !value.is_empty() && value.len() < 20 && value.iter().all(u8::is_ascii_digit);
    let text = is_number.then(|| std::str::from_utf8(value).ok())??;
    text.parse().ok().map(BodyLength::Bytes)
}

/// The beginning of a line, and the line's length.
#[derive(Debug)]
struct Line {
    kept: [u8; LINE_BYTES_KEPT],
    len: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            kept: [0; LINE_BYTES_KEPT],
            len: 0,
        }
    }
}

impl Line {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.kept.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }

    fn whole(&self) -> bool {
        self.len <= LINE_BYTES_KEPT
    }

    /// Returns the kept part of name and value, without blanks around them.
    fn field(&self) -> Option<(&[u8], &[u8])> {
        let kept = &self.kept[..self.len.min(LINE_BYTES_KEPT)];
        let colon = kept.iter().position(|byte| *byte == b':')?;
        Some((
            without_blanks(&kept[..colon]),
            without_blanks(&kept[colon + 1..]),
        ))
    }
}

/// Trims blanks and tabs only (RFC 9110 §5.6.3).
fn without_blanks(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().take_while(|byte| is_blank(byte)).count();
    let text = &text[start..];
    let end = text.iter().rev().take_while(|byte| is_blank(byte)).count();
    &text[..text.len() - end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(fields: &str, body: &str) -> Vec<u8> {
        format!("POST /ListRooms HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}").into_bytes()
    }

    fn doubt(bytes: &[u8]) -> Option<Doubt> {
        let whole = Framing::default().read(bytes);
        // Byte by byte the verdict is the same, at the same place.
        let mut framing = Framing::default();
        let by_one = bytes
            .iter()
            .enumerate()
            .find_map(|(at, byte)| Some((at, framing.read(&[*byte]).err()?.doubt)));
        assert_eq!(whole.err().map(|raised| (raised.at, raised.doubt)), by_one);
        by_one.map(|(_, doubt)| doubt)
    }

    /// Goal: forms that RFC 9112 leaves to the recipient, or calls invalid, have a verdict.
    #[test]
    fn two_readings_of_a_request_are_a_doubt() {
        use Doubt::{Coding, Folded, Length, LineEnd, TwoLengths};
        for (fields, expected) in [
            ("", None),
            ("Content-Length: 2\r\n", None),
            ("content-length:\t2  \r\n", None),
            ("Transfer-Encoding: Chunked\r\n", None),
            ("X-Content-Length: 1\r\nContent-Length: 2\r\n", None),
            (
                "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
                Some(TwoLengths),
            ),
            (
                "Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 2\r\n",
                Some(TwoLengths),
            ),
            (
                "Content-Length: 2\r\nContent-Length: 3\r\n",
                Some(TwoLengths),
            ),
            (
                "Content-Length: 2\r\nContent-Length: 2\r\n",
                Some(TwoLengths),
            ),
            (
                "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n",
                Some(TwoLengths),
            ),
            ("Content-Length: 2, 2\r\n", Some(Length)),
            ("Content-Length: +2\r\n", Some(Length)),
            ("Content-Length: -2\r\n", Some(Length)),
            ("Content-Length: 0x2\r\n", Some(Length)),
            ("Content-Length: 2 2\r\n", Some(Length)),
            ("Content-Length:\r\n", Some(Length)),
            ("Content-Length: 18446744073709551618\r\n", Some(Length)),
            ("Transfer-Encoding: chunked, identity\r\n", Some(Coding)),
            ("Transfer-Encoding: identity\r\n", Some(Coding)),
            ("Transfer-Encoding: gzip, chunked\r\n", Some(Coding)),
            ("Transfer-Encoding: chunked, chunked\r\n", Some(Coding)),
            ("Transfer-Encoding: \u{b}chunked\r\n", Some(Coding)),
            ("Content-Length: \u{c}2\r\n", Some(Length)),
            ("Transfer-Encoding:\r\n chunked\r\n", Some(Coding)),
            // httparse refuses the blank before the colon; the length is still seen.
            (
                "Content-Length : 2\r\nContent-Length: 3\r\n",
                Some(TwoLengths),
            ),
            ("X: y\r\n Content-Length: 2\r\n", Some(Folded)),
            ("\tX: y\r\n", Some(Folded)),
            ("X: y\nContent-Length: 2\r\n", Some(LineEnd)),
            ("X: y\rContent-Length: 2\r\n", Some(LineEnd)),
            ("X: y\0z\r\n", Some(LineEnd)),
            ("X: y\r\n\nContent-Length: 2\r\n", Some(LineEnd)),
        ] {
            assert_eq!(doubt(&request(fields, "{}")), expected, "{fields:?}");
        }
        let padded = format!("Content-Length: {}2\r\n", " ".repeat(LINE_BYTES_KEPT));
        assert_eq!(doubt(&request(&padded, "{}")), Some(Length));
        assert_eq!(doubt(b"\nGET / HTTP/1.1\r\n\r\n"), Some(LineEnd));
        assert_eq!(doubt(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"), None);
    }

    /// Goal: every head of a connection is examined, no part of a body is taken for one, and all
    /// bytes after the beginning of HTTP/2 pass.
    #[test]
    fn each_head_of_a_connection_is_examined() {
        let inner = "GET / HTTP/1.1\nTransfer-Encoding: x\r\n\r\n";
        let first = request(&format!("Content-Length: {}\r\n", inner.len()), inner);
        let second = request("Content-Length: 1\r\nContent-Length: 2\r\n", "{}");
        assert_eq!(doubt(&[&*first, &*first, b"\r\n", &first].concat()), None);
        assert_eq!(doubt(&[first, second].concat()), Some(Doubt::TwoLengths));
        assert_eq!(doubt(&[HTTP2_PREFACE, b"\n\0\r"].concat()), None);
        for cut in 0..HTTP2_PREFACE.len() {
            let other = [&HTTP2_PREFACE[..cut], b"\0"].concat();
            assert_eq!(doubt(&other), Some(Doubt::LineEnd), "{cut}");
        }
    }

    proptest! {
        /// Goal: the framing and the HTTP library see the same number of requests.
        /// Oracle: httparse, on heads of all kinds of fields, pipelined.
        #[test]
        fn httparse_sees_the_same_requests(
            lengths in prop::collection::vec((0_usize..4, 0_usize..40), 1..6),
            chunk in 1_usize..50,
        ) {
            let names = ["Content-Length", "content-length", "CONTENT-LENGTH", "X"];
            let mut stream = Vec::new();
            for (name, length) in &lengths {
                let body = "\r\n\nContent-Length: 7\0".repeat(2)[..*length].to_owned();
                let body = if *name == 3 { String::new() } else { body };
                let field = format!("{}: {}\r\n", names[*name], length);
                stream.extend(request(&field, &body));
            }
            let mut framing = Framing::default();
            for piece in stream.chunks(chunk) {
                prop_assert_eq!(framing.read(piece), Ok(()));
            }
            prop_assert_eq!(framing.at, At::Head);
            let (mut rest, mut heads) = (&*stream, 0);
            while !rest.is_empty() {
                let mut fields = [httparse::EMPTY_HEADER; 8];
                let mut parsed = httparse::Request::new(&mut fields);
                let Ok(httparse::Status::Complete(end)) = parsed.parse(rest) else {
                    panic!("a whole head")
                };
                let length = parsed.headers.iter().find(|field| field.name.len() > 1 && field.name != "Host");
                let length = length.map_or(0, |field| {
                    std::str::from_utf8(field.value).expect("ASCII").parse().expect("a number")
                });
                rest = &rest[end + length..];
                heads += 1;
            }
            prop_assert_eq!(heads, lengths.len());
        }

        /// Goal: a head that raises no doubt has one length in any other reader too. Oracle:
        /// httparse.
        #[test]
        fn without_a_doubt_there_is_one_length(
            fields in prop::collection::vec(
                "(Content-Length|content-length ?|Transfer-Encoding|X|Host)(: |:|:  )(1|\\+1|0|chunked|identity|a\nb|\r\n y)(\r\n|\r\n|\n)",
                0..4,
            ),
        ) {
            let bytes = request(&fields.concat(), "");
            if Framing::default().read(&bytes).is_ok() {
                let mut parsed = [httparse::EMPTY_HEADER; 16];
                let mut head = httparse::Request::new(&mut parsed);
                if let Ok(httparse::Status::Complete(_)) = head.parse(&bytes) {
                    let lengths = head.headers.iter().filter(|field| {
                        field.name.eq_ignore_ascii_case("content-length")
                            || field.name.eq_ignore_ascii_case("transfer-encoding")
                    });
                    prop_assert!(lengths.count() <= 1, "{:?}", String::from_utf8_lossy(&bytes));
                }
            }
        }

        /// Goal: no bytes panic, and the verdict does not depend on their pieces.
        #[test]
        fn any_bytes_get_the_same_verdict_in_pieces(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _verdict = doubt(&bytes);
            let _verdict = doubt(&[&*request("Content-Length: 3\r\n", "abc"), &*bytes].concat());
        }
    }
}
