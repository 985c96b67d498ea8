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

/// The 50th, 99th and 99.9th percentile and the maximum of some ages, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ages(pub(crate) [u64; 4]);

impl Ages {
    pub(crate) fn of(ages: &Histogram<u64>) -> Self {
        let at = |quantile| ages.value_at_quantile(quantile);
        Self([at(0.5), at(0.99), at(0.999), ages.max()])
    }

    /// The same in milliseconds.
    pub(crate) fn ms(self) -> [f64; 4] {
        self.0.map(|micros| micros as f64 / 1000.0)
    }

    /// The 99th percentile.
    pub(crate) fn p99(self) -> Duration {
        Duration::from_micros(self.0[1])
    }

    pub(crate) fn max_micros(self) -> u64 {
        self.0[3]
    }

    pub(crate) fn json(self) -> Value {
        let [p50, p99, p999, max] = self.0;
        json!({"p50": p50, "p99": p99, "p999": p999, "max": max})
    }

    /// One line for people.
    pub(crate) fn line(self) -> String {
        let [p50, p99, p999, max] = self.ms();
        format!("p50 {p50:.2} ms, p99 {p99:.2} ms, p99.9 {p999:.2} ms, max {max:.2} ms")
    }
}
