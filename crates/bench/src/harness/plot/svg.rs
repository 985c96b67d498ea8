//! What pictures have in common: an SVG document of its own, readable on light and dark ground.

/// Width of a picture, in pixels.
pub(super) const WIDTH: f64 = 760.0;
/// Width of the margin on the left, which has the labels of the vertical axis.
pub(super) const LEFT: f64 = 80.0;

/// The style sheet. `p50` and `p99` are the colours of the first and the second line.
pub(super) const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}\
.title{font-size:15px;font-weight:600}\
.ground{fill:#fff}.grid{stroke:#d8dee4}.bound{stroke:#cf222e;stroke-dasharray:6 4}\
.p50{stroke:#0969da;color:#0969da}.p99{stroke:#bc4c00;color:#bc4c00}\
path{fill:none;stroke-width:2}circle{fill:currentColor;stroke-width:2}circle.over{fill:none}\
text.p50,text.p99{fill:currentColor;stroke:none}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117}.grid{stroke:#30363d}\
.bound{stroke:#ff7b72}.p50{stroke:#58a6ff;color:#58a6ff}.p99{stroke:#ffa657;color:#ffa657}}";

/// Returns the smallest of 1, 2 and 5 times a power of ten that is at least `least`.
pub(super) fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0];
    let factor = factors.into_iter().find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}

/// Writes a count in three digits or fewer, with `k` or `M`.
pub(super) fn short(count: f64) -> String {
    let (value, unit) = match count {
        1e6.. => (count / 1e6, "M"),
        1e3.. => (count / 1e3, "k"),
        _ => (count, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

/// Escapes a text for SVG.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: steps are 1, 2 or 5 times a power of ten, and labels are short.
    #[test]
    fn steps_and_labels_are_round() {
        for (least, step) in [
            (1.0, 1.0),
            (1.1, 2.0),
            (450.0, 500.0),
            (51_000.0, 100_000.0),
        ] {
            assert!((round_step(least) - step).abs() < 1e-6, "{least}");
        }
        assert_eq!(
            [short(0.0), short(500.0), short(2.5e5), short(1.25e6)],
            ["0", "500", "250k", "1.25M"]
        );
    }
}
