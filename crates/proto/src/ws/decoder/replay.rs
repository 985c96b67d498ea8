//! What a decoder has read of an incomplete message, as the frames of a client.

#![expect(
    clippy::indexing_slicing,
    reason = "a frame's received bytes are the last ones of its message"
)]

use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{Assembly, Decoder};
use crate::ws::client::{masked_frame, masked_start};

/// First byte of a frame: it is the message's last one.
const FIN: u8 = 0x80;
/// First byte of a frame: its message is compressed (RFC 7692 §6).
const RSV1: u8 = 0x40;

impl Decoder {
    /// Returns bytes that bring a fresh decoder into this one's state, without an item: another
    /// process goes on where this one has stopped. They are frames as RFC 6455 has them, so that
    /// their format is nobody's secret. At most the bytes of the incomplete message, and a header
    /// for each of its fragments.
    ///
    /// `None`: a message too large to keep is arriving, of which only a scan is left. It will be
    /// refused in any case.
    pub fn replay(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        match self.assembly.as_deref() {
            Some(assembly) if assembly.oversized.is_some() => return None,
            Some(assembly) if !assembly.is_spent() => assembly.replay(&mut out),
            Some(_) | None => {}
        }
        Some(out)
    }
}

impl Assembly {
    fn replay(&self, out: &mut Vec<u8>) {
        let arriving = self.frame.as_ref();
        let data = arriving.filter(|frame| matches!(frame.opcode, OpCode::Data(_)));
        let received = data.map_or(0, |frame| frame.received);
        let (mut whole, part) = self.bytes.split_at(self.bytes.len() - received);
        if let Some(kind) = self.message {
            // The first frame takes all bytes, those after it none: only their sum and their number
            // are remembered.
            let rsv1 = if self.deflated { RSV1 } else { 0 };
            let mut first = rsv1 | u8::from(OpCode::Data(kind));
            for _ in 0..self.fragments - u32::from(data.is_some()) {
                masked_frame(out, first, std::mem::take(&mut whole), [0; 4]);
                first = u8::from(OpCode::Data(Data::Continue));
            }
        }
        if let Some(frame) = arriving {
            let fin = if frame.is_final { FIN } else { 0 };
            let rsv1 = if frame.deflated { RSV1 } else { 0 };
            let payload = match frame.opcode {
                OpCode::Data(_) => part,
                OpCode::Control(_) => &self.control,
            };
            // The bytes to come are masked with the frame's own key.
            let first = fin | rsv1 | u8::from(frame.opcode);
            masked_start(out, first, frame.len, payload, frame.mask);
        }
        out.extend_from_slice(&self.head[..self.head_len]);
    }
}
