//! Records of TLS 1.3 counted without being opened: what a viewer got, without its keys.
//!
//! A record's header is not encrypted and tells how long it is. What is sealed in it is shorter by
//! [`OVERHEAD`] bytes with every suite of TLS 1.3, if the server does not pad. So the bytes of the
//! frames that came are known from headers alone, and compared with those that a viewer who opens
//! its records counts. Padding, and records that carry no frames (a KeyUpdate, an alert), would be
//! counted as bytes of frames: both show as a difference, never as nothing.

use std::io;

/// Type, version and length of a record.
pub(crate) const HEADER: usize = 5;
/// What a record has beside its content and its header: the content's type, and the tag.
pub(crate) const OVERHEAD: usize = 1 + 16;
/// Most content of a record (RFC 8446 §5.1).
pub(crate) const CONTENT_MAX: usize = 1 << 14;
/// Longest body of a sealed record (RFC 8446 §5.2).
const BODY_MAX: usize = CONTENT_MAX + 256;
/// The type that every sealed record of TLS 1.3 shows.
pub(crate) const APPLICATION_DATA: u8 = 23;

/// Counts the records of one direction of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Content of whole records, in bytes.
    pub(crate) content: u64,
    /// Whole records.
    pub(crate) records: u64,
    /// The beginning of a header whose rest has not come.
    header: [u8; HEADER],
    /// How much of it came.
    header_filled: u8,
    /// Bytes of the current record's body that have not come.
    body_left: u16,
    /// Content of the current record, which counts once the record is whole.
    pending: u16,
    /// Something came that is no record: nothing behind it counts.
    is_broken: bool,
}

impl Tally {
    /// Takes the next bytes of the connection, wherever they are cut.
    ///
    /// # Errors
    ///
    /// `InvalidData` for a header that no record of an established connection has. What follows it
    /// cannot be counted.
    pub(crate) fn take(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.is_broken {
            return Err(io::ErrorKind::InvalidData.into());
        }
        loop {
            let skipped = bytes.len().min(self.body_left());
            self.skip(skipped);
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return Ok(());
            }
            let filled = usize::from(self.header_filled);
            let part = bytes.len().min(HEADER - filled);
            self.header[filled..filled + part].copy_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            if filled + part < HEADER {
                self.header_filled = (filled + part) as u8;
                return Ok(());
            }
            self.header_filled = 0;
            let body = body_of(self.header);
            self.is_broken = body.is_err();
            self.begin(body?);
        }
    }

    fn begin(&mut self, body: usize) {
        debug_assert!(self.body_left == 0, "one record at a time");
        self.body_left = body as u16;
        self.pending = (body - OVERHEAD) as u16;
    }

    /// Returns how many bytes of the current record have not come. As many may be dropped unseen.
    pub(crate) fn body_left(&self) -> usize {
        usize::from(self.body_left)
    }

    /// Counts `len` bytes of the current record's body as received, at most
    /// [`Tally::body_left`].
    pub(crate) fn skip(&mut self, len: usize) {
        debug_assert!(len <= self.body_left(), "not beyond the record");
        if len == 0 {
            return;
        }
        self.body_left -= len as u16;
        if self.body_left == 0 {
            self.content += u64::from(self.pending);
            self.records += 1;
        }
    }
}

/// Returns the length of the body behind `header`.
fn body_of(header: [u8; HEADER]) -> io::Result<usize> {
    let [kind, major, minor, high, low] = header;
    let body = usize::from(u16::from_be_bytes([high, low]));
    let is_sealed = (kind, major, minor) == (APPLICATION_DATA, 3, 3);
    if is_sealed && (OVERHEAD..=BODY_MAX).contains(&body) {
        return Ok(body);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the server sent a record of type {kind} and {body} bytes"),
    ))
}

/// Returns the length of the first record of `bytes`, its header included, of whatever type;
/// `None` if it is not whole.
///
/// # Errors
///
/// `InvalidData` for a record that is longer than any may be.
pub(super) fn whole(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some([_, _, _, high, low]) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let body = usize::from(u16::from_be_bytes([*high, *low]));
    if body > BODY_MAX {
        let text = format!("the server sent a record of {body} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let end = HEADER + body;
    Ok((bytes.len() >= end).then_some(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(content: usize) -> Vec<u8> {
        let body = u16::try_from(content + OVERHEAD).expect("short");
        let [high, low] = body.to_be_bytes();
        let mut record = vec![APPLICATION_DATA, 3, 3, high, low];
        record.resize(HEADER + content + OVERHEAD, 0xAA);
        record
    }

    proptest! {
        /// Goal: the content is counted once, and only of whole records, wherever reads cut them
        /// and whichever bytes are dropped unseen. Method: records of any lengths in parts of any
        /// lengths; what may be dropped is dropped or taken by chance.
        #[test]
        fn records_are_counted_wherever_they_are_cut(
            contents in prop::collection::vec(0_usize..=CONTENT_MAX, 0..12),
            parts in prop::collection::vec((1_usize..20_000, any::<bool>()), 1..12),
            cut in 0_usize..40,
        ) {
            let mut wire: Vec<u8> = contents.iter().flat_map(|content| record(*content)).collect();
            let is_cut = cut > 0 && cut < wire.len();
            if is_cut {
                wire.truncate(wire.len() - cut);
            }
            let mut tally = Tally::default();
            let (mut rest, mut parts) = (&wire[..], parts.iter().cycle());
            while !rest.is_empty() {
                let (len, is_dropped) = *parts.next().expect("endless");
                let mut len = len.min(rest.len());
                if is_dropped && tally.body_left() > 0 {
                    len = len.min(tally.body_left());
                    tally.skip(len);
                } else {
                    tally.take(&rest[..len]).expect("records");
                }
                rest = &rest[len..];
            }
            let (mut end, mut content, mut records) = (0, 0, 0);
            for length in contents {
                end += HEADER + OVERHEAD + length;
                if end <= wire.len() {
                    content += length as u64;
                    records += 1;
                }
            }
            prop_assert_eq!((tally.content, tally.records), (content, records));
        }

        /// Goal: no bytes make the count panic or loop, and none but sealed records count.
        #[test]
        fn hostile_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut tally = Tally::default();
            let taken = tally.take(&bytes);
            if let Some(head) = bytes.first_chunk::<HEADER>() {
                let body = u16::from_be_bytes([head[3], head[4]]);
                let is_sealed = head[..3] == [23, 3, 3] && (17..=16_640).contains(&body);
                prop_assert!(is_sealed || taken.is_err());
            }
            prop_assert!(tally.content <= bytes.len() as u64);
        }
    }

    /// Goal: lengths at both bounds, and other types, are told apart.
    #[test]
    fn bounds_and_types_are_told_apart() {
        for (header, body) in [
            ([23, 3, 3, 0, 17], Some(17)),
            ([23, 3, 3, 0, 16], None),
            ([23, 3, 3, 0x41, 0x00], Some(BODY_MAX)),
            ([23, 3, 3, 0x41, 0x01], None),
            ([23, 3, 3, 0xFF, 0xFF], None),
            ([21, 3, 3, 0, 19], None),
            ([22, 3, 3, 1, 0], None),
            ([23, 3, 1, 1, 0], None),
            (*b"HTTP/", None),
        ] {
            assert_eq!(body_of(header).ok(), body, "{header:?}");
        }
        assert_eq!(whole(&[22, 3, 1, 0]).ok(), Some(None));
        assert_eq!(whole(&[22, 3, 1, 0, 1, 9, 9]).ok(), Some(Some(6)));
        assert!(whole(&[22, 3, 1, 0x41, 0x01]).is_err());
    }
}
