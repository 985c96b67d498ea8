//! Panels over a shared horizontal axis, as a picture: how several figures grow with one quantity.

use std::fmt::Write;

use super::axis::{Axis, Margin};
use super::svg::{LEFT, STYLE, WIDTH, escaped, short};

/// The curves of one figure.
#[derive(Debug)]
pub(crate) struct Panel<'a> {
    /// Names the figure.
    pub(crate) title: &'a str,
    /// The unit of the vertical axis.
    pub(crate) unit: Unit,
    /// The lines; each is named if there are several.
    pub(crate) series: Vec<Series<'a>>,
}

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A count.
    Count,
    /// Nanoseconds.
    Nanos,
    /// Milliseconds.
    Millis,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    /// The colour: `p50` or `p99` of the style sheet.
    pub(crate) class: &'a str,
    /// The points, in order of `x`.
    pub(crate) marks: Vec<Mark>,
}

/// One point, with a bar from lowest to highest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    /// The place on the shared axis.
    pub(crate) x: f64,
    /// The median of the runs.
    pub(crate) y: f64,
    /// The lowest run.
    pub(crate) low: f64,
    /// The highest run.
    pub(crate) high: f64,
}

/// Draws panels, one below another.
pub(crate) fn panels(title: &str, x_name: &str, panels: &[Panel<'_>]) -> String {
    let height = TOP + panels.len() as f64 * (PANEL + GAP) - GAP + BOTTOM;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>{0}: {1}</title>\n<style>{STYLE}{STYLE_MORE}</style>\n\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"28\">{0}</text>\n",
        escaped(title),
        escaped(x_name)
    );
    let marks = |panel: &Panel<'_>| -> Vec<Mark> {
        let series = panel.series.iter();
        series.flat_map(|series| series.marks.clone()).collect()
    };
    let all = panels.iter().flat_map(marks).map(|mark| mark.x);
    let x = Axis::of(all, Margin::Narrow, LEFT, WIDTH - RIGHT);
    for (index, panel) in panels.iter().enumerate() {
        let top = TOP + index as f64 * (PANEL + GAP);
        let bottom = top + PANEL;
        let all = marks(panel);
        let figures = all.iter().flat_map(|mark| [mark.low, mark.high]);
        let y = Axis::of(figures, Margin::ToTicks, bottom, top);
        frame(&mut out, panel, &y, top);
        for tick in &x.ticks {
            let _infallible = writeln!(
                out,
                "<line class=\"grid\" x1=\"{0:.1}\" y1=\"{top}\" x2=\"{0:.1}\" y2=\"{bottom}\"/>",
                x.place(*tick)
            );
        }
        for series in &panel.series {
            draw(&mut out, series, &x, &y);
        }
    }
    let under = height - BOTTOM;
    for tick in &x.ticks {
        let _infallible = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x.place(*tick),
            under + 20.0,
            short(*tick)
        );
    }
    let _infallible = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n</svg>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        under + 44.0,
        escaped(x_name)
    );
    out
}

/// Draws the title, the names and the horizontal lines of a panel.
fn frame(out: &mut String, panel: &Panel<'_>, y: &Axis, top: f64) {
    let (right, above) = (WIDTH - RIGHT, top - 9.0);
    let _infallible = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{above:.1}\">{}</text>",
        escaped(panel.title)
    );
    if panel.series.len() > 1 {
        let mut end = right;
        for series in panel.series.iter().rev() {
            let _infallible = writeln!(
                out,
                "<text class=\"{}\" x=\"{end:.1}\" y=\"{above:.1}\" text-anchor=\"end\">\u{25CF} {}</text>",
                series.class,
                escaped(series.name)
            );
            end -= (series.name.chars().count() + 5) as f64 * CHARACTER;
        }
    }
    for tick in &y.ticks {
        let _infallible = writeln!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{0:.1}\" x2=\"{right}\" y2=\"{0:.1}\"/>\
             <text x=\"{1:.1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
            y.place(*tick),
            LEFT - 8.0,
            y.place(*tick) + 4.0,
            labelled(*tick, panel.unit)
        );
    }
}

fn draw(out: &mut String, series: &Series<'_>, x: &Axis, y: &Axis) {
    let mut path = String::new();
    for (index, mark) in series.marks.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _infallible = write!(
            path,
            "{command}{:.1} {:.1}",
            x.place(mark.x),
            y.place(mark.y)
        );
    }
    let class = series.class;
    let _infallible = writeln!(out, "<path class=\"{class}\" d=\"{path}\"/>");
    for mark in &series.marks {
        let (at, low, high) = (x.place(mark.x), y.place(mark.low), y.place(mark.high));
        if mark.low < mark.high {
            let (left, right) = (at - 6.0, at + 6.0);
            let _infallible = writeln!(
                out,
                "<path class=\"{class} bar\" d=\"M{left:.1} {low:.1}H{right:.1}M{at:.1} {low:.1}V{high:.1}M{left:.1} {high:.1}H{right:.1}\"/>"
            );
        }
        let _infallible = writeln!(
            out,
            "<circle class=\"{class}\" cx=\"{at:.1}\" cy=\"{:.1}\" r=\"4\"/>",
            y.place(mark.y)
        );
    }
}

