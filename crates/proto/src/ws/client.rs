//! Frames as clients send them. The server only reads such frames; load generators and tests write
//! them, and a decoder that is replayed in another process.

#![expect(
    clippy::indexing_slicing,
    reason = "the payload was appended after this position"
)]

use super::mask::unmask;

/// Appends a client's frame, whose payload is masked with `mask` (RFC 6455 §5.2, §5.3).
///
/// `first` is the frame's first byte: FIN, the reserved bits and the opcode, for example `0x81` for
/// a whole text message. It goes out as it is, so that tests can send frames that no client may
/// send.
pub fn masked_frame(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    masked_start(out, first, payload.len(), payload, mask);
}

/// Appends the header of a client's frame of `len` bytes, and the first ones of its payload.
pub(super) fn masked_start(
    out: &mut Vec<u8>,
    first: u8,
    len: usize,
    payload: &[u8],
    mask: [u8; 4],
) {
    out.push(first);
    match u16::try_from(len) {
        Ok(len @ 0..126) => out.push(MASKED | len.to_le_bytes()[0]),
        Ok(len) => {
            out.push(MASKED | 0x7E);
            out.extend(len.to_be_bytes());
        }
        Err(_) => {
            out.push(MASKED | 0x7F);
            out.extend(u64::try_from(len).expect("64 bits").to_be_bytes());
        }
    }
    out.extend(mask);
    let start = out.len();
    out.extend(payload);
    unmask(&mut out[start..], mask, 0);
}

/// The bit of the second byte that says that a mask follows the length.
const MASKED: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::frame::FrameHeader;

    /// Goal: each form of a length, and the mask, are as the RFC says. Method: the library's parser
    /// reads the header of frames at the limits of the three forms, and the mask laid on twice
    /// gives the payload back.
    #[test]
    fn frames_are_read_by_another_implementation() {
        let mask = [1, 2, 3, 4];
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..=255).cycle().take(len).collect();
            let mut frame = b"before".to_vec();
            masked_frame(&mut frame, 0x81, &payload, mask);
            let mut reader = std::io::Cursor::new(&frame[6..]);
            let (header, length) = FrameHeader::parse(&mut reader)
                .expect("a header")
                .expect("a whole one");
            assert_eq!((header.mask, length), (Some(mask), len as u64));
            assert!(header.is_final && !header.rsv1);
            let at = 6 + usize::try_from(reader.position()).expect("a header is short");
            assert_eq!(frame.len(), at + len);
            unmask(&mut frame[at..], mask, 0);
            assert_eq!(frame[at..], payload);
        }
    }
}
