//! An axis whose ends and ticks follow from the figures.

use super::svg::round_step;

/// Maps figures to places in the picture.
pub(super) struct Axis {
    /// Figures at the two ends.
    low: f64,
    high: f64,
    logarithmic: bool,
    /// Figures at which a line is drawn, ascending.
    pub(super) ticks: Vec<f64>,
    /// Places of the two ends, in pixels.
    from: f64,
    to: f64,
}

/// How far an axis goes beyond its outermost figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Margin {
    /// By a fraction of them.
    Narrow,
    /// To the next tick.
    ToTicks,
}

impl Axis {
    /// Makes an axis: logarithmic if all figures are above zero and span more than a decade,
    /// otherwise linear from zero.
    pub(super) fn of(
        figures: impl Iterator<Item = f64>,
        margin: Margin,
        from: f64,
        to: f64,
    ) -> Self {
        let figures: Vec<f64> = figures.filter(|figure| figure.is_finite()).collect();
        let lowest = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = figures.iter().copied().fold(0.0, f64::max);
        let logarithmic = lowest > 0.0 && highest > lowest * 10.0;
        let (low, high, ticks) = if logarithmic {
            decades(lowest, highest, margin)
        } else {
            linear(highest, margin)
        };
        Self {
            low,
            high,
            logarithmic,
            ticks,
            from,
            to,
        }
    }

    /// Returns the place of a figure, in pixels.
    pub(super) fn place(&self, figure: f64) -> f64 {
        let share = if self.logarithmic {
            (figure / self.low).ln() / (self.high / self.low).ln()
        } else {
            (figure - self.low) / (self.high - self.low)
        };
        let share = if share.is_finite() { share } else { 0.0 };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }
}

/// Returns the ends and ticks of a linear axis.
fn linear(highest: f64, margin: Margin) -> (f64, f64, Vec<f64>) {
    let highest = if highest > 0.0 { highest } else { 1.0 };
    let step = round_step(highest / 5.0);
    let last = (highest / step).ceil();
    let high = match margin {
        Margin::Narrow => highest * 1.05,
        Margin::ToTicks => last * step,
    };
    let ticks = (0..=last as u32).map(|index| f64::from(index) * step);
    (
        0.0,
        high,
        ticks.filter(|tick| *tick <= high * 1.001).collect(),
    )
}

/// Returns the ends and ticks of a logarithmic axis: powers of ten, and 2 and 5 times these if they
/// are few.
fn decades(lowest: f64, highest: f64, margin: Margin) -> (f64, f64, Vec<f64>) {
    let factors: &[f64] = if highest / lowest > 200.0 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    let powers = lowest.log10().floor() as i32..=highest.log10().ceil() as i32;
    let ticks = powers.flat_map(|power| {
        factors
            .iter()
            .map(move |factor| factor * 10_f64.powi(power))
    });
    let ticks: Vec<f64> = ticks.collect();
    let (low, high) = match margin {
        Margin::Narrow => (lowest / 1.25, highest * 1.25),
        Margin::ToTicks => {
            let mut below = ticks.iter().copied().filter(|tick| *tick <= lowest * 1.001);
            let above = ticks.iter().copied().find(|tick| *tick >= highest * 0.999);
            (
                below.next_back().unwrap_or(lowest),
                above.unwrap_or(highest),
            )
        }
    };
    let inside = |tick: &f64| (low * 0.999..=high * 1.001).contains(tick);
    (low, high, ticks.into_iter().filter(inside).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: ticks are round numbers within the figures, on linear and on logarithmic axes.
    #[test]
    fn ticks_are_round() {
        for (figures, ticks) in [
            (vec![0.0, 15_000.0], vec![0.0, 5000.0, 10_000.0, 15_000.0]),
            (vec![10.0, 10_000.0], vec![10.0, 100.0, 1000.0, 10_000.0]),
            (vec![32.0, 500.0], vec![50.0, 100.0, 200.0, 500.0]),
        ] {
            let axis = Axis::of(figures.into_iter(), Margin::Narrow, 0.0, 1.0);
            assert_eq!(axis.ticks.len(), ticks.len(), "{:?}", axis.ticks);
            for (got, expected) in axis.ticks.iter().zip(ticks) {
                assert!((got - expected).abs() < 1e-6);
            }
        }
    }
}
