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

/// The first frame of some bytes that a server of ours has sent, if it is whole: its opcode, and where its payload
/// begins and ends.
///
/// # Errors
///
/// Frames that our server does not send: masked, fragmented or longer than `bytes_max`.
pub fn first_frame(
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Option<(u8, usize, usize)>, ForeignFrame> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    let (start, len) = match (second & !MASKED, rest) {
        (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
        (127, rest) => match rest.first_chunk() {
            Some(len) => (10, u64::from_be_bytes(*len)),
            None => return Ok(None),
        },
        (126, _) => return Ok(None),
        (len, _) => (2, u64::from(len)),
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > bytes_max || second & MASKED != 0 || first & FINAL == 0 {
        return Err(ForeignFrame);
    }
    let end = start + len;
    Ok((bytes.len() >= end).then_some((first & 0xF, start, end)))
}

/// A frame that our server does not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame that no server of ours sends; is it of another version?")]
pub struct ForeignFrame;

/// The bit of the first byte that says that no fragment follows.
const FINAL: u8 = 0x80;
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

    /// Goal: each form of a length is read, a frame that is not whole is waited for, one that no server sends is
    /// refused. Method: frames of the server's own encoder at the limits of the three forms, cut at every byte of
    /// their head.
    #[test]
    fn frames_are_read_as_the_server_writes_them() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; len];
            let mut out = bytes::BytesMut::new();
            crate::ws::message(&mut out, true, &payload);
            let whole = out.len();
            let read = first_frame(&out, 65_536)
                .expect("a frame")
                .expect("a whole one");
            assert_eq!(read, (1, whole - len, whole));
            for cut in 0..(whole - len).max(1) {
                let begun = first_frame(&out[..cut], 65_536);
                assert_eq!(begun, Ok(None), "{len} at {cut}");
            }
        }
        for wrong in [
            &[0x81, 0x80][..],
            &[0x01, 0x00],
            &[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(first_frame(wrong, 65_536).is_err(), "{wrong:?}");
        }
    }
}
