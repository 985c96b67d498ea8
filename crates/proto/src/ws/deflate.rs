//! permessage-deflate (RFC 7692) without context takeover: every message is compressed on its own,
//! so one compressor and one decompressor serve all connections of a shard.

#![expect(
    clippy::indexing_slicing,
    reason = "ends are counts of what was read and written in the same buffers"
)]

use bytes::BytesMut;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::encode;
use super::violation::Violation;
use crate::base::limits::PARSE_PADDING_BYTES;

/// The end of a flushed block, which is not sent (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];
/// The compression level. On chat frames of 414 bytes levels 2 to 9 reach 63.7 to 63.5 % of the
/// bytes, with times within 20 % of each other; level 1 takes a third of the time and reaches 75 %.
/// A message is compressed once and sent many times, so bytes decide. Windows of 10 to 15 bits make
/// no difference.
const LEVEL: u32 = 6;
/// The output buffer's first size, in bytes; it doubles up to the message bound.
const OUTPUT_BYTES_MIN: usize = 4 * 1024;
/// Most deflate streams in one message, which bounds the resets: a sender may end its first one
/// (§7.2.3.4).
const STREAMS_MAX: u32 = 2;

/// Compresses messages into frames. It takes no memory until the first one, and then about 300 KiB.
#[derive(Debug, Default)]
pub struct Deflater {
    // The compressor, with its window as a power of two, 9 to 15; made at the first message.
    state: Option<(u8, Compress)>,
    // The output of one message; as long as the longest one needed.
    scratch: Vec<u8>,
    // Number of messages so far.
    messages: u64,
}

impl Deflater {
    /// Appends a message with this payload: compressed with a window of 2^`window_bits` (9 to 15)
    /// bytes, or plain if that is not longer. Never appends more than the plain frame.
    pub fn message(&mut self, out: &mut BytesMut, window_bits: u8, text: bool, payload: &[u8]) {
        // Includes space for the tail, which is not sent.
        let limit = payload.len() + TAIL.len() - 1;
        if let Some(deflated) = self.deflate(window_bits, payload, limit) {
            encode::deflated_message(out, text, deflated);
        } else {
            encode::message(out, text, payload);
        }
    }

    /// As [`Deflater::message`], but compressed even if that is longer, as a conformance suite
    /// expects.
    pub fn message_always(
        &mut self,
        out: &mut BytesMut,
        window_bits: u8,
        text: bool,
        payload: &[u8],
    ) {
        // Stored blocks add five bytes for each few KiB.
        let limit = payload.len() + payload.len() / 64 + 64;
        if let Some(deflated) = self.deflate(window_bits, payload, limit) {
            encode::deflated_message(out, text, deflated);
        } else {
            encode::message(out, text, payload);
        }
    }

    /// Returns the number of messages so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Compresses a payload; `None` if the result with its tail is not below `limit` bytes.
    fn deflate(&mut self, window_bits: u8, payload: &[u8], limit: usize) -> Option<&[u8]> {
        self.messages += 1;
        if self
            .state
            .as_ref()
            .is_none_or(|(bits, _)| *bits != window_bits)
        {
            let level = Compression::new(LEVEL);
            let state = Compress::new_with_window_bits(level, false, window_bits);
            self.state = Some((window_bits, state));
        }
        let (_, state) = self.state.as_mut()?;
        state.reset();
        if self.scratch.len() < limit {
            self.scratch.resize(limit, 0);
        }
        let output = &mut self.scratch[..limit];
        state
            .compress(payload, output, FlushCompress::Sync)
            .ok()
            .filter(|status| *status == Status::Ok)?;
        let whole = usize::try_from(state.total_in()) == Ok(payload.len());
        let written = usize::try_from(state.total_out()).ok()?;
        // A full output may mean that more output follows.
        if !whole || written == limit {
            return None;
        }
        self.scratch[..written].strip_suffix(&TAIL)
    }
}

/// Decompresses messages within a bound. It takes no memory until the first one, and then about 50
/// KiB and the length of the longest message.
#[derive(Debug, Default)]
pub struct Inflater {
    // The decompressor, with the largest window; made at the first message.
    state: Option<Decompress>,
    // The output of the newest message, and padding; it grows up to the bound on messages.
    output: Vec<u8>,
}

