//! The pace of a room: how long it collects messages before they are flushed, by what a send costs.

use std::time::Duration;

use crate::net::wire::Queued;

/// What one short send costs, measured as the shard goes.
#[derive(Debug)]
pub struct Pace {
    send_cost: Duration,
    ceiling: Duration,
}

impl Pace {
    /// With a guess of the cost; no room waits longer than `ceiling`.
    pub fn new(ceiling: Duration) -> Self {
        Self {
            send_cost: SEND_COST_GUESS,
            ceiling,
        }
    }

    /// Notes that submitting `queued` took `elapsed`; the new cost, if that says something about it. It learns from short sends only: what a long one
    /// costs beyond is copying, which collecting longer does not save. A pace that counted it would
    /// wait the longer, the longer its sends are, and they are the longer, the longer it waits.
    pub fn note(&mut self, queued: Queued, elapsed: Duration) -> Option<Duration> {
        let Queued { sends, bytes } = queued;
        if sends < SEND_COST_SAMPLE_MIN || bytes > SEND_COST_BYTES_MAX * u64::from(sends) {
            return None;
        }
        self.send_cost = (self.send_cost * 7 + elapsed / sends) / 8;
        Some(self.send_cost)
    }

    /// How long a room with `members` on one shard collects: twice what its sends cost, so that they
    /// take half of the core at most; nothing at all for a room that costs little.
    pub fn interval(&self, members: usize) -> Duration {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        let cost = self.send_cost.saturating_mul(members);
        if cost < FREE {
            Duration::ZERO
        } else {
            cost.saturating_mul(2).min(self.ceiling)
        }
    }
}

/// Until the first measurement: one send to one of a thousand sockets.
const SEND_COST_GUESS: Duration = Duration::from_micros(7);
/// Fewer sends than these say little about the cost of one.
const SEND_COST_SAMPLE_MIN: u32 = 32;
/// Bytes of a send whose price is that of any.
const SEND_COST_BYTES_MAX: u64 = 4096;
/// A flush that costs less is done in the same turn.
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

    /// Goal: the pace follows the cost of short sends, and neither that of long ones nor that of a few.
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

    /// Goal: small rooms never wait, and none beyond the ceiling.
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
