//! A timer wheel: coarse deadlines for very many entries, O(1) each, four to eight bytes each.

#![expect(
    clippy::indexing_slicing,
    reason = "a remainder of SLOT_COUNT is a slot"
)]

use std::time::Duration;

use super::clock::Tick;

const SLOT_COUNT: u64 = 512;

/// Entries come out once their deadline has passed, at most one granule late. A deadline beyond the
/// horizon comes out at the horizon; the owner checks the time and inserts again.
#[derive(Debug)]
pub struct Wheel<T> {
    // `SLOT_COUNT` of them; slot `n % SLOT_COUNT` has the entries of granule `n`.
    slots: Vec<Vec<T>>,
    // Length of a slot; above zero.
    granule: Duration,
    // The next slot to expire, counted from tick zero. It never goes back.
    position: u64,
}

impl<T> Wheel<T> {
    /// A wheel that turns one slot each `granule`; the horizon is 511 granules.
    pub fn new(granule: Duration, now: Tick) -> Self {
        let slots = (0..SLOT_COUNT).map(|_| Vec::new()).collect();
        let mut wheel = Self {
            slots,
            granule,
            position: 0,
        };
        wheel.position = wheel.slot_number(now);
        wheel
    }

    /// Makes `entry` come out of [`Wheel::expire`] once `due` has passed.
    #[inline]
    pub fn insert(&mut self, due: Tick, entry: T) {
        let number = self.slot_number(due) + 1;
        let horizon = self.position + SLOT_COUNT - 1;
        let slot = number.clamp(self.position, horizon) % SLOT_COUNT;
        self.slots[usize::try_from(slot).expect("below SLOT_COUNT")].push(entry);
    }

    /// Moves every due entry into `due`.
    #[inline]
    pub fn expire(&mut self, now: Tick, due: &mut Vec<T>) {
        let current = self.slot_number(now);
        let turns = (current + 1).saturating_sub(self.position).min(SLOT_COUNT);
        for _ in 0..turns {
            let slot = self.position % SLOT_COUNT;
            due.append(&mut self.slots[usize::try_from(slot).expect("below SLOT_COUNT")]);
            self.position += 1;
        }
        self.position = self.position.max(current + 1);
    }

    /// When to call [`Wheel::expire`] next.
    pub fn next_turn(&self) -> Tick {
        Tick::default().after(self.granule * u32::try_from(self.position).unwrap_or(u32::MAX))
    }

    fn slot_number(&self, tick: Tick) -> u64 {
        tick.nanos() / u64::try_from(self.granule.as_nanos()).expect("a granule is short")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANULE: Duration = Duration::from_millis(250);

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    /// Goal: never early, at most two granules late, also after a long pause and beyond the
    /// horizon.
    #[test]
    fn entries_come_out_after_their_deadline() {
        let mut wheel = Wheel::new(GRANULE, at(10_000));
        for millis in [10_000, 10_100, 11_000, 70_000, 100_000] {
            wheel.insert(at(millis), millis);
        }
        let mut due = Vec::new();
        for now in (10_000..100_600).step_by(50) {
            wheel.expire(at(now), &mut due);
            for deadline in due.drain(..) {
                assert!(
                    deadline <= now && now <= deadline + 500,
                    "{deadline} at {now}"
                );
            }
        }
        wheel.insert(at(100_700), 1);
        wheel.insert(at(1_000_000), 2);
        wheel.expire(at(900_000), &mut due);
        assert_eq!(due, [1, 2], "the far one comes out at the horizon");
    }
}