impl Inflater {
    /// Returns a compressed message's plain bytes, with padding after them, and their length.
    ///
    /// # Errors
    ///
    /// [`Violation::TooBig`] as soon as the output exceeds `bytes_max`; [`Violation::Deflate`].
    pub fn inflate(
        &mut self,
        payload: &[u8],
        bytes_max: usize,
    ) -> Result<(&mut [u8], usize), Violation> {
        let state = self.state.get_or_insert_with(|| Decompress::new(false));
        state.reset(false);
        let (mut len, mut streams) = (0, 1);
        for mut input in [payload, &TAIL] {
            loop {
                // One byte beyond the bound shows that it is exceeded.
                let room = self.output.len().saturating_sub(PARSE_PADDING_BYTES);
                if len == room {
                    let wanted = (room * 2).max(OUTPUT_BYTES_MIN).min(bytes_max + 1);
                    self.output.resize(wanted + PARSE_PADDING_BYTES, 0);
                    continue;
                }
                let output = &mut self.output[len..room];
                let (read, written) = (state.total_in(), state.total_out());
                let status = state
                    .decompress(input, output, FlushDecompress::Sync)
                    .map_err(|_| Violation::Deflate)?;
                let read = usize::try_from(state.total_in() - read).expect("of a slice");
                let written = usize::try_from(state.total_out() - written).expect("of a slice");
                input = &input[read..];
                len += written;
                if len > bytes_max {
                    return Err(Violation::TooBig);
                }
                if status == Status::StreamEnd {
                    streams += 1;
                    if streams > STREAMS_MAX {
                        return Err(Violation::Deflate);
                    }
                    state.reset(false);
                } else if read == 0 && written == 0 && !input.is_empty() {
                    return Err(Violation::Deflate);
                }
                if input.is_empty() && len < room {
                    break;
                }
            }
        }
        Ok((&mut self.output, len))
    }

    /// Returns how a compressed message begins: its first `N` plain bytes; `None`: it has fewer, or is none.
    pub fn beginning<const N: usize>(&mut self, payload: &[u8]) -> Option<[u8; N]> {
        let state = self.state.get_or_insert_with(|| Decompress::new(false));
        state.reset(false);
        let mut head = [0; N];
        for input in [payload, &TAIL] {
            let written = usize::try_from(state.total_out()).ok()?;
            state
                .decompress(input, &mut head[written..], FlushDecompress::Sync)
                .ok()?;
            if usize::try_from(state.total_out()) == Ok(N) {
                return Some(head);
            }
        }
        None
    }

    /// Returns the memory that begins with the last message's plain bytes and their padding.
    pub(super) fn padded(&mut self) -> &mut [u8] {
        &mut self.output
    }
}

/// Decompresses one message as it arrives, without keeping the output.
#[derive(Debug)]
pub(super) struct Inflating {
    state: Decompress,
    // Bytes of output so far; at most the bound that `feed` is given.
    plain: usize,
    // Number of deflate streams begun; at most `STREAMS_MAX`.
    streams: u32,
}

impl Default for Inflating {
    fn default() -> Self {
        Self {
            state: Decompress::new(false),
            plain: 0,
            streams: 1,
        }
    }
}

impl Inflating {
    /// The end of a message, which is not sent.
    pub(super) const TAIL: [u8; 4] = TAIL;

