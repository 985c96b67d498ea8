//! How many users are in a room: exact for as many as most rooms have, then by an estimate (HyperLogLog).

use bytes::BufMut;

use crate::base::limits::UNIQUE_EXACT_MAX;

/// Registers of the estimate: 4 KB, which is right to 1.6 %.
const REGISTERS: usize = 4096;
/// Bits of a hash that choose a register.
const INDEX_BITS: u32 = 12;

/// A set of users, by their hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniqueUsers(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    // Some perhaps twice; at most twice `UNIQUE_EXACT_MAX`.
    Exact(Vec<u32>),
    // The longest run of zeros that each register has seen, and one more.
    Estimate(Box<[u8]>),
}

impl Default for UniqueUsers {
    fn default() -> Self {
        Self(Kind::Exact(Vec::new()))
    }
}

impl UniqueUsers {
    /// Adds a user.
    pub fn add(&mut self, user_hash: u32) {
        match &mut self.0 {
            Kind::Exact(hashes) => {
                hashes.push(user_hash);
                if hashes.len() >= 2 * UNIQUE_EXACT_MAX {
                    self.condense();
                }
            }
            Kind::Estimate(registers) => note(registers, user_hash),
        }
    }

    /// Adds all users of another set.
    pub fn merge(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (_, Kind::Exact(hashes)) => self.add_all(hashes),
            (Kind::Estimate(mine), Kind::Estimate(others)) => {
                for (mine, other) in mine.iter_mut().zip(others) {
                    *mine = (*mine).max(other);
                }
            }
            (Kind::Exact(hashes), Kind::Estimate(registers)) => {
                let hashes = std::mem::take(hashes);
                self.0 = Kind::Estimate(registers);
                self.add_all(hashes);
            }
        }
    }

    fn add_all(&mut self, hashes: Vec<u32>) {
        for hash in hashes {
            self.add(hash);
        }
    }

    /// How many they are.
    pub fn count(mut self) -> u64 {
        self.condense();
        match &self.0 {
            Kind::Exact(hashes) => u64::try_from(hashes.len()).expect("a length in memory"),
            Kind::Estimate(registers) => estimate(registers),
        }
    }

    /// Leaves each user once; more than may be exact become an estimate.
    fn condense(&mut self) {
        let Kind::Exact(hashes) = &mut self.0 else {
            return;
        };
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.len() > UNIQUE_EXACT_MAX {
            let mut registers = vec![0; REGISTERS].into_boxed_slice();
            for hash in hashes.iter() {
                note(&mut registers, *hash);
            }
            self.0 = Kind::Estimate(registers);
        }
    }

    /// Appends it, for another node.
    pub fn write(mut self, out: &mut Vec<u8>) {
        self.condense();
        match self.0 {
            Kind::Exact(hashes) => {
                out.put_u8(0);
                out.extend(hashes.into_iter().flat_map(u32::to_le_bytes));
            }
            Kind::Estimate(registers) => {
                out.put_u8(1);
                out.put_slice(&registers);
            }
        }
    }

    /// Reads what another node wrote; `None`: it is no set of users.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((0, hashes)) => {
                let (hashes, rest) = hashes.as_chunks();
                if !rest.is_empty() || hashes.len() > UNIQUE_EXACT_MAX {
                    return None;
                }
                let hashes = hashes.iter().map(|hash| u32::from_le_bytes(*hash));
                Some(Self(Kind::Exact(hashes.collect())))
            }
            Some((1, registers)) => {
                let most = 64 - INDEX_BITS + 1;
                let is_valid = registers.len() == REGISTERS
                    && registers
                        .iter()
                        .all(|register| u32::from(*register) <= most);
                is_valid.then(|| Self(Kind::Estimate(registers.into())))
            }
            _ => None,
        }
    }
}

/// Shows a register a user.
fn note(registers: &mut [u8], user_hash: u32) {
    let bits = mixed(user_hash);
    let index = usize::try_from(bits >> (64 - INDEX_BITS)).expect("12 bits");
    let rest = bits << INDEX_BITS | 1 << (INDEX_BITS - 1);
    let rank = u8::try_from(rest.leading_zeros() + 1).expect("at most 64");
    if let Some(register) = registers.get_mut(index) {
        *register = (*register).max(rank);
    }
}

/// Spreads a hash over 64 bits: the estimate needs bits that look like chance (SplitMix64).
fn mixed(user_hash: u32) -> u64 {
    let mut bits = u64::from(user_hash).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

/// The number that registers stand for.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::as_conversions,
    reason = "an estimate of some millions"
)]
fn estimate(registers: &[u8]) -> u64 {
    let m = REGISTERS as f64;
    let sum: f64 = registers
        .iter()
        .map(|rank| 0.5_f64.powi((*rank).into()))
        .sum();
    let raw = 0.7213 / (1.0 + 1.079 / m) * m * m / sum;
    let zeros: usize = registers.iter().map(|rank| usize::from(*rank == 0)).sum();
    // Registers that saw nobody say more while there are few users.
    let refined = if raw <= 2.5 * m && zeros > 0 {
        m * (m / zeros as f64).ln()
    } else {
        raw
    };
    refined.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::fnv1a_32;

    fn of(users: std::ops::Range<u32>) -> UniqueUsers {
        let mut unique = UniqueUsers::default();
        for user in users {
            unique.add(fnv1a_32(format!("user-{user}").as_bytes()));
        }
        unique
    }

    /// Goal: the number is exact up to the bound, and beyond it within 5 % (three times the error that is expected). Users
    /// with several connections count once.
    #[test]
    fn users_are_counted_once() {
        assert_eq!(UniqueUsers::default().count(), 0);
        for users in [1, 1_000, 49_000] {
            let mut unique = of(0..users);
            unique.merge(of(0..users / 2));
            // A few of them share a hash.
            let count = unique.count();
            assert!((u64::from(users) - count) <= 1, "{users}: {count}");
        }
        for users in [60_000, 200_000] {
            let count = of(0..users).count();
            let off = count.abs_diff(users.into());
            assert!(off * 20 < u64::from(users), "{users}: {count}");
        }
    }

    /// Goal: sets of several nodes join, exact or not, and what one writes another reads; noise is none.
    #[test]
    fn sets_join_over_the_wire() {
        for (a, b, all) in [
            (0..100, 50..150, 150),
            (0..100, 50..120_000, 120_000),
            (0..120_000, 50..100, 120_000),
            (0..80_000, 40_000..120_000, 120_000),
        ] {
            let mut bytes = Vec::new();
            of(b).write(&mut bytes);
            let mut unique = of(a);
            unique.merge(UniqueUsers::read(&bytes).expect("as written"));
            let count = unique.count();
            assert!(count.abs_diff(all) * 20 < all, "{all}: {count}");
        }
        for noise in [
            &b""[..],
            &[2],
            &[0, 1, 2],
            &[1, 2, 3],
            &[[1; 1].as_slice(), &[99; REGISTERS]].concat(),
        ] {
            assert!(UniqueUsers::read(noise).is_none());
        }
    }
}
