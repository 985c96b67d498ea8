//! Who should be the home of a hash slot: the node with the highest rendezvous hash (Thaler and Ravishankar 1998).
//!
//! By the node's name, so that a restarted one gets the same hash slots back, and the others keep theirs.

use super::{HashSlot, Incarnation};
use crate::base::hash::fnv1a_64;

/// A node that may be a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its process.
    pub incarnation: Incarnation,
    // Of its name.
    hash: u64,
}

impl Candidate {
    /// Makes one from its name.
    pub(super) fn new(incarnation: Incarnation, name: &str) -> Self {
        Self {
            incarnation,
            hash: fnv1a_64(name.as_bytes()),
        }
    }

    /// Ties, of two processes under one name, go to one of them everywhere.
    fn weight(&self, slot: HashSlot) -> (u64, Incarnation) {
        let weight = mix(self.hash ^ mix(u64::from(slot.number()) + 1));
        (weight, self.incarnation)
    }
}

/// Returns the candidate that should be the home.
pub(super) fn best(slot: HashSlot, candidates: &[Candidate]) -> Option<Incarnation> {
    let best = (candidates.iter()).max_by_key(|candidate| candidate.weight(slot));
    best.map(|candidate| candidate.incarnation)
}

/// Returns how many candidates come before this one: 0 for the best. `None` if it is none.
pub(super) fn rank(slot: HashSlot, of: Incarnation, candidates: &[Candidate]) -> Option<u32> {
    let mut all = candidates.iter();
    let own = all
        .find(|candidate| candidate.incarnation == of)?
        .weight(slot);
    let before = candidates
        .iter()
        .filter(|candidate| candidate.weight(slot) > own);
    u32::try_from(before.count()).ok()
}

/// Spreads bits: the finaliser of splitmix64 (Steele, Lea, Flood 2014). FNV-1a alone leaves names that differ in their
/// last character close to each other.
const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(names: &[&str]) -> Vec<Candidate> {
        let numbered = (1..).zip(names);
        numbered
            .map(|(number, name)| Candidate::new(Incarnation::new(number), name))
            .collect()
    }

    /// Goal: nodes get about the same number of hash slots, and one that leaves gives up its own alone.
    #[test]
    fn hash_slots_are_spread_and_stay() {
        let three = nodes(&["chat-1", "chat-2", "chat-3"]);
        let mut counts = [0; 3];
        for slot in HashSlot::all() {
            let home = best(slot, &three).expect("three nodes");
            counts[usize::try_from(home.bits() - 1).expect("small")] += 1;
            assert_eq!(rank(slot, home, &three), Some(0));
            if home != Incarnation::new(3) {
                assert_eq!(best(slot, &three[..2]), Some(home));
            }
        }
        assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
        assert_eq!(best(HashSlot::new(0), &[]), None);
        assert_eq!(rank(HashSlot::new(0), Incarnation::new(9), &three), None);
    }

    /// Goal: a restarted node gets the same hash slots.
    #[test]
    fn the_name_decides() {
        let before = nodes(&["a", "b"]);
        let mut after = nodes(&["a", "b"]);
        after[0].incarnation = Incarnation::new(99);
        for slot in HashSlot::all() {
            let [old, new] = [&before, &after].map(|nodes| best(slot, nodes).expect("two"));
            assert_eq!(old == Incarnation::new(1), new == Incarnation::new(99));
        }
    }
}
