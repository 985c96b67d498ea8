//! Metrics of message review.

use std::cell::Cell;
use std::time::Duration;

use crate::exposition::{Exposition, Family};

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
    // By position in OUTCOMES.
    outcomes: [Cell<u64>; OUTCOMES.len()],
    // The same of reviews after delivery.
    afterwards: [Cell<u64>; OUTCOMES.len()],
    // The last one counts times above every bound.
    buckets: [Cell<u64>; BOUNDS_MS.len() + 1],
    // Sum of the times in the buckets.
    seconds: Cell<f64>,
    /// Requests to handlers that are not answered yet; at most `open`.
    pub(super) in_flight: Cell<usize>,
    /// Reviews that have not ended; at most REVIEW_OPEN_MAX.
    pub(super) open: Cell<usize>,
}

impl ReviewMetrics {
    /// Counts a review that ended `elapsed` after its message arrived.
    pub(super) fn note(&self, outcome: Outcome, elapsed: Duration) {
        count(&self.outcomes, outcome);
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

    /// Counts a review after delivery that ended.
    pub(super) fn note_afterwards(&self, outcome: Outcome) {
        count(&self.afterwards, outcome);
    }

    /// Adds them to `/metrics`.
    pub fn render(&self, page: &mut Exposition) {
        let mut requests = page.family(&REQUESTS);
        for ((_, label), count) in OUTCOMES.iter().zip(&self.outcomes) {
            requests.add(&[("result", label)], count.get());
        }
        let mut afterwards = page.family(&AFTERWARDS);
        for ((_, label), count) in OUTCOMES.iter().zip(&self.afterwards) {
            afterwards.add(&[("result", label)], count.get());
        }
        let bounds = BOUNDS_MS.map(Duration::from_millis);
        let counts = bounds.into_iter().zip(self.buckets.iter().map(Cell::get));
        let above = self.buckets.last().map_or(0, Cell::get);
        page.family(&SECONDS)
            .histogram(counts, above, self.seconds.get());
        page.single(&IN_FLIGHT, self.in_flight.get());
        page.single(&OPEN, self.open.get());
    }
}

fn count(counts: &[Cell<u64>; OUTCOMES.len()], outcome: Outcome) {
    let index = OUTCOMES.iter().position(|(other, _)| *other == outcome);
    if let Some(count) = index.and_then(|index| counts.get(index)) {
        count.update(|count| count + 1);
    }
}

const AFTERWARDS: Family = Family::counter(
    "uproar_after_reviews_total",
    "Reviews after delivery that ended, by result.",
);
const REQUESTS: Family = Family::counter(
    "uproar_review_requests_total",
    "Reviews that ended, by result.",
);
const SECONDS: Family = Family::histogram(
    "uproar_review_seconds",
    "Time from a message's arrival to the end of its review, in seconds.",
);
const IN_FLIGHT: Family = Family::gauge(
    "uproar_review_in_flight",
    "Requests to review handlers that are not answered yet.",
);
const OPEN: Family = Family::gauge(
    "uproar_review_open",
    "Reviews that have not ended: their request waits for its turn, or for its answer.",
);

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
        let mut page = Exposition::new();
        metrics.render(&mut page);
        let out = page.into_text();
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
