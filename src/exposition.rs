//! Prometheus' text format, version 0.0.4: the one place that writes it.
//!
//! Each module describes its metrics as [`Family`] constants beside the code that counts, and adds
//! their series when `/metrics` is asked for. docs/metrics.md lists them all.

use std::fmt::{Display, Write};
use std::time::Duration;

/// How a metric behaves; the word behind `# TYPE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// The description of all series that share a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
}

impl Family {
    /// A sum that only grows until the process ends; its name ends in `_total`.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Counter, help)
    }

    /// A value that rises and falls.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Gauge, help)
    }

    /// Observations by upper bound: add with [`Series::histogram`].
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Histogram, help)
    }

    /// The sum and number of observations: add with [`Series::summary`].
    pub const fn summary(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Summary, help)
    }

    /// `help` is one line of plain text: the format would need escapes for others.
    const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, help }
    }
}

/// A page of metrics being written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// Names and values of a series' labels.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// An empty page. A whole one has some 20 KiB.
    pub fn new() -> Self {
        Self {
            text: String::with_capacity(32 * 1024),
        }
    }

    /// Begins a family; all its series follow at once. Each family stands once on a page.
    pub fn family(&mut self, family: &Family) -> Series<'_> {
        let Family { name, kind, help } = *family;
        debug_assert!(!help.contains(['\n', '\\']), "{name}: needs escapes");
        let described = format!("# TYPE {name} ");
        debug_assert!(!self.text.contains(&described), "{name} stands twice");
        let kind = kind.word();
        self.line(format_args!("# HELP {name} {help}\n{described}{kind}"));
        Series { page: self, name }
    }

    /// Adds a family that has one series without labels.
    pub fn single(&mut self, family: &Family, value: impl Display) {
        self.family(family).add(&[], value);
    }

    /// The page's text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("memory takes every write");
    }
}

/// The series of one family, being added.
#[derive(Debug)]
pub struct Series<'a> {
    page: &'a mut Exposition,
    name: &'static str,
}

impl Series<'_> {
    /// Adds a series with these labels.
    pub fn add(&mut self, labels: Labels<'_>, value: impl Display) {
        self.add_part("", labels, value);
    }

    /// Adds the sum, in seconds or whatever the name says, and the number of observations.
    pub fn summary(&mut self, labels: Labels<'_>, sum: f64, count: u64) {
        self.add_part("_sum", labels, sum);
        self.add_part("_count", labels, count);
    }

    /// Adds a histogram of times. Each count is that of observations up to its bound and above the
    /// one before; `above` counts those above all bounds.
    pub fn histogram(
        &mut self,
        counts: impl IntoIterator<Item = (Duration, u64)>,
        above: u64,
        sum: f64,
    ) {
        self.histogram_of(&[], counts, above, sum);
    }

    /// The same, with labels. Bounds are written in milliseconds, or in microseconds if they are no whole ones.
    pub fn histogram_of(
        &mut self,
        labels: Labels<'_>,
        counts: impl IntoIterator<Item = (Duration, u64)>,
        above: u64,
        sum: f64,
    ) {
        let mut total = 0;
        let mut bucket = |bound: &str, total: u64| {
            let labels = [labels, &[("le", bound)]].concat();
            self.add_part("_bucket", &labels, total);
        };
        for (bound, count) in counts {
            total += count;
            let (seconds, micros) = (bound.as_secs(), bound.subsec_micros());
            let bound = match micros % 1000 {
                0 => format!("{seconds}.{:03}", micros / 1000),
                _ => format!("{seconds}.{micros:06}"),
            };
            bucket(&bound, total);
        }
        total += above;
        bucket("+Inf", total);
        self.summary(labels, sum, total);
    }

    fn add_part(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let text = &mut self.page.text;
        text.push_str(self.name);
        text.push_str(suffix);
        for (position, (label, value)) in labels.iter().enumerate() {
            text.push(if position == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            escape(value, text);
            text.push('"');
        }
        if !labels.is_empty() {
            text.push('}');
        }
        writeln!(text, " {value}").expect("memory takes every write");
    }
}

/// Appends a label's value as the format has it.
fn escape(value: &str, text: &mut String) {
    for part in value.split_inclusive(['\\', '"', '\n']) {
        let whole = part.strip_suffix('\n').map(|rest| (rest, "\\n"));
        let whole = whole.or_else(|| Some((part.strip_suffix('"')?, "\\\"")));
        let whole = whole.or_else(|| Some((part.strip_suffix('\\')?, "\\\\")));
        let (rest, escaped) = whole.unwrap_or((part, ""));
        text.push_str(rest);
        text.push_str(escaped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the format's own example of each kind, character for character.
    #[test]
    fn families_are_written_as_the_format_says() {
        const CALLS: Family = Family::counter("calls_total", "Calls that were answered.");
        const OPEN: Family = Family::gauge("open", "Open calls.");
        const SECONDS: Family = Family::histogram("call_seconds", "Duration of calls.");
        const WAIT: Family = Family::summary("wait_seconds", "Waits.");
        let mut page = Exposition::new();
        let mut calls = page.family(&CALLS);
        calls.add(&[("operation", "A"), ("status", "200")], 3);
        calls.add(&[("operation", "a\\b\"c\nd")], 1);
        page.single(&OPEN, 7);
        let counts = [(Duration::from_millis(5), 2), (Duration::from_secs(5), 0)];
        page.family(&SECONDS).histogram(counts, 1, 61.5);
        page.family(&WAIT).summary(&[("to", "s3")], 1.5, 2);
        let expected = r#"# HELP calls_total Calls that were answered.
# TYPE calls_total counter
calls_total{operation="A",status="200"} 3
calls_total{operation="a\\b\"c\nd"} 1
# HELP open Open calls.
# TYPE open gauge
open 7
# HELP call_seconds Duration of calls.
# TYPE call_seconds histogram
call_seconds_bucket{le="0.005"} 2
call_seconds_bucket{le="5.000"} 2
call_seconds_bucket{le="+Inf"} 3
call_seconds_sum 61.5
call_seconds_count 3
# HELP wait_seconds Waits.
# TYPE wait_seconds summary
wait_seconds_sum{to="s3"} 1.5
wait_seconds_count{to="s3"} 2
"#;
        assert_eq!(page.into_text(), expected);
    }
}
