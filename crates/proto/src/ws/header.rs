//! Frame headers of a client: parsed, and judged before the payload arrives.

use std::io::Cursor;

use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::bounds::Bounds;
use super::violation::Violation;

/// Bytes of the longest header: two, eight of length, four of key.
pub(super) const HEADER_BYTES_MAX: usize = 14;
/// Most bytes of a control frame's payload (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: u64 = 125;

#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) opcode: OpCode,
    pub(super) is_final: bool,
    // RSV1 of RFC 7692: the message that begins here is compressed.
    pub(super) deflated: bool,
    pub(super) mask: [u8; 4],
    pub(super) len: usize,
    pub(super) received: usize,
}

/// Parses a header from `bytes`; returns it with its length, `None` if it is incomplete. `deflate`:
/// compression was agreed on.
pub(super) fn parse(bytes: &[u8], deflate: bool) -> Result<Option<(Frame, usize)>, Violation> {
    // Reserved bits and opcodes are refused by the first two bytes, whether or not the rest has
    // arrived.
    let mut cursor = Cursor::new(bytes);
    let parsed = match FrameHeader::parse(&mut cursor) {
        Ok(parsed) => parsed,
        Err(Error::Protocol(ProtocolError::InvalidOpcode(_))) => {
            return Err(Violation::ReservedOpcode);
        }
        Err(_) => return Err(Violation::TooBig),
    };
    let Some((header, len)) = parsed else {
        return Ok(None);
    };
    // RFC 7692 §6.1: RSV1 is allowed on the first frame of a message only, never on control frames.
    let may_be_deflated =
        deflate && matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
    if (header.rsv1 && !may_be_deflated) || header.rsv2 || header.rsv3 {
        return Err(Violation::ReservedBits);
    }
    if let OpCode::Control(_) = header.opcode {
        if len > CONTROL_BYTES_MAX {
            return Err(Violation::ControlTooLong);
        }
        if !header.is_final {
            return Err(Violation::ControlFragmented);
        }
    }
    match header.opcode {
        OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
            return Err(Violation::ReservedOpcode);
        }
        OpCode::Control(_) | OpCode::Data(_) => {}
    }
    let mask = header.mask.ok_or(Violation::Unmasked)?;
    let len = usize::try_from(len).map_err(|_| Violation::TooBig)?;
    let frame = Frame {
        opcode: header.opcode,
        is_final: header.is_final,
        deflated: header.rsv1,
        mask,
        len,
        received: 0,
    };
    let header_len = usize::try_from(cursor.position()).expect("at most 14");
    Ok(Some((frame, header_len)))
}

/// Checks by its header whether a frame may come next; returns whether its message is too large to
/// keep.
pub(super) fn admit(
    frame: &Frame,
    message: Option<Data>,
    bytes: usize,
    fragments: u32,
    bounds: &Bounds,
) -> Result<bool, Violation> {
    let OpCode::Data(data) = frame.opcode else {
        return Ok(false);
    };
    match (data, message) {
        (Data::Continue, None) => return Err(Violation::NothingToContinue),
        (Data::Text | Data::Binary, Some(_)) => return Err(Violation::InsideFragmented),
        _ => {}
    }
    if frame.len > bounds.oversized_bytes_max.saturating_sub(bytes) {
        return Err(Violation::TooBig);
    }
    if fragments >= bounds.fragments_max {
        return Err(Violation::TooManyFragments);
    }
    Ok(frame.len > bounds.message_bytes_max.saturating_sub(bytes))
}
