//! The recent rate of what comes in groups: two counts in windows of four seconds, no history.

use super::clock::Tick;

/// Bits of a window's length in nanoseconds: 2^32, which is 4.29 s.
const WINDOW_BITS: u32 = 32;
const WINDOW: u64 = 1 << WINDOW_BITS;

/// Counts, and tells how many there were a minute of late. It looks back 4.3 s at least and 8.6 s at most; silence
/// needs no call to be noticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meter {
    // Number of the window of `now`, from the clock's start.
    window: u32,
    // In that window.
    now: u32,
    // In the one before it.
    before: u32,
}

impl Meter {
    /// Counts `count` more. Ticks of two calls may be equal, and never go back.
    pub fn add(&mut self, count: u32, now: Tick) {
        self.advance(now);
        self.now = self.now.saturating_add(count);
    }

    /// Returns how many there are a minute: those of the present window, and of the one before it as much as lies
    /// within the last 4.3 s, as if they had come evenly.
    pub fn per_minute(&self, now: Tick) -> u64 {
        let mut seen = *self;
        seen.advance(now);
        let left = WINDOW - now.nanos() % WINDOW;
        let before = u128::from(seen.before) * u128::from(left) / u128::from(WINDOW);
        let counted = u128::from(seen.now) + before;
        let minute = u128::from(60_000_000_000_u64);
        u64::try_from(counted * minute / u128::from(WINDOW)).unwrap_or(u64::MAX)
    }

    fn advance(&mut self, now: Tick) {
        let window = u32::try_from(now.nanos() >> WINDOW_BITS).expect("32 bits are left");
        match window.saturating_sub(self.window) {
            0 => return,
            1 => self.before = std::mem::take(&mut self.now),
            _ => (self.before, self.now) = (0, 0),
        }
        self.window = window;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(0).after(Duration::from_millis(millis))
    }

    /// Goal: a steady rate is told within a tenth, whenever it is asked for. Method: ten a second for a minute, asked
    /// at odd instants.
    #[test]
    fn a_steady_rate_is_told() {
        let mut meter = Meter::default();
        for tenth in 0..600 {
            meter.add(1, at(tenth * 100));
            if tenth > 90 {
                let told = meter.per_minute(at(tenth * 100 + tenth % 97));
                assert!((540..=660).contains(&told), "{told} after {tenth}");
            }
        }
    }

    /// Goal: silence ends the rate without a call, and a first burst counts. Method: one group, asked early and late.
    #[test]
    fn silence_is_noticed_by_itself() {
        let mut meter = Meter::default();
        assert_eq!(meter.per_minute(at(5_000)), 0);
        meter.add(43, at(60_000));
        assert!((590..=610).contains(&meter.per_minute(at(60_010))));
        assert_eq!(meter.per_minute(at(70_000)), 0);
        meter.add(u32::MAX, at(70_000));
        meter.add(u32::MAX, at(70_000));
        assert!(meter.per_minute(at(70_000)) > 4_000_000_000, "no overflow");
    }
}
