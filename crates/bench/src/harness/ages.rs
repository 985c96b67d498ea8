//! Ages of messages and durations of handshakes, in microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Ages above a minute count as a minute.
const AGE_MICROS_MAX: u64 = 60_000_000;

/// Returns an empty histogram of ages in microseconds, with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, AGE_MICROS_MAX, 3).expect("bounds and digits are valid")
}

/// Records `age`.
pub(crate) fn record(ages: &mut Histogram<u64>, age: Duration) {
    ages.saturating_record(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
}

/// Percentiles of some ages, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ages {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    /// The 99.9th.
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Ages {
    pub(crate) fn of(ages: &Histogram<u64>) -> Self {
        let at = |quantile| ages.value_at_quantile(quantile);
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: ages.max(),
        }
    }

    /// Returns the percentiles in milliseconds, ascending.
    pub(crate) fn ms(self) -> [f64; 4] {
        [self.p50, self.p99, self.p999, self.max].map(|micros| micros as f64 / 1000.0)
    }

    /// Returns whether the 99th percentile is at most `bound`.
    pub(crate) fn keep(self, bound: Duration) -> bool {
        Duration::from_micros(self.p99) <= bound
    }

    pub(crate) fn json(self) -> Value {
        json!({"p50": self.p50, "p99": self.p99, "p999": self.p999, "max": self.max})
    }

    /// Writes one line for people.
    pub(crate) fn line(self) -> String {
        let [p50, p99, p999, max] = self.ms();
        format!("p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {max:.2} ms")
    }
}