    /// Hands the output of `input` to `read`, in pieces.
    ///
    /// # Errors
    ///
    /// Those of [`Inflater::inflate`] and of `read`.
    pub(super) fn feed(
        &mut self,
        mut input: &[u8],
        bytes_max: usize,
        read: &mut dyn FnMut(&[u8]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let mut piece = [0; OUTPUT_BYTES_MIN];
        loop {
            let before = (self.state.total_in(), self.state.total_out());
            let flush = FlushDecompress::Sync;
            let outcome = self.state.decompress(input, &mut piece, flush);
            let used = usize::try_from(self.state.total_in() - before.0).expect("of a slice");
            let written = usize::try_from(self.state.total_out() - before.1).expect("of a slice");
            input = &input[used..];
            // The bytes are read first, so that the first fault is reported however the message was
            // split.
            let room = bytes_max - self.plain;
            read(&piece[..written.min(room)])?;
            if written > room {
                return Err(Violation::TooBig);
            }
            self.plain += written;
            let status = outcome.map_err(|_| Violation::Deflate)?;
            if status == Status::StreamEnd {
                self.streams += 1;
                if self.streams > STREAMS_MAX {
                    return Err(Violation::Deflate);
                }
                self.state.reset(false);
            } else if used == 0 && written == 0 && !input.is_empty() {
                return Err(Violation::Deflate);
            }
            if input.is_empty() && written < piece.len() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn inflate(payload: &[u8], bytes_max: usize) -> Result<Vec<u8>, Violation> {
        let mut inflater = Inflater::default();
        let (padded, len) = inflater.inflate(payload, bytes_max)?;
        assert!(padded.len() >= len + PARSE_PADDING_BYTES);
        Ok(padded[..len].to_vec())
    }

    /// Goal: the examples of RFC 7692 §7.2.3 give "Hello", including an ended stream and stored
    /// blocks.
    #[test]
    fn examples_of_the_rfc_are_understood() {
        for payload in [
            &[0xf2_u8, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[
                0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
            ],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[
                0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
            ],
        ] {
            assert_eq!(inflate(payload, 100), Ok(b"Hello".to_vec()), "{payload:x?}");
        }
        assert_eq!(inflate(&[0x00], 100), Ok(Vec::new()), "an empty message");
        assert_eq!(inflate(&[], 100), Ok(Vec::new()));
    }

    /// Goal: a decompression bomb ends at the bound, and the next message is read correctly.
    #[test]
    fn bombs_end_at_the_bound() {
        let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(&vec![b'x'; 8 << 20]).expect("memory");
        let bomb = bomb.finish().expect("memory");
        assert!(bomb.len() < 16 << 10, "{}", bomb.len());
        let mut inflater = Inflater::default();
        for _ in 0..3 {
            let fault = inflater.inflate(&bomb, 16 << 10).map(|(_, len)| len);
            assert_eq!(fault, Err(Violation::TooBig));
            assert!(inflater.output.len() <= (16 << 10) + 1 + PARSE_PADDING_BYTES);
            let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
            let (padded, len) = inflater.inflate(&hello, 16 << 10).expect("valid");
            assert_eq!(&padded[..len], b"Hello");
        }
        // Many ended streams: each would cost a reset.
        assert_eq!(
            inflate(&[0x03, 0x00].repeat(100), 100),
            Err(Violation::Deflate)
        );
    }

    /// Goal: the bound is exact.
    #[test]
    fn the_bound_is_exact() {
        let mut deflater = Deflater::default();
        for len in [1000_usize, OUTPUT_BYTES_MIN, 16 << 10] {
            let payload = vec![b'y'; len];
            let deflated = deflater
                .deflate(12, &payload, len)
                .expect("shrinks")
                .to_vec();
            assert_eq!(inflate(&deflated, len).map(|plain| plain.len()), Ok(len));
            assert_eq!(inflate(&deflated, len - 1), Err(Violation::TooBig));
        }
    }

    proptest! {
        /// Goal: a compressed message is read back, whatever was compressed before, and is never
        /// longer. Oracle: flate2's reader.
        #[test]
        fn messages_survive(
            texts in prop::collection::vec("[a-e \u{e9}\u{1f600}]{0,600}", 1..5),
            bits in 9_u8..=15,
        ) {
            let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
            for text in texts {
                let bytes = text.as_bytes();
                let limit = bytes.len() + 3;
                let Some(deflated) = deflater.deflate(bits, bytes, limit) else { continue };
                prop_assert!(deflated.len() < bytes.len());
                let (padded, len) = inflater.inflate(deflated, 1 << 16).expect("valid");
                prop_assert_eq!(&padded[..len], bytes);
                let beginning = inflater.beginning::<36>(deflated);
                prop_assert_eq!(beginning.as_ref().map(|head| &head[..]), bytes.get(..36));
                let mut reader = flate2::write::DeflateDecoder::new(Vec::new());
                reader.write_all(deflated).expect("valid");
                reader.write_all(&TAIL).expect("valid");
                reader.flush().expect("valid");
                prop_assert_eq!(&reader.get_ref()[..], bytes);
            }
        }

        /// Goal: no bytes panic, and the bound holds for all of them.
        #[test]
        fn any_bytes_end_in_bounds(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _any = Inflater::default().beginning::<36>(&bytes);
            if let Ok(plain) = inflate(&bytes, 5_000) {
                prop_assert!(plain.len() <= 5_000);
            }
        }
    }
}
