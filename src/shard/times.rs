//! Histograms of times: one thread observes, another one reads.

use std::time::Duration;

use super::figure::Figure;
use crate::exposition::Series;

/// Number of bounds, of either kind.
const BOUNDS: usize = 11;
/// Upper bounds of short times, in microseconds: from a message in an idle room to one that a viewer gives up.
const SHORT_US: [u64; BOUNDS] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 1_000_000, 5_000_000,
];
/// Upper bounds of long times: from a connection that fails at once to one whose session was renewed all day.
const LONG_US: [u64; BOUNDS] = {
    let mut bounds = [
        1, 10, 60, 300, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 86_400,
    ];
    let mut at = 0;
    while at < BOUNDS {
        bounds[at] *= 1_000_000;
        at += 1;
    }
    bounds
};

/// Half a millisecond to five seconds.
pub type Times = TimesOf<false>;
/// Seconds to a day.
pub type LongTimes = TimesOf<true>;
/// What several threads have observed of [`Times`].
pub type Observed = ObservedOf<false>;
/// What several threads have observed of [`LongTimes`].
pub type LongObserved = ObservedOf<true>;

const fn bounds_us(is_long: bool) -> &'static [u64; BOUNDS] {
    if is_long { &LONG_US } else { &SHORT_US }
}

/// Counts of times by upper bound, and their sum.
#[derive(Debug, Default)]
pub struct TimesOf<const IS_LONG: bool> {
    counts: [Figure; BOUNDS],
    above: Figure,
    sum_nanos: Figure,
}

/// What several threads have observed.
#[derive(Debug, Default)]
pub struct ObservedOf<const IS_LONG: bool> {
    /// How many, by upper bound; the last one counts those above all.
    pub counts: [u64; BOUNDS + 1],
    sum: Duration,
}

impl<const IS_LONG: bool> TimesOf<IS_LONG> {
    /// Counts a time; the thread that owns it alone may.
    pub fn observe(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut bounds = bounds_us(IS_LONG).iter().zip(&self.counts);
        let count = bounds.find(|(bound, _)| nanos <= **bound * 1000);
        count.map_or(&self.above, |(_, count)| count).inc();
        self.sum_nanos.add(nanos);
    }
}

impl<const IS_LONG: bool> ObservedOf<IS_LONG> {
    /// Adds up.
    pub fn of<'a>(all: impl IntoIterator<Item = &'a TimesOf<IS_LONG>>) -> Self {
        let mut observed = Self::default();
        for times in all {
            let counts = times.counts.iter().chain([&times.above]);
            for (sum, count) in observed.counts.iter_mut().zip(counts) {
                *sum += count.get();
            }
            observed.sum += Duration::from_nanos(times.sum_nanos.get());
        }
        observed
    }

    /// What was observed since `earlier`; its sum is not told.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let grown = |(now, before): (&u64, &u64)| now.saturating_sub(*before);
        let mut counts = self.counts.iter().zip(&earlier.counts).map(grown);
        Self {
            counts: std::array::from_fn(|_| counts.next().unwrap_or_default()),
            sum: Duration::ZERO,
        }
    }

    /// The time that this share of the observations does not exceed, in thousandths, as if those between two bounds
    /// were spread evenly; the greatest bound for one above it. `None` if there are none.
    pub fn quantile(&self, thousandths: u64) -> Option<Duration> {
        let all: u64 = self.counts.iter().sum();
        let wanted = u128::from(all) * u128::from(thousandths);
        let (mut before, mut below) = (0_u128, 0_u128);
        for (bound, count) in bounds_us(IS_LONG).iter().zip(&self.counts) {
            let count = u128::from(*count) * 1000;
            let bound = u128::from(*bound) * 1000;
            if count > 0 && before + count >= wanted {
                let nanos = below + (bound - below) * wanted.saturating_sub(before) / count;
                return Some(Duration::from_nanos(
                    u64::try_from(nanos).unwrap_or(u64::MAX),
                ));
            }
            before += count;
            below = bound;
        }
        let greatest = bounds_us(IS_LONG).last().copied().unwrap_or_default();
        (all > 0).then(|| Duration::from_micros(greatest))
    }

    /// The upper bounds, in microseconds.
    pub fn bounds_us() -> &'static [u64] {
        bounds_us(IS_LONG)
    }

    /// Adds it to a page, with these labels.
    pub fn render(&self, series: &mut Series<'_>, labels: &[(&str, &str)]) {
        let bounds = bounds_us(IS_LONG).map(Duration::from_micros);
        let counts = bounds.into_iter().zip(self.counts);
        let above = self.counts.last().copied().unwrap_or_default();
        series.histogram_of(labels, counts, above, self.sum.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Exposition, Family};

    /// Goal: quantiles lie where the observations do, above all bounds too; none came: there is none.
    #[test]
    fn quantiles_lie_between_the_bounds() {
        let quantile = |times: &[(u64, u64)], thousandths| {
            let observed = Times::default();
            for (count, micros) in times {
                (0..*count).for_each(|_| observed.observe(Duration::from_micros(*micros)));
            }
            let before = Observed::default();
            Observed::of([&observed])
                .since(&before)
                .quantile(thousandths)
        };
        let micros = |micros| Some(Duration::from_micros(micros));
        assert_eq!(quantile(&[], 500), None);
        assert_eq!(quantile(&[(100, 1)], 500), micros(250));
        assert_eq!(
            quantile(&[(50, 1), (40, 900), (10, 1500)], 990),
            micros(1900)
        );
        assert_eq!(quantile(&[(1, 1), (99, 6_000_000)], 990), micros(5_000_000));
    }

    /// Goal: a time counts under the first bound that it does not exceed, those of two threads add up, and the page says
    /// so in seconds.
    #[test]
    fn times_are_counted_by_bound() {
        const SECONDS: Family = Family::histogram("t_seconds", "Times.");
        let (one, other) = (Times::default(), Times::default());
        one.observe(Duration::from_micros(500));
        one.observe(Duration::from_micros(501));
        other.observe(Duration::from_millis(1));
        other.observe(Duration::from_secs(6));
        let mut page = Exposition::new();
        let observed = Observed::of([&one, &other]);
        observed.render(&mut page.family(&SECONDS), &[("size", "a")]);
        let text = page.into_text();
        for line in [
            "t_seconds_bucket{size=\"a\",le=\"0.000500\"} 1",
            "t_seconds_bucket{size=\"a\",le=\"0.001\"} 3",
            "t_seconds_bucket{size=\"a\",le=\"5.000\"} 3",
            "t_seconds_bucket{size=\"a\",le=\"+Inf\"} 4",
            "t_seconds_count{size=\"a\"} 4",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\n{text}");
        }
    }
}
