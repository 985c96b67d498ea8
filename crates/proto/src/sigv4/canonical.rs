//! The canonical request: the same text for every spelling of a request.

#![expect(
    clippy::indexing_slicing,
    reason = "digits are four bits; an escape has two"
)]

use super::key::Hex;
use super::received::Received;

/// Bytes of a usual canonical request; the buffer grows for longer ones.
const BYTES_USUAL: usize = 1024;

/// The form in which the path is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// Escaped once more than it is sent, without dot segments: every service except S3.
    Escaped,
    /// As sent: S3.
    AsSent,
}

/// Writes method, path, query, signed headers, their names and the body's hash, a line each.
pub(super) fn request(
    received: &Received<'_>,
    signed_headers: &str,
    payload_hash: &Hex,
    how: Path,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(BYTES_USUAL);
    out.extend_from_slice(received.method.as_bytes());
    out.push(b'\n');
    match how {
        Path::Escaped => path(&mut out, received.path),
        Path::AsSent => out.extend_from_slice(received.path.as_bytes()),
    }
    out.push(b'\n');
    query(&mut out, received.query);
    out.push(b'\n');
    for name in signed_headers.split(';') {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        for (index, value) in received.all(name).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            collapse(&mut out, value);
        }
        out.push(b'\n');
    }
    out.push(b'\n');
    out.extend_from_slice(signed_headers.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(payload_hash.as_bytes());
    out
}

/// Writes the path without `.`, `..` and empty segments (RFC 3986 §5.2.4), escaped once more.
pub(super) fn path(out: &mut Vec<u8>, path: &str) {
    if !path.contains("//") && !path.contains("/.") {
        escape(out, path.as_bytes(), b"/");
        return;
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    for segment in &kept {
        out.push(b'/');
        escape(out, segment.as_bytes(), b"");
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    if kept.is_empty() || matches!(last, "" | "." | "..") {
        out.push(b'/');
    }
}

/// Writes the query sorted, with canonical escapes.
fn query(out: &mut Vec<u8>, query: &str) {
    if query.is_empty() {
        return;
    }
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (recode(key), recode(value))
        })
        .collect();
    pairs.sort();
    for (index, (key, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

fn recode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    escape(&mut out, &percent_decode(text), b"");
    out
}

/// Decodes percent escapes; a broken escape stays unchanged.
pub fn percent_decode(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            out.push(high << 4 | low);
            rest = &after[2..];
        } else {
            out.push(*byte);
            rest = after;
        }
    }
    out
}

/// Percent-encodes all characters except unreserved ones (RFC 3986 §2.3) and those of `keep`.
pub(super) fn escape(out: &mut Vec<u8>, bytes: &[u8], keep: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || keep.contains(byte) {
            out.push(*byte);
        } else {
            let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
            out.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
        }
    }
}

/// Trims a value, and makes each run of blanks one.
fn collapse(out: &mut Vec<u8>, value: &[u8]) {
    let words = value.split(|byte| matches!(byte, b' ' | b'\t'));
    for (index, word) in words.filter(|word| !word.is_empty()).enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("text")
    }

    /// Goal: an escaped path is escaped once more, and dot segments are removed.
    #[test]
    fn paths_are_escaped_twice_and_plain() {
        for (wire, canonical) in [
            ("/", "/"),
            ("/tags/arn%3Aaws", "/tags/arn%253Aaws"),
            ("/tags/arn:aws:x/y", "/tags/arn%3Aaws%3Ax/y"),
            ("//a//b/", "/a/b/"),
            ("/a/./b/../c", "/a/c"),
            ("/a/.", "/a/"),
            ("/../..", "/"),
            ("/.hidden", "/.hidden"),
        ] {
            assert_eq!(text(|out| path(out, wire)), canonical, "{wire}");
        }
    }

    /// Goal: queries are sorted by their escaped form, and escapes have one spelling.
    #[test]
    fn queries_are_sorted_and_respelled() {
        let wire = "tagKeys=k&tagKeys=a%20b&b&tagKeys=a%2fb&&";
        let canonical = "b=&tagKeys=a%20b&tagKeys=a%2Fb&tagKeys=k";
        assert_eq!(text(|out| query(out, wire)), canonical);
        assert_eq!(percent_decode("%41%zz%4"), b"A%zz%4");
    }

    /// Goal: blanks around and between words do not matter; bytes that are not text stay.
    #[test]
    fn values_are_trimmed_byte_by_byte() {
        assert_eq!(text(|out| collapse(out, b" \t a  \tb ")), "a b");
        let mut out = Vec::new();
        collapse(&mut out, b"\xFF\xFE");
        assert_eq!(out, b"\xFF\xFE");
    }
}
