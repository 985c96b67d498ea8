//! Ids of twelve characters `[a-zA-Z0-9]` (71 bits): rooms, logging configurations, messages,
//! events, errors, operations (contract: "exactly 12").

#![expect(
    clippy::indexing_slicing,
    reason = "a remainder of 62 is an index into 62 letters"
)]

use std::fmt;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Characters in every id.
pub const ID_CHARS: usize = 12;

/// Twelve characters of `[a-zA-Z0-9]`; the constructors are the proof.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Id12([u8; ID_CHARS]);

impl Id12 {
    /// Checks every byte: faster than to stop at the first invalid one.
    fn parse(bytes: &[u8; ID_CHARS]) -> Option<Self> {
        let all = (bytes.iter()).fold(true, |all, byte| all & byte.is_ascii_alphanumeric());
        all.then_some(Self(*bytes))
    }

    /// From uniform random bits; bias below 2^-57.
    fn from_random(mut bits: u128) -> Self {
        let mut bytes = [0; ID_CHARS];
        for byte in &mut bytes {
            let index = usize::try_from(bits % 62).expect("a remainder of 62 fits");
            *byte = ALPHABET[index];
            bits /= 62;
        }
        Self(bytes)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("every constructor admits ASCII only")
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Id12);

        impl $name {
            /// `None` unless `text` is exactly twelve characters of `[a-zA-Z0-9]`.
            pub fn parse(text: &str) -> Option<Self> {
                Self::from_bytes(text.as_bytes().try_into().ok()?)
            }

            /// `None` unless all bytes are of `[a-zA-Z0-9]`.
            pub fn from_bytes(bytes: &[u8; ID_CHARS]) -> Option<Self> {
                Id12::parse(bytes).map(Self)
            }

            /// From uniform random bits.
            pub fn from_random(bits: u128) -> Self {
                Self(Id12::from_random(bits))
            }

            /// The twelve characters.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The twelve characters as bytes.
            pub fn as_bytes(&self) -> &[u8; ID_CHARS] {
                &self.0.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

id_type! {
    /// A room, the last part of its ARN. Unpredictable: drawn from the system's random source.
    RoomId
}
id_type! {
    /// A logging configuration, the last part of its ARN.
    LoggingId
}
id_type! {
    /// A message, event or error frame, or an API operation: one id space. Unique, not secret.
    FrameId
}

/// Source of frame ids: a seeded generator, so that a simulation repeats.
#[derive(Debug)]
pub struct FrameIds(fastrand::Rng);

impl FrameIds {
    /// Two generators with one seed give the same ids.
    pub fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// The next id; 10-20 ns, no allocation.
    pub fn next_id(&mut self) -> FrameId {
        FrameId::from_random(self.0.u128(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only twelve ASCII letters and digits are an id.
    #[test]
    fn parse_admits_exactly_twelve_alphanumerics() {
        assert!(RoomId::parse("TC6fLHr7ycLt").is_some());
        for wrong in [
            "",
            "TC6fLHr7ycL",
            "TC6fLHr7ycLtX",
            "TC6fLHr7yc-t",
            "TC6fLHr7ycé",
        ] {
            assert!(RoomId::parse(wrong).is_none(), "{wrong}");
        }
    }

    /// Goal: a seed decides the ids; ids of one seed differ.
    #[test]
    fn seeded_ids_repeat_and_differ() {
        let (mut a, mut b) = (FrameIds::seeded(7), FrameIds::seeded(7));
        let first = a.next_id();
        assert_eq!(first, b.next_id());
        assert_ne!(first, a.next_id());
    }
}
