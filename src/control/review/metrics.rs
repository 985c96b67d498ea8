//! Metrics of message review.

use std::cell::Cell;
use std::fmt::Write;
use std::time::Duration;

/// The result of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The handler allowed the message.
    Allow,
    /// The handler denied it.
    Deny,
    /// The answer is invalid.
    Invalid,
    /// No answer: no connection, a status, a failed function.
    Error,
    /// No answer in time.
    Timeout,
    /// Too many reviews wait already.
    Busy,
    /// The handler's address is not configured.
    Unconfigured,
}

const OUTCOMES: [(Outcome, &str); 7] = [
    (Outcome::Allow, "allow"),
    (Outcome::Deny, "deny"),
    (Outcome::Invalid, "invalid"),
    (Outcome::Error, "error"),
    (Outcome::Timeout, "timeout"),
    (Outcome::Busy, "busy"),
    (Outcome::Unconfigured, "unconfigured"),
];

/// Upper bounds of the histogram, in milliseconds: fine below the usual time-out.
const BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 150, 200, 500, 1000, 5000];

/// Counters of the control thread.
#[derive(Debug, Default)]
pub struct ReviewMetrics {
    outcomes: [Cell<u64>; OUTCOMES.len()],
    // The last one counts times above every bound.
    buckets: [Cell<u64>; BOUNDS_MS.len() + 1],
    seconds: Cell<f64>,
    pub(super) in_flight: Cell<usize>,
    pub(super) open: Cell<usize>,
}

impl ReviewMetrics {
    /// Counts a review that ended `elapsed` after its message arrived.
    pub(super) fn note(&self, outcome: Outcome, elapsed: Duration) {
        let index = OUTCOMES.iter().position(|(other, _)| *other == outcome);
        if let Some(count) = index.and_then(|index| self.outcomes.get(index)) {
            count.update(|count| count + 1);
        }
        if matches!(outcome, Outcome::Busy | Outcome::Unconfigured) {
            // No handler was called: the zeros would distort its times.
            return;
        }
        let above = |bound: &u64| elapsed > Duration::from_millis(*bound);
        let bucket = BOUNDS_MS.iter().take_while(|bound| above(bound)).count();
        if let Some(count) = self.buckets.get(bucket) {
            count.update(|count| count + 1);
        }
        self.seconds.update(|sum| sum + elapsed.as_secs_f64());
    }

    /// Appends them in Prometheus' text format.
    pub fn render(&self, out: &mut String) {
        let mut line = |text: std::fmt::Arguments<'_>| {
            let _infallible = out.write_fmt(text);
            out.push('\n');
        };
        let name = "uproar_review_requests_total";
        line(format_args!("# HELP {name} Reviews, by what they came to."));
        line(format_args!("# TYPE {name} counter"));
        for ((_, label), count) in OUTCOMES.iter().zip(&self.outcomes) {
            line(format_args!("{name}{{result=\"{label}\"}} {}", count.get()));
        }
        let name = "uproar_review_seconds";
        line(format_args!(
            "# HELP {name} From a message's arrival to the end of its review."
        ));
        line(format_args!("# TYPE {name} histogram"));
        let mut sum = 0;
        for (bound, count) in BOUNDS_MS.iter().zip(&self.buckets) {
            sum += count.get();
            let (whole, millis) = (bound / 1000, bound % 1000);
            line(format_args!(
                "{name}_bucket{{le=\"{whole}.{millis:03}\"}} {sum}"
            ));
        }
        sum += self.buckets.last().map_or(0, Cell::get);
        line(format_args!("{name}_bucket{{le=\"+Inf\"}} {sum}"));
        line(format_args!("{name}_sum {}", self.seconds.get()));
        line(format_args!("{name}_count {sum}"));
        for (name, help, value) in [
            (
                "uproar_review_in_flight",
                "Requests under way to handlers.",
                &self.in_flight,
            ),
            (
                "uproar_review_open",
                "Reviews that wait for a free request or are under way.",
                &self.open,
            ),
        ] {
            line(format_args!("# HELP {name} {help}"));
            line(format_args!("# TYPE {name} gauge"));
            line(format_args!("{name} {}", value.get()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: buckets are cumulative, and a bound belongs to the bucket it names.
    #[test]
    fn buckets_are_rendered_cumulatively() {
        let metrics = ReviewMetrics::default();
        metrics.note(Outcome::Allow, Duration::from_millis(1));
        metrics.note(Outcome::Allow, Duration::from_millis(3));
        metrics.note(Outcome::Timeout, Duration::from_mins(1));
        metrics.note(Outcome::Busy, Duration::ZERO);
        let mut out = String::new();
        metrics.render(&mut out);
        for expected in [
            "uproar_review_requests_total{result=\"allow\"} 2",
            "uproar_review_requests_total{result=\"timeout\"} 1",
            "uproar_review_requests_total{result=\"busy\"} 1",
            "uproar_review_seconds_bucket{le=\"0.001\"} 1",
            "uproar_review_seconds_bucket{le=\"0.005\"} 2",
            "uproar_review_seconds_bucket{le=\"5.000\"} 2",
            "uproar_review_seconds_bucket{le=\"+Inf\"} 3",
            "uproar_review_seconds_count 3",
            "uproar_review_in_flight 0",
        ] {
            assert!(
                out.lines().any(|line| line == expected),
                "{expected}\n{out}"
            );
        }
    }
}
