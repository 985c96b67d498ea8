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
    stride: Stride,
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
            stride: Stride::default(),
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
        self.stride.next(len)
    }
}

/// Every position of a table once in each cycle, neighbours far apart: after any part of a cycle any
/// stretch of the table has had about that part of its positions, and so has any regular pattern. Rooms
/// are such stretches and patterns, so they thin evenly, and nobody keeps a list.
#[derive(Debug, Default)]
struct Stride {
    position: usize,
    step: usize,
    len: usize,
}

impl Stride {
    fn next(&mut self, len: usize) -> usize {
        if len != self.len {
            *self = Self {
                position: self.position % len.max(1),
                step: step(len),
                len,
            };
        }
        let position = self.position;
        // Positions are far below half of the largest number.
        self.position = (position + self.step) % len.max(1);
        position
    }
}

/// The step nearest above the golden section of `len` that reaches every position: multiples of the
/// golden section lie as evenly as multiples of any number can.
fn step(len: usize) -> usize {
    // 5/8, 8/13, …: 377/610 is exact to 1 in 10^6.
    let golden = len / 610 * 377 + len % 610 * 377 / 610;
    let mut steps = golden.max(1)..;
    steps
        .find(|step| coprime(*step, len))
        .expect("a prime is among them")
}

fn coprime(mut a: usize, mut b: usize) -> bool {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: every position comes once in each cycle.
        #[test]
        fn a_cycle_has_every_position_once(len in 1_usize..5000) {
            let mut stride = Stride::default();
            for _ in 0..2 {
                let mut seen = vec![false; len];
                for _ in 0..len {
                    let position = stride.next(len);
                    prop_assert!(!std::mem::replace(&mut seen[position], true), "{position} twice");
                }
            }
        }

        /// Goal: rooms thin evenly, whether their viewers sit side by side or in turn with others'.
        /// Method: a room of 50 viewers or more, at each tenth of a cycle.
        #[test]
        fn rooms_thin_evenly(pages in 1_usize..40, rooms in 1_usize..20, first in 0_usize..1000) {
            let len = 1024 * pages;
            let block = first..first + 50.max(len / 40);
            let in_turn = |position: usize| position % rooms == first % rooms;
            let mut stride = Stride::default();
            let mut cut = [0_usize; 2];
            for looks in 1..=len {
                let position = stride.next(len);
                cut[0] += usize::from(block.contains(&position));
                cut[1] += usize::from(in_turn(position));
                if looks % (len / 10) != 0 {
                    continue;
                }
                let here = block.end.min(len).saturating_sub(block.start);
                let sizes = [here, (0..len).filter(|position| in_turn(*position)).count()];
                for (cut, size) in cut.into_iter().zip(sizes) {
                    let even = size * looks / len;
                    let off = cut.abs_diff(even);
                    prop_assert!(off <= 6 + size / 20, "{cut} of {size} after {looks} of {len}");
                }
            }
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
