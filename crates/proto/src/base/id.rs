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

    /// From uniform random bits; bias below 2^-57. Half of the characters come out of each wide division, because
    /// those are calls.
    fn from_random(mut bits: u128) -> Self {
        const HALF: usize = ID_CHARS / 2;
        let base = u128::from(62_u64.pow(6));
        let mut bytes = [0; ID_CHARS];
        for half in bytes.chunks_exact_mut(HALF) {
            let quotient = bits / base;
            let mut rest = u64::try_from(bits - quotient * base).expect("62^6 is below 2^36");
            for byte in half {
                let index = usize::try_from(rest % 62).expect("a remainder of 62 fits");
                *byte = ALPHABET[index];
                rest /= 62;
            }
            bits = quotient;
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
    /// A ban: a hash of the user and of where it holds.
    BanId
}
id_type! {
    /// A set of rules: a hash of its name.
    RuleSetId
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

    /// Goal: characters are the number's digits to the base of 62, lowest first. Method: divide by 62 twelve times.
    #[test]
    fn an_id_has_the_digits_of_its_bits() {
        for mut bits in [
            0,
            61,
            62,
            u128::MAX,
            62_u128.pow(6),
            62_u128.pow(12) - 1,
            0x0123 << 90,
        ] {
            let id = RoomId::from_random(bits);
            for byte in id.as_bytes() {
                assert_eq!(
                    u128::from(*byte),
                    u128::from(ALPHABET[usize::try_from(bits % 62).expect("small")])
                );
                bits /= 62;
            }
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
