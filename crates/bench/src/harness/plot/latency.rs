//! Latency against rate, as a picture.

use std::fmt::Write;
use std::time::Duration;

use super::svg::{LEFT, STYLE, WIDTH, escaped, round_step, short};

const HEIGHT: f64 = 420.0;
/// Margins around the axes.
const RIGHT: f64 = 70.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;

/// One line.
pub(crate) struct Curve {
    /// Its colour in the style sheet: `p50` or `p99`.
    pub(crate) class: &'static str,
    pub(crate) name: &'static str,
    pub(crate) points: Vec<CurvePoint>,
}

/// One point of a line.
pub(crate) struct CurvePoint {
    /// Deliveries per second.
    pub(crate) deliveries: f64,
    /// Latency in milliseconds.
    pub(crate) ms: f64,
    /// Whether nothing was lost and the bound was kept.
    pub(crate) kept: bool,
}

/// Draws curves of latency, in milliseconds and by powers of ten, against deliveries per second.
/// The bound is a dashed line; points that broke it are hollow.
pub(crate) fn latency(title: &str, mut curves: [Curve; 2], p99_max: Duration) -> String {
    for curve in &mut curves {
        curve
            .points
            .sort_by(|a, b| a.deliveries.total_cmp(&b.deliveries));
    }
    let bound = p99_max.as_secs_f64() * 1e3;
    let scale = Scale::of(&curves, bound);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
         <title>{0}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"28\">{0}</text>\n",
        escaped(title)
    );
    scale.axes(&mut out);
    let y = scale.y(bound);
    let end = WIDTH - RIGHT;
    let _infallible = writeln!(
        out,
        "<line class=\"bound\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\"/>\
         <text x=\"{:.1}\" y=\"{:.1}\">p99 bound</text>",
        LEFT + 6.0,
        y - 6.0
    );
    for curve in &curves {
        draw(&mut out, curve, &scale);
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, curve: &Curve, scale: &Scale) {
    let (class, name) = (curve.class, curve.name);
    let places = curve.points.iter();
    let places: Vec<_> = places
        .map(|point| (scale.x(point.deliveries), scale.y(point.ms)))
        .collect();
    let mut path = String::new();
    for (index, (x, y)) in places.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _infallible = write!(path, "{command}{x:.1} {y:.1}");
    }
    let _infallible = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
    for ((x, y), point) in places.iter().zip(&curve.points) {
        let over = if point.kept { "" } else { " over" };
        let _infallible = writeln!(
            out,
            "<circle class=\"{class}{over}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"
        );
    }
    if let Some((x, y)) = places.last() {
        let _infallible = writeln!(
            out,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            x + 9.0,
            y + 4.0
        );
    }
}

/// The axes: deliveries linear from zero, latency by powers of ten.
struct Scale {
    /// Deliveries per second between two vertical lines, and at the right end.
    x_step: f64,
    x_max: f64,
    /// Powers of ten, of milliseconds, at the lower and the upper end.
    y_low: i32,
    y_high: i32,
}

impl Scale {
    fn of(curves: &[Curve], bound_ms: f64) -> Self {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let deliveries = points()
            .map(|point| point.deliveries)
            .fold(0.0, f64::max)
            .max(1.0);
        let slowest = points().map(|point| point.ms).fold(bound_ms, f64::max);
        let fastest = points().map(|point| point.ms);
        let fastest = fastest.fold(slowest, f64::min).max(0.001);
        let x_step = round_step(deliveries / 5.0);
        Self {
            x_step,
            x_max: (deliveries / x_step).ceil() * x_step,
            y_low: fastest.log10().floor() as i32,
            y_high: (slowest.log10().ceil() as i32).max(fastest.log10().floor() as i32 + 1),
        }
    }

    fn x(&self, deliveries: f64) -> f64 {
        LEFT + deliveries / self.x_max * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, ms: f64) -> f64 {
        let low = f64::from(self.y_low);
        let share = (ms.max(0.001).log10() - low) / (f64::from(self.y_high) - low);
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }

    fn axes(&self, out: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for power in self.y_low..=self.y_high {
            let ms = 10_f64.powi(power);
            let y = self.y(ms);
            let _infallible = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{ms} ms</text>",
                LEFT - 8.0,
                y + 4.0
            );
        }
        let steps = (self.x_max / self.x_step).round() as u32;
        for step in 0..=steps {
            let deliveries = f64::from(step) * self.x_step;
            let x = self.x(deliveries);
            let _infallible = writeln!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 20.0,
                short(deliveries)
            );
        }
        let _infallible = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">deliveries a second</text>",
            f64::midpoint(LEFT, right),
            bottom + 44.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(points: &[(f64, f64, f64, bool)]) -> [Curve; 2] {
        let curve = |class, ms: fn(&(f64, f64, f64, bool)) -> f64| Curve {
            class,
            name: class,
            points: points
                .iter()
                .map(|point| CurvePoint {
                    deliveries: point.0,
                    ms: ms(point),
                    kept: point.3,
                })
                .collect(),
        };
        [curve("p50", |point| point.1), curve("p99", |point| point.2)]
    }

    /// Goal: every point is drawn, broken ones hollow, in order of rate and inside the picture.
    #[test]
    fn every_row_is_in_the_picture() {
        let curves = curves(&[
            (2e6, 40.0, 300.0, false),
            (250_000.0, 0.9, 4.0, true),
            (1e6, 10.0, 90.0, true),
        ]);
        let svg = latency("1 < 2 & 3", curves, Duration::from_millis(100));
        assert_eq!(svg.matches("<circle").count(), 6);
        assert_eq!(svg.matches(" over\"").count(), 2);
        assert!(svg.contains("<title>1 &lt; 2 &amp; 3</title>"));
        assert!(svg.contains("p99 bound"));
        for line in svg.lines().filter(|line| line.starts_with("<path")) {
            let figures = line.split(['M', 'L', ' ', '"']);
            let figures: Vec<f64> = figures.filter_map(|part| part.parse().ok()).collect();
            assert_eq!(figures.len(), 6, "{line}");
            for point in figures.chunks(2) {
                assert!((LEFT..=WIDTH - RIGHT).contains(&point[0]), "{line}");
                assert!((TOP..=HEIGHT - BOTTOM).contains(&point[1]), "{line}");
            }
            assert!(figures[0] < figures[2] && figures[2] < figures[4], "{line}");
        }
    }

    /// Goal: pictures without points, and with points at zero, are valid.
    #[test]
    fn no_figure_is_too_odd_to_draw() {
        for points in [&[][..], &[(0.0, 0.0, 0.0, false)]] {
            let svg = latency("", curves(points), Duration::from_millis(100));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
