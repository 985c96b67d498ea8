//! A message too large to keep: read to its end, for the one thing that its answer needs.

use super::decoder::Bounds;
use super::deflate::Inflating;
use super::utf8::Utf8;
use super::violation::Violation;
use crate::protocol::scan::Scan;

/// What is kept of the message meanwhile: the scanner, and of a compressed one its decompressor, about
/// 50 KiB. Neither grows with the message.
#[derive(Debug)]
pub(super) struct Oversized {
    scan: Scan,
    // Of a text: that it is one.
    utf8: Option<Utf8>,
    inflating: Option<Inflating>,
    arrived: usize,
}

impl Oversized {
    /// Takes over a message of which nothing is judged yet.
    pub(super) fn new(text: bool, deflated: bool, bounds: &Bounds) -> Self {
        Self {
            scan: (bounds.scan)(),
            utf8: text.then(Utf8::default),
            inflating: deflated.then(Inflating::default),
            arrived: 0,
        }
    }

    /// Bytes of the message so far, compressed if it is.
    pub(super) fn arrived(&self) -> usize {
        self.arrived
    }

    /// Reads what arrived next, unmasked.
    pub(super) fn feed(&mut self, chunk: &[u8], bounds: &Bounds) -> Result<(), Violation> {
        self.arrived += chunk.len();
        let Self {
            scan,
            utf8,
            inflating,
            ..
        } = self;
        let mut read = |plain: &[u8]| {
            scan.feed(plain);
            match utf8 {
                Some(utf8) => utf8.check(plain).map_err(|_| Violation::Utf8),
                None => Ok(()),
            }
        };
        match inflating {
            Some(inflating) => inflating.feed(chunk, bounds.oversized_bytes_max, &mut read),
            None => read(chunk),
        }
    }

    /// The message is whole.
    pub(super) fn finish(mut self, bounds: &Bounds) -> Result<Scan, Violation> {
        if self.inflating.is_some() {
            self.feed(&Inflating::TAIL, bounds)?;
        }
        match self.utf8 {
            Some(utf8) if !utf8.is_complete() => Err(Violation::Utf8),
            Some(_) | None => Ok(self.scan),
        }
    }
}