/// Writes a figure with its unit: a time in the largest unit of which it is at least one.
fn labelled(figure: f64, unit: Unit) -> String {
    let (names, factor): (&[&str], f64) = match unit {
        Unit::Count => return short(figure),
        Unit::Nanos => (&["ns", "\u{B5}s", "ms", "s"], 1.0),
        Unit::Millis => (&["\u{B5}s", "ms", "s"], 1e3),
    };
    if figure <= 0.0 {
        return "0".to_owned();
    }
    let (mut figure, mut index) = (figure * factor, 0);
    while figure > 999.0 && index + 1 < names.len() {
        figure /= 1e3;
        index += 1;
    }
    format!("{} {}", short(figure), names[index])
}

/// Height above the first panel: the picture's title, then the panel's.
const TOP: f64 = 70.0;
/// Height of a panel.
const PANEL: f64 = 170.0;
/// Height between two panels: the lower one's title.
const GAP: f64 = 42.0;
/// Height below the last panel: numbers and name of the shared axis.
const BOTTOM: f64 = 60.0;
/// Width of the margin on the right.
const RIGHT: f64 = 30.0;
/// Width of a character, enough for most.
const CHARACTER: f64 = 7.5;

const STYLE_MORE: &str = "\
path.bar{stroke-width:1.5}";

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(points: &[(f64, f64)]) -> Vec<Mark> {
        let marks = points.iter().map(|(x, y)| Mark {
            x: *x,
            y: *y,
            low: y * 0.9,
            high: y * 1.1,
        });
        marks.collect()
    }

    fn panel(series: Vec<Series<'_>>) -> Panel<'_> {
        Panel {
            title: "a < b",
            unit: Unit::Millis,
            series,
        }
    }

    /// Goal: every point of every panel is inside its panel, higher figures higher up, over one
    /// axis.
    #[test]
    fn panels_share_an_axis() {
        let series = |points: &[(f64, f64)]| Series {
            name: "server",
            class: "p50",
            marks: marks(points),
        };
        let points = [(10.0, 1.0), (100.0, 30.0), (10_000.0, 400.0)];
        let panels = [
            panel(vec![series(&points)]),
            panel(vec![series(&points), series(&points[..2])]),
        ];
        let svg = super::panels("title", "receivers", &panels);
        assert_eq!(svg.matches("<circle").count(), 8);
        // Names stand only where there are several lines.
        assert_eq!(svg.matches("\u{25CF} server").count(), 2);
        assert!(svg.contains("a &lt; b"));
        let circle = |line: &str| -> Option<(f64, f64)> {
            let figure = |name: &str| {
                let rest = line.split_once(name)?.1;
                rest.split('"').next()?.parse().ok()
            };
            Some((figure(" cx=\"")?, figure(" cy=\"")?))
        };
        let circles: Vec<_> = svg.lines().filter_map(circle).collect();
        for (index, (x, y)) in circles.iter().enumerate() {
            let top = TOP + if index < 3 { 0.0 } else { PANEL + GAP };
            assert!((LEFT..=WIDTH - RIGHT).contains(x), "{x}");
            assert!((top..=top + PANEL).contains(y), "{y}");
        }
        assert!(circles[0].1 > circles[1].1 && circles[1].1 > circles[2].1);
        assert!((circles[0].0 - circles[3].0).abs() < 1e-9);
    }

    /// Goal: a label has the unit in which its number is short.
    #[test]
    fn labels_have_units() {
        for (figure, unit, text) in [
            (0.0, Unit::Millis, "0"),
            (0.5, Unit::Millis, "500 \u{B5}s"),
            (20.0, Unit::Millis, "20 ms"),
            (2000.0, Unit::Millis, "2 s"),
            (100.0, Unit::Nanos, "100 ns"),
            (10_000.0, Unit::Nanos, "10 \u{B5}s"),
            (2e7, Unit::Count, "20M"),
        ] {
            assert_eq!(labelled(figure, unit), text);
        }
    }

    /// Goal: panels without points, and with points that are no numbers, are valid.
    #[test]
    fn no_figure_is_too_odd_to_draw() {
        for points in [&[][..], &[(0.0, 0.0)], &[(0.0, f64::NAN)]] {
            let series = Series {
                name: "",
                class: "p50",
                marks: marks(points),
            };
            let svg = panels("", "", &[panel(vec![series])]);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
