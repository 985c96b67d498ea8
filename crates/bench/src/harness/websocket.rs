//! The client's side of WebSocket (RFC 6455): short masked frames out, frames of any length in.

use uproar_proto::ws::client::masked_frame;

use super::frame::{Frame, Kind};

/// Opcode of a text frame.
pub(crate) const TEXT: u8 = 1;
/// Opcode of a pong.
pub(crate) const PONG: u8 = 10;
/// The bit of the first byte that marks a whole message.
const FIN: u8 = 0x80;
/// The bit of the first byte that marks a compressed message (RFC 7692 §6).
const RSV1: u8 = 0x40;

/// Appends a whole message, or a control frame, masked at random.
pub(crate) fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let mask = fastrand::u32(..).to_ne_bytes();
    masked_frame(out, FIN | opcode, payload, mask);
}

/// Returns a pong that nobody asked for: it keeps the server from asking.
pub(crate) fn pong() -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, PONG, b"");
    out
}

/// Returns the first whole frame of `bytes`; `None` if more bytes are needed.
pub(super) fn first(bytes: &[u8]) -> Option<Frame> {
    let (opcode, head, len) = header(bytes)?;
    let end = head + len;
    let kind = match opcode {
        8 => Kind::Close,
        9 => Kind::Ping,
        _ => Kind::Data,
    };
    (end <= bytes.len()).then_some(Frame {
        kind,
        deflated: bytes[0] & RSV1 != 0,
        payload: head..end,
        end,
    })
}

/// Returns the opcode, the length of the header and the length of the payload of an unmasked frame.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let opcode = bytes.first()? & 0x0F;
    match *bytes.get(1)? {
        126 => {
            let len = bytes.get(2..4)?.try_into().expect("two bytes");
            Some((opcode, 4, usize::from(u16::from_be_bytes(len))))
        }
        127 => {
            let len = bytes.get(2..10)?.try_into().expect("eight bytes");
            Some((opcode, 10, usize::try_from(u64::from_be_bytes(len)).ok()?))
        }
        len => Some((opcode, 2, usize::from(len))),
    }
}
