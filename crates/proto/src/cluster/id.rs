//! Ids and positions of a cluster, a type each.

use std::fmt;

use crate::base::hash::fnv1a_64;
use crate::base::id::RoomId;
use crate::base::limits::HASH_SLOTS;

/// One of the 256 parts of all rooms; each has a log and a home. Redis Cluster's term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashSlot(u8);

impl HashSlot {
    /// Makes the hash slot of this number.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Returns the hash slot of a room: FNV-1a of its id, so it never changes.
    pub fn of(room: RoomId) -> Self {
        let [low, ..] = fnv1a_64(room.as_bytes()).to_le_bytes();
        Self(low)
    }

    /// Returns its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Returns its number as an index below [`HASH_SLOTS`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Returns all of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }
}

const _: () = assert!(HASH_SLOTS == 1 << u8::BITS, "a hash slot is a byte");

impl fmt::Display for HashSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run of a node's process: a random number, drawn at its start. SWIM's term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// From uniform random bits.
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the bits.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// Sixteen hexadecimal digits, as in subjects.
impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record's position in the stream of its hash slot, from 1. Sequences of one hash slot rise, with holes, since
/// several hash slots share a stream. The default, 0, is before the first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);

/// A home's time in office: the sequence of its `Takeover`. Kafka's leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

impl From<Sequence> for Epoch {
    fn from(takeover: Sequence) -> Self {
        Self(takeover.0)
    }
}

/// A request's number among those of one origin to one hash slot in one epoch, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(pub u64);

impl Number {
    /// The first request's.
    pub const FIRST: Self = Self(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a room's hash slot is the low byte of FNV-1a of its id, for ever: a cluster's nodes must agree.
    #[test]
    fn the_hash_slot_of_a_room_never_changes() {
        let room = RoomId::parse("TC6fLHr7ycLt").expect("an id");
        assert_eq!(HashSlot::of(room).number(), 23);
        assert_eq!(HashSlot::all().count(), HASH_SLOTS);
    }
}
