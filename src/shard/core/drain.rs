//! The pace of a drain: how many viewers are to be cut by now, and which one is next.
//!
//! Owns: a count and a position. Never: connections; their table is its caller's.

use std::time::Duration;

use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::DRAIN_TICK;

/// One shard's drain.
#[derive(Debug)]
pub(super) struct Drain {
    began: Tick,
    // From the first cut to the last; zero: all at once.
    over: Duration,
    // Viewers when it began, and those that arrived since.
    viewers: u64,
    // Viewers whose turn has come.
    released: u64,
    // Positions in a row that had nobody to be cut.
    vain_looks: usize,
    cycle: Cycle,
}

impl Drain {
    /// Begins to cut the shard's `viewers` viewers, at an even pace.
    pub(super) fn new(viewers: u64, over: Duration, now: Tick) -> Self {
        Self {
            began: now,
            over,
            viewers,
            released: 0,
            vain_looks: 0,
            cycle: Cycle::default(),
        }
    }

    /// A viewer has arrived; it is cut in its turn.
    pub(super) fn arrived(&mut self) {
        self.viewers += 1;
    }

    /// How many viewers' turn has come, and was not taken yet. Viewers who left by themselves count as
    /// if they were still to be cut, so that the others are not cut later than promised.
    pub(super) fn due(&self, now: Tick) -> u64 {
        let elapsed = now.since(self.began);
        let wanted = if elapsed >= self.over {
            self.viewers
        } else {
            let share = u128::from(self.viewers) * elapsed.as_nanos();
            let wanted = share.div_ceil(self.over.as_nanos());
            u64::try_from(wanted).expect("at most all")
        };
        wanted.saturating_sub(self.released)
    }

    /// The turn of one more viewer was taken.
    pub(super) fn released(&mut self) {
        self.released += 1;
        self.vain_looks = 0;
    }

    /// Notes a position without a viewer to be cut; returns whether a whole cycle of `len` has none.
    pub(super) fn looked_in_vain(&mut self, len: usize) -> bool {
        self.vain_looks += 1;
        if self.vain_looks < len {
            return false;
        }
        self.vain_looks = 0;
        true
    }

    /// When to look for the next one, if all that are due at `now` were taken or none is left.
    pub(super) fn next(&self, now: Tick) -> Tick {
        let soonest = now.after(DRAIN_TICK);
        if self.released >= self.viewers || now.since(self.began) >= self.over {
            return soonest;
        }
        let share = self.over.as_nanos() * u128::from(self.released);
        let share = u64::try_from(share / u128::from(self.viewers)).unwrap_or(u64::MAX);
        self.began
            .after(Duration::from_nanos(share + 1))
            .max(soonest)
    }

    /// The next position to look at in a table of `len` positions.
    pub(super) fn position(&mut self, len: usize) -> usize {
        self.cycle.next(len)
    }
}

/// Every position of a table once in each cycle, so that rooms thin evenly and nobody keeps a list.
///
/// A cycle has 64 rounds, and each takes one position of every 64 in a row: rooms whose viewers came
/// together thin alike. Where it begins within the 64 differs between them, so that rooms whose viewers
/// came in turn with those of other rooms thin alike, too.
#[derive(Debug, Default)]
struct Cycle {
    looks: usize,
    len: usize,
}

/// Positions in a row of which a round takes one.
const STRETCH: usize = 64;
/// From one position to that of the next round: odd, so that it reaches all, and neighbours are far
/// apart. Of the odd numbers it left the most even rooms, of all sizes and patterns that were tried.
const STEP: usize = 27;

impl Cycle {
    fn next(&mut self, len: usize) -> usize {
        debug_assert!(len.is_multiple_of(STRETCH), "tables grow by pages");
        let stretches = len / STRETCH;
        if len != self.len || self.looks == len {
            (self.looks, self.len) = (0, len);
        }
        let (round, stretch) = (self.looks / stretches.max(1), self.looks % stretches.max(1));
        self.looks += 1;
        stretch * STRETCH + (scattered(stretch) + round * STEP) % STRETCH
    }
}

/// A number below 64 that looks like chance (Fibonacci hashing).
fn scattered(number: usize) -> usize {
    let number = u64::try_from(number).expect("an index into memory");
    let top = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58;
    usize::try_from(top).expect("six bits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: every position comes once in each cycle.
        #[test]
        fn a_cycle_has_every_position_once(stretches in 1_usize..200) {
            let len = stretches * STRETCH;
            let mut cycle = Cycle::default();
            for _ in 0..2 {
                let mut seen = vec![false; len];
                for _ in 0..len {
                    let position = cycle.next(len);
                    prop_assert!(!std::mem::replace(&mut seen[position], true), "{position} twice");
                }
            }
        }

        /// Goal: rooms thin evenly, whether their viewers sit side by side or in turn with others':
        /// at half time each has about half of its viewers.
        #[test]
        fn rooms_thin_evenly(
            pages in 1_usize..40,
            rooms in 2_usize..40,
            first in 0_usize..900,
            size in 50_usize..100,
        ) {
            let len = 1024 * pages;
            let mut cycle = Cycle::default();
            let cut: Vec<usize> = (0..len / 2).map(|_| cycle.next(len)).collect();
            let side_by_side = cut.iter().filter(|at| (first..first + size).contains(at)).count();
            prop_assert!((2 * side_by_side).abs_diff(size) <= size / 4, "{side_by_side} of {size}");
            let is_ours = |at: &usize| at % rooms == first % rooms;
            let in_turn = cut.iter().filter(|at| is_ours(at)).count();
            let size = (0..len).filter(is_ours).count();
            prop_assert!((2 * in_turn).abs_diff(size) <= size / 2, "{in_turn} of {size}");
        }

        /// Goal: the pace is even, ends in time, and whoever arrives is cut in time, too.
        /// Method: looks at random instants; what is due is taken.
        #[test]
        fn the_pace_is_even(
            viewers in 0_u64..100_000,
            seconds in 1_u64..1000,
            looks in proptest::collection::vec((1_u64..3000, 0_u64..50), 1..60),
        ) {
            let (over, began) = (Duration::from_secs(seconds), Tick::from_nanos(77));
            let mut drain = Drain::new(viewers, over, began);
            let (mut now, mut total) = (began, viewers);
            for (millis, arrivals) in looks {
                now = now.after(Duration::from_millis(millis)).max(drain.next(now));
                for _ in 0..arrivals {
                    drain.arrived();
                }
                total += arrivals;
                for _ in 0..drain.due(now) {
                    drain.released();
                }
                prop_assert_eq!(drain.due(now), 0);
                let elapsed = now.since(began).min(over).as_nanos();
                let even = u128::from(total) * elapsed;
                let released = u128::from(drain.released) * over.as_nanos();
                prop_assert!(released >= even && released - even < over.as_nanos());
            }
            prop_assert!(drain.next(now) > now, "no look is wasted");
        }
    }

    /// Goal: over no time, all are due at once.
    #[test]
    fn no_time_is_at_once() {
        let now = Tick::from_nanos(5);
        let mut drain = Drain::new(3, Duration::ZERO, now);
        assert_eq!(drain.due(now), 3);
        drain.arrived();
        assert_eq!(drain.due(now), 4);
    }
}
