//! How long rules took to judge messages: a histogram finer than those of deliveries.

use std::time::{Duration, Instant};

use super::figure::Figure;
use crate::exposition::{Exposition, Family};

/// Upper bounds, in microseconds: what a message should take, and what a bad expression makes of it.
const BOUNDS_US: [u64; 9] = [1, 2, 5, 10, 20, 50, 100, 1_000, 10_000];

/// Counts of times by upper bound, and their sum.
#[derive(Debug, Default)]
pub struct RuleTimes {
    counts: [Figure; BOUNDS_US.len()],
    above: Figure,
    sum_nanos: Figure,
}

impl RuleTimes {
    /// Measures `work`; for the thread that owns it alone. What is measured decides nothing, so that a simulation repeats.
    #[expect(
        clippy::disallowed_methods,
        reason = "it measures, and decides nothing"
    )]
    pub fn measure<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.observe(begun.elapsed());
        done
    }

    fn observe(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut bounds = BOUNDS_US.iter().zip(&self.counts);
        let count = bounds.find(|(bound, _)| nanos <= **bound * 1000);
        count.map_or(&self.above, |(_, count)| count).inc();
        self.sum_nanos.add(nanos);
    }

    /// Adds those of all shards to a page.
    pub fn render<'a>(all: impl Iterator<Item = &'a Self> + Clone, page: &mut Exposition) {
        let sum = |figure: &dyn Fn(&Self) -> u64| all.clone().map(figure).sum::<u64>();
        let bounds = BOUNDS_US.iter().enumerate();
        let counts = bounds.map(|(at, bound)| {
            let count = sum(&|times| times.counts.get(at).map_or(0, Figure::get));
            (Duration::from_micros(*bound), count)
        });
        let counts: Vec<(Duration, u64)> = counts.collect();
        let seconds = Duration::from_nanos(sum(&|times| times.sum_nanos.get())).as_secs_f64();
        let above = sum(&|times| times.above.get());
        page.family(&SECONDS).histogram(counts, above, seconds);
    }
}

const SECONDS: Family = Family::histogram(
    "uproar_rule_seconds",
    "Time that a room's rules took to judge a message, in seconds.",
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a time counts under the first bound that it does not exceed, and those of two shards add up.
    #[test]
    fn times_add_up() {
        let (one, other) = (RuleTimes::default(), RuleTimes::default());
        one.observe(Duration::from_micros(2));
        other.observe(Duration::from_nanos(2_001));
        other.observe(Duration::from_secs(1));
        assert_eq!(one.measure(|| 7), 7);
        let mut page = Exposition::new();
        RuleTimes::render([&one, &other].into_iter(), &mut page);
        let text = page.into_text();
        for part in [
            "le=\"+Inf\"} 4",
            "uproar_rule_seconds_count 4",
            "le=\"0.010\"} 3",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
