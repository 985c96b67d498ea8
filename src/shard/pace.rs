//! The pace of a room: how long it collects messages before a flush, given the cost of a send.

use std::time::Duration;

use crate::net::io::Queued;

/// The cost of one short send, measured while the shard runs.
#[derive(Debug)]
pub(super) struct Pace {
    send_cost: Duration,
    ceiling: Duration,
}

impl Pace {
    /// Starts with a guess of the cost; no room waits longer than `ceiling`.
    pub(super) fn new(ceiling: Duration) -> Self {
        Self {
            send_cost: SEND_COST_GUESS,
            ceiling,
        }
    }

    /// Changes the ceiling; what sends cost stays known.
    pub(super) fn set_ceiling(&mut self, ceiling: Duration) {
        self.ceiling = ceiling;
    }

    /// Notes that submitting `queued` took `elapsed`; returns the new cost if these sends change
    /// it. Only short sends count: the extra cost of a long one is copying, which collecting longer
    /// does not save. Counting it would be positive feedback: longer batches raise the interval,
    /// which lengthens batches.
    pub(super) fn note(&mut self, queued: Queued, elapsed: Duration) -> Option<Duration> {
        let Queued { sends, bytes } = queued;
        if sends < SEND_COST_SAMPLE_MIN || bytes > SEND_COST_BYTES_MAX * u64::from(sends) {
            return None;
        }
        self.send_cost = (self.send_cost * 7 + elapsed / sends) / 8;
        Some(self.send_cost)
    }

    /// Returns how long a room with `members` on one shard collects: twice the cost of its sends,
    /// so that they take at most half of the core; zero for a room whose sends are cheap.
    pub(super) fn interval(&self, members: usize) -> Duration {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        let cost = self.send_cost.saturating_mul(members);
        if cost < FREE {
            Duration::ZERO
        } else {
            cost.saturating_mul(2).min(self.ceiling)
        }
    }
}

/// Cost before the first measurement: one send to one of a thousand sockets.
const SEND_COST_GUESS: Duration = Duration::from_micros(7);
/// Fewest sends that give a sample of the cost.
const SEND_COST_SAMPLE_MIN: u32 = 32;
/// Most bytes of a short send.
const SEND_COST_BYTES_MAX: u64 = 4096;
/// A flush that costs less happens in the same turn.
const FREE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    const CEILING: Duration = Duration::from_millis(50);

    fn noted(pace: &mut Pace, sends: u32, bytes_each: u64, micros_each: u64) {
        let queued = Queued {
            sends,
            bytes: u64::from(sends) * bytes_each,
        };
        for _ in 0..100 {
            let _learned = pace.note(queued, Duration::from_micros(micros_each) * sends);
        }
    }

    /// Goal: another ceiling counts for the next flush, with the cost known so far.
    #[test]
    fn the_ceiling_can_change() {
        let mut pace = Pace::new(CEILING);
        noted(&mut pace, 32, 200, 20);
        assert_eq!(pace.interval(1_000_000), CEILING);
        pace.set_ceiling(CEILING / 10);
        assert_eq!(pace.interval(1_000_000), CEILING / 10);
        pace.set_ceiling(Duration::from_secs(10));
        assert!(pace.interval(10_000) > CEILING);
    }

    /// Goal: the pace follows the cost of short sends, and neither that of long ones nor that of a
    /// few.
    #[test]
    fn it_follows_what_short_sends_cost() {
        let mut pace = Pace::new(CEILING);
        noted(&mut pace, 128, 400, 4);
        let near = |wanted: u64, got: Duration| got.abs_diff(Duration::from_micros(wanted));
        assert!(near(8_000, pace.interval(1000)) < Duration::from_micros(50));
        noted(&mut pace, 128, 300_000, 30);
        noted(&mut pace, 3, 400, 100);
        assert!(near(8_000, pace.interval(1000)) < Duration::from_micros(50));
        noted(&mut pace, 128, 4096, 8);
        assert!(near(16_000, pace.interval(1000)) < Duration::from_micros(50));
    }

    /// Goal: small rooms never wait, and no room waits beyond the ceiling.
    #[test]
    fn it_is_bounded_on_both_sides() {
        let mut pace = Pace::new(CEILING);
        noted(&mut pace, 128, 400, 4);
        assert_eq!(pace.interval(0), Duration::ZERO);
        assert_eq!(pace.interval(240), Duration::ZERO);
        assert_eq!(pace.interval(1_000_000), CEILING);
        assert_eq!(pace.interval(usize::MAX), CEILING);
        assert_eq!(
            Pace::new(Duration::ZERO).interval(1_000_000),
            Duration::ZERO
        );
    }
}
