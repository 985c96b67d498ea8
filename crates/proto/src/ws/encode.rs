//! Server frames: unmasked, so that one encoding serves every receiver (RFC 6455 §5.1).

#![expect(
    clippy::indexing_slicing,
    reason = "a header has at most ten bytes, a Close payload 125"
)]

use std::io::Cursor;

use bytes::BytesMut;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Most bytes of a Close frame's reason: 125 bytes of payload minus the code (§5.5).
const REASON_BYTES_MAX: usize = 123;
/// Bytes of the header of a frame of 126 to 65,535 bytes.
const MEDIUM_HEADER_BYTES: usize = 4;

/// Appends a text frame whose payload `write` appends. The length is not known before, so the
/// payload is written after space for the usual header, and moved only if it is short or huge.
pub(crate) fn text_frame(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.extend_from_slice(&[0; MEDIUM_HEADER_BYTES]);
    write(out);
    let payload = start + MEDIUM_HEADER_BYTES;
    let len = out.len() - payload;
    let mut header = [0; 10];
    let header_len = header_into(&mut header, OpCode::Data(Data::Text), false, len);
    if header_len > MEDIUM_HEADER_BYTES {
        out.extend_from_slice(&[0; 6]);
    }
    if header_len != MEDIUM_HEADER_BYTES {
        out.copy_within(payload..payload + len, start + header_len);
        out.truncate(start + header_len + len);
    }
    out[start..start + header_len].copy_from_slice(&header[..header_len]);
}

/// Returns the payloads of concatenated server frames, as `text_frame` wrote them. Ends early at
/// any other bytes.
pub fn payloads(frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(frames).map(|(_, payload)| payload)
}

/// Returns each of concatenated server frames, as `text_frame` wrote them or compressed, with its payload. Ends early at
/// any other bytes.
pub fn split(mut frames: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let mut reader = Cursor::new(frames);
        let (header, len) = FrameHeader::parse(&mut reader).ok()??;
        if header.mask.is_some() {
            return None;
        }
        let start = usize::try_from(reader.position()).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        let payload = frames.get(start..end)?;
        let (whole, rest) = frames.split_at(end);
        frames = rest;
        Some((whole, payload))
    })
}

/// Whether a server frame's payload is compressed (RFC 7692 §6).
pub fn is_deflated(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 0x40 != 0)
}

/// Whether these bytes are whole server frames, at least one.
pub fn is_whole(frames: &[u8]) -> bool {
    let bytes = |payload: &[u8]| {
        let mut header = [0; 10];
        let text = OpCode::Data(Data::Text);
        header_into(&mut header, text, false, payload.len()) + payload.len()
    };
    !frames.is_empty() && payloads(frames).map(bytes).sum::<usize>() == frames.len()
}

/// Appends a whole text or binary message.
pub fn message(out: &mut BytesMut, text: bool, payload: &[u8]) {
    frame(out, data(text), false, payload);
}

/// Appends a whole message whose payload is compressed (RFC 7692 §6: RSV1).
pub(super) fn deflated_message(out: &mut BytesMut, text: bool, payload: &[u8]) {
    frame(out, data(text), true, payload);
}

fn data(text: bool) -> OpCode {
    OpCode::Data(if text { Data::Text } else { Data::Binary })
}

/// Appends an empty Ping.
pub fn ping(out: &mut BytesMut) {
    frame(out, OpCode::Control(Control::Ping), false, b"");
}

/// Appends the Pong to a Ping's payload.
pub fn pong(out: &mut BytesMut, payload: &[u8]) {
    frame(out, OpCode::Control(Control::Pong), false, payload);
}

/// Appends a Close frame; the reason is cut to 123 bytes at a character boundary.
pub fn close(out: &mut BytesMut, code: u16, reason: &str) {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let mut payload = [0; 2 + REASON_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    frame(
        out,
        OpCode::Control(Control::Close),
        false,
        &payload[..2 + reason.len()],
    );
}

/// Appends a Close frame without a code.
pub(crate) fn close_empty(out: &mut BytesMut) {
    frame(out, OpCode::Control(Control::Close), false, b"");
}

fn frame(out: &mut BytesMut, opcode: OpCode, deflated: bool, payload: &[u8]) {
    let mut header = [0; 10];
    let len = header_into(&mut header, opcode, deflated, payload.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(payload);
}

/// Writes the header of an unmasked, final frame in its shortest form (§5.2); returns its length. Own lines, because
/// the library's generic writer is inlined or not as other code in the crate comes and goes: 140 instructions a frame.
#[inline]
fn header_into(header: &mut [u8; 10], opcode: OpCode, deflated: bool, len: usize) -> usize {
    header[0] = FINAL | if deflated { DEFLATED } else { 0 } | u8::from(opcode);
    if let Ok(len @ 0..=125) = u8::try_from(len) {
        header[1] = len;
        2
    } else if let Ok(len) = u16::try_from(len) {
        header[1] = 126;
        header[2..4].copy_from_slice(&len.to_be_bytes());
        4
    } else {
        let len = u64::try_from(len).expect("64 bits hold a length");
        header[1] = 127;
        header[2..].copy_from_slice(&len.to_be_bytes());
        10
    }
}

/// The first byte's bits besides the opcode: FIN, and RSV1, which marks a compressed message (RFC 7692 §6).
const FINAL: u8 = 0x80;
const DEFLATED: u8 = 0x40;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: headers have the minimal form around both limits. Oracle: tungstenite's parser.
    #[test]
    fn text_frames_have_minimal_headers() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let mut out = BytesMut::from(&b"before"[..]);
            let payload = vec![b'x'; len];
            text_frame(&mut out, |out| out.extend_from_slice(&payload));
            let mut cursor = Cursor::new(&out[6..]);
            let (header, parsed) = FrameHeader::parse(&mut cursor)
                .expect("valid")
                .expect("complete");
            assert!(header.is_final && header.mask.is_none());
            assert_eq!(header.opcode, OpCode::Data(Data::Text));
            assert_eq!(parsed, len as u64);
            assert_eq!(
                cursor.position(),
                header.len(parsed) as u64,
                "minimal form of {len}"
            );
            let start = 6 + usize::try_from(cursor.position()).expect("small");
            assert!(out[start..] == payload[..], "payload of {len}");
        }
    }

    /// Goal: concatenated frames are read back, and an incomplete one ends the reading.
    #[test]
    fn payloads_read_back() {
        let lens = [0, 1, 125, 126, 65_535, 65_536, 3];
        let mut out = BytesMut::new();
        for len in lens {
            text_frame(&mut out, |out| out.extend_from_slice(&vec![b'x'; len]));
        }
        let read: Vec<usize> = payloads(&out).map(<[u8]>::len).collect();
        assert_eq!(read, lens);
        assert_eq!(payloads(&out[..out.len() - 1]).count(), lens.len() - 1);
        assert_eq!(payloads(b"").count(), 0);
        assert!(is_whole(&out) && !is_whole(b""));
        assert!(!is_whole(&out[..out.len() - 1]) && !is_whole(&out[1..]));
    }

    /// Goal: a long reason is cut between characters and the frame stays a control frame.
    #[test]
    fn close_reasons_are_cut_between_characters() {
        let mut out = BytesMut::new();
        close(&mut out, 1000, &"é".repeat(100));
        assert_eq!(&out[..4], &[0x88, 124, 0x03, 0xE8]);
        assert_eq!(out.len(), 2 + 2 + 122);
    }
}
