//! What is due by the clock, whether or not what was due before has come back: no coordinated omission.

use std::time::Duration;

/// Something that is due again and again.
pub(super) struct Schedule {
    interval: Duration,
    total: u64,
}

impl Schedule {
    /// `rate` a second, for as long as is measured.
    pub(super) fn new(rate: u32, measured: Duration) -> Self {
        let interval = Duration::from_secs(1) / rate;
        let total = measured.as_nanos() / interval.as_nanos();
        Self {
            interval,
            total: u64::try_from(total).unwrap_or(u64::MAX),
        }
    }

    /// How many there are.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How many are due by now.
    pub(super) fn due(&self, elapsed: Duration) -> u64 {
        let due = elapsed.as_nanos() / self.interval.as_nanos() + 1;
        u64::try_from(due).unwrap_or(u64::MAX).min(self.total)
    }

    /// When one is due, in nanoseconds.
    pub(super) fn at(&self, number: u64) -> u64 {
        u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX) * number
    }

    /// How long nothing is due, at most `most`.
    pub(super) fn wait(&self, next: u64, elapsed: Duration, most: Duration) -> Duration {
        Duration::from_nanos(self.at(next))
            .saturating_sub(elapsed)
            .min(most)
    }
}
