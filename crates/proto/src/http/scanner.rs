//! Finds where a head ends.

#![expect(
    clippy::indexing_slicing,
    reason = "positions never pass the length that they were compared with"
)]

use super::fault::HeadFault;
use crate::base::limits::HEAD_BYTES_MAX;

/// Finds the end of a head in bytes that arrive in any pieces, and reads each byte once. It refuses
/// forms that parsers disagree about as soon as they arrive: bare CR or LF, NUL, folded lines.
#[derive(Debug, Default)]
pub struct HeadScanner {
    scanned: usize,
}

impl HeadScanner {
    /// Returns the head's length, including the blank line, once `received` holds it; `received` is
    /// all bytes so far.
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

/// Whether a first byte on a TLS port is that of a request without TLS: a method begins with a
/// letter, a TLS record with 20 to 24.
pub fn is_without_tls(first_byte: u8) -> bool {
    first_byte.is_ascii_uppercase()
}
