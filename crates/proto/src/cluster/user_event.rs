//! What nodes tell each other for one user: an event for the user's connections, and through how many it was sent.
//!
//! Said at most once, and in no log: a node that does not hear it sends nothing.

use bytes::{BufMut, Bytes};

use super::wire::{Section, VERSION, put_bytes};
use super::{Incarnation, WireFault};
use crate::base::id::RoomId;

/// An event for one user's connections in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEvent {
    /// Who has sent it to its own viewers already.
    pub from: Incarnation,
    /// The room.
    pub room: RoomId,
    /// The user's id.
    pub user_id: Box<str>,
    /// The frame.
    pub frame: Bytes,
}

impl UserEvent {
    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64 + self.user_id.len() + self.frame.len());
        out.put_u8(VERSION);
        out.put_u64_le(self.from.bits());
        out.extend_from_slice(self.room.as_bytes());
        put_bytes(&mut out, self.user_id.as_bytes());
        put_bytes(&mut out, &self.frame);
        out.into()
    }

    /// Reads one; the frame is a slice of `payload`.
    ///
    /// # Errors
    ///
    /// [`WireFault`]: what is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, WireFault> {
        let mut section = Section::versioned(payload)?;
        let from = Incarnation::new(section.u64()?);
        let room = RoomId::from_bytes(&section.array()?).ok_or(WireFault::Value("a room id"))?;
        Ok(Self {
            from,
            room,
            user_id: section.text()?.into(),
            frame: section.bytes()?,
        })
    }
}

/// Encodes through how many connections a node has sent one.
pub fn encode_count(count: u64) -> Bytes {
    let mut out = Vec::with_capacity(9);
    out.put_u8(VERSION);
    out.put_u64_le(count);
    out.into()
}

/// Reads that.
///
/// # Errors
///
/// [`WireFault`]: what is wrong with it.
pub fn decode_count(payload: &Bytes) -> Result<u64, WireFault> {
    Section::versioned(payload)?.u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what one node says another reads, and no cut or foreign bytes are taken for it.
    #[test]
    fn events_and_counts_survive() {
        let event = UserEvent {
            from: Incarnation::new(7),
            room: RoomId::from_random(9),
            user_id: "böb".into(),
            frame: Bytes::from_static(b"frame"),
        };
        let bytes = event.encode();
        assert_eq!(UserEvent::decode(&bytes), Ok(event));
        for end in 0..bytes.len() {
            assert!(UserEvent::decode(&bytes.slice(..end)).is_err(), "{end}");
        }
        assert!(UserEvent::decode(&Bytes::from_static(b"\xff")).is_err());
        assert_eq!(decode_count(&encode_count(300)), Ok(300));
        assert!(decode_count(&encode_count(300).slice(..8)).is_err());
    }
}
