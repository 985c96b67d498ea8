//! A message too large to keep: it is read to its end to find the id for its answer.

use super::bounds::Bounds;
use super::deflate::Inflating;
use super::utf8::Utf8;
use super::violation::Violation;
use crate::scan::Scan;

/// The state of such a message: the scanner, and for a compressed one its decompressor of about 50
/// KiB. Neither grows with the message.
#[derive(Debug)]
pub(super) struct Oversized {
    scan: Scan,
    // Checks the UTF-8 of a text.
    utf8: Option<Utf8>,
    inflating: Option<Inflating>,
    arrived: usize,
}

impl Oversized {
    /// Starts a message whose bytes are all still to be checked.
    pub(super) fn new(text: bool, deflated: bool, bounds: &Bounds) -> Self {
        Self {
            scan: (bounds.scan)(),
            utf8: text.then(Utf8::default),
            inflating: deflated.then(Inflating::default),
            arrived: 0,
        }
    }

    /// Returns the number of bytes so far, compressed if the message is.
    pub(super) fn arrived(&self) -> usize {
        self.arrived
    }

    /// Reads the next unmasked bytes.
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

    /// Ends the message; returns its scan.
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
