//! Quantiles of what was added to a histogram.

use serde_json::Value;

use super::look::Look;

/// Observations that came between two looks, by upper bound.
#[derive(Debug)]
pub(super) struct Grown {
    // Upper bounds in microseconds, and how many came below each and above the one before.
    counts: Vec<(f64, f64)>,
    // Above all bounds.
    above: f64,
}

impl Look {
    /// What came to a histogram since the look before; `None` if the server has none of that name.
    pub(super) fn grown(&self, path: &str) -> Option<Grown> {
        let list = |stats: &Value, key: &str| -> Option<Vec<f64>> {
            let list = stats.pointer(path)?.get(key)?.as_array()?;
            Some(list.iter().filter_map(Value::as_f64).collect())
        };
        let is_same = self.before["pid"] == self.stats["pid"];
        let before = list(&self.before, "counts")
            .filter(|_| is_same)
            .unwrap_or_default();
        let now = list(&self.stats, "counts")?;
        let earlier = before.into_iter().chain(std::iter::repeat(0.0));
        let mut grown: Vec<f64> = now
            .iter()
            .zip(earlier)
            .map(|(now, before)| (now - before).max(0.0))
            .collect();
        let above = grown.pop()?;
        let bounds = list(&self.stats, "bounds_us")?;
        Some(Grown {
            counts: bounds.into_iter().zip(grown).collect(),
            above,
        })
    }
}

impl Grown {
    /// The value that this share of the observations does not exceed, in seconds, as if those between two bounds were
    /// spread evenly; the greatest bound for one above it. `None` if nothing came.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let all: f64 = self.counts.iter().map(|(_, count)| count).sum::<f64>() + self.above;
        if all <= 0.0 {
            return None;
        }
        let (mut left, mut below) = (all * share, 0.0);
        for (bound, count) in &self.counts {
            if *count > 0.0 && left <= *count {
                return Some((below + (bound - below) * left / count) / 1e6);
            }
            left -= count;
            below = *bound;
        }
        Some(below / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: quantiles lie where the observations do, above all bounds too; none came: there is none.
    #[test]
    fn quantiles_lie_between_the_bounds() {
        let grown = |counts: &[f64], above| Grown {
            counts: [1000.0, 2000.0, 5000.0]
                .into_iter()
                .zip(counts.iter().copied())
                .collect(),
            above,
        };
        let close = |found: Option<f64>, wanted: f64| {
            let found = found.expect("observations");
            assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
        };
        close(grown(&[100.0, 0.0, 0.0], 0.0).quantile(0.5), 0.0005);
        close(grown(&[50.0, 40.0, 10.0], 0.0).quantile(0.99), 0.0047);
        close(grown(&[1.0, 0.0, 0.0], 99.0).quantile(0.99), 0.005);
        assert_eq!(grown(&[0.0, 0.0, 0.0], 0.0).quantile(0.5), None);
    }
}
