//! Latency against rate as a picture: an SVG document of its own, readable on light and dark ground.

pub mod panels;

use std::fmt::Write;
use std::time::Duration;

use super::fanout::Row;
use super::neighbours;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#24292f}\
.title{font-size:15px;font-weight:600}\
.ground{fill:#fff}.grid{stroke:#d8dee4}.bound{stroke:#cf222e;stroke-dasharray:6 4}\
.p50{stroke:#0969da;color:#0969da}.p99{stroke:#bc4c00;color:#bc4c00}\
path{fill:none;stroke-width:2}circle{fill:currentColor;stroke-width:2}circle.over{fill:none}\
text.p50,text.p99{fill:currentColor;stroke:none}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117}.grid{stroke:#30363d}\
.bound{stroke:#ff7b72}.p50{stroke:#58a6ff;color:#58a6ff}.p99{stroke:#ffa657;color:#ffa657}}";

/// One line: its class in [`STYLE`], its name, and a point (deliveries a second, milliseconds, whether
/// bound and completeness held) for each row.
struct Curve {
    class: &'static str,
    name: String,
    points: Vec<(f64, f64, bool)>,
}

/// Median and 99th percentile of each row against its deliveries a second; the bound is a dashed line,
/// rows that broke it, or lost something, are hollow points.
pub fn svg(title: &str, rows: &[Row], p99_max: Duration) -> String {
    let curves = [("p50", 0), ("p99", 1)].map(|(class, which)| Curve {
        class,
        name: class.to_owned(),
        points: rows
            .iter()
            .map(|row| (row.deliveries_per_second, row.ages.ms()[which], row.kept))
            .collect(),
    });
    picture(title, curves, p99_max)
}

/// 99th percentile of a small and of a huge room against the huge room's deliveries a second; the bound
/// is the huge room's. While the huge room was silent there is a point of the small one only.
pub fn neighbours(title: &str, rows: &[neighbours::Row], p99_max: Duration) -> String {
    let small = rows.iter().map(|row| {
        (
            row.deliveries_per_second,
            row.small.ms()[1],
            row.small_wrong == 0,
        )
    });
    let spoke = rows.iter().filter(|row| row.rate > 0.0);
    let huge = spoke.map(|row| (row.deliveries_per_second, row.huge.ms()[1], row.kept));
    let curves = [
        Curve {
            class: "p50",
            name: "small".to_owned(),
            points: small.collect(),
        },
        Curve {
            class: "p99",
            name: "huge".to_owned(),
            points: huge.collect(),
        },
    ];
    picture(title, curves, p99_max)
}

fn picture(title: &str, mut curves: [Curve; 2], p99_max: Duration) -> String {
    for curve in &mut curves {
        curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
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
        let place = |(x, y, kept): &(f64, f64, bool)| (scale.x(*x), scale.y(*y), *kept);
        let points: Vec<_> = curve.points.iter().map(place).collect();
        series(&mut out, curve.class, &curve.name, &points);
    }
    out.push_str("</svg>\n");
    out
}

fn series(out: &mut String, class: &str, name: &str, points: &[(f64, f64, bool)]) {
    let mut path = String::new();
    for (index, (x, y, _)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _infallible = write!(path, "{command}{x:.1} {y:.1}");
    }
    let _infallible = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
    for (x, y, kept) in points {
        let over = if *kept { "" } else { " over" };
        let _infallible = writeln!(
            out,
            "<circle class=\"{class}{over}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"
        );
    }
    if let Some((x, y, _)) = points.last() {
        let _infallible = writeln!(
            out,
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            x + 9.0,
            y + 4.0
        );
    }
}

/// Deliveries linear from nothing, latency by powers of ten.
struct Scale {
    x_step: f64,
    x_max: f64,
    y_low: i32,
    y_high: i32,
}

impl Scale {
    fn of(curves: &[Curve], bound_ms: f64) -> Self {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let deliveries = points().map(|point| point.0).fold(0.0, f64::max).max(1.0);
        let slowest = points().map(|point| point.1).fold(bound_ms, f64::max);
        let fastest = points().map(|point| point.1);
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

/// The next of 1, 2, 5 times a power of ten.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 5.0];
    let factor = factors.into_iter().find(|factor| factor * power >= least);
    factor.unwrap_or(10.0) * power
}

fn short(count: f64) -> String {
    let (value, unit) = match count {
        1e6.. => (count / 1e6, "M"),
        1e3.. => (count / 1e3, "k"),
        _ => (count, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ages;

    fn row(deliveries_per_second: f64, p50: u64, p99: u64, kept: bool) -> Row {
        Row {
            rate: 1.0,
            deliveries_per_second,
            ages: Ages([p50, p99, p99, p99]),
            wrong: 0,
            refused: 0,
            frame_bytes: 386.0,
            cpu_nanos: None,
            messages_per_send: None,
            kept,
            ended: false,
        }
    }

    /// Goal: every row is two points, broken ones hollow, in order of rate and inside the picture.
    #[test]
    fn every_row_is_in_the_picture() {
        let rows = [
            row(2e6, 40_000, 300_000, false),
            row(250_000.0, 900, 4000, true),
            row(1e6, 10_000, 90_000, true),
        ];
        let svg = svg("1 < 2 & 3", &rows, Duration::from_millis(100));
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

    /// Goal: both rooms are in the picture, the silent row with the small room only.
    #[test]
    fn neighbours_are_two_curves() {
        let row = |rate: f64, kept| neighbours::Row {
            rate,
            deliveries_per_second: rate * 1000.0,
            small: Ages([100, 400, 400, 900]),
            huge: Ages([0, 90_000, 90_000, 90_000]),
            small_wrong: 0,
            huge_wrong: 0,
            late: [0, 0],
            busy: [None, None],
            gone: 0,
            kept,
        };
        let rows = [row(0.0, true), row(10.0, true), row(20.0, false)];
        let svg = neighbours("two", &rows, Duration::from_secs(1));
        assert_eq!(svg.matches("<circle class=\"p50").count(), 3);
        assert_eq!(svg.matches("<circle class=\"p99").count(), 2);
        assert_eq!(svg.matches(" over\"").count(), 1);
        assert!(svg.contains(">small</text>") && svg.contains(">huge</text>"));
    }

    #[test]
    fn no_figure_is_too_odd_to_draw() {
        for rows in [vec![], vec![row(0.0, 0, 0, false)]] {
            let svg = svg("", &rows, Duration::from_millis(100));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

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
