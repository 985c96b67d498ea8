//! Progress, and results for people and for scripts.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

/// The bar on standard error while connections are made.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Shows a bar that is full at `count` connections.
    pub(crate) fn new(count: usize) -> Self {
        let bar = ProgressBar::new(count as u64);
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}")
            .expect("a template without faults");
        bar.set_style(style);
        bar.set_message("connecting");
        Self(bar)
    }

    /// Counts one more connection.
    pub(crate) fn step(&self) {
        self.0.inc(1);
        self.clear_if_full();
    }

    /// Shows `count` connections.
    pub(crate) fn reach(&self, count: usize) {
        self.0.set_position(count as u64);
        self.clear_if_full();
    }

    fn clear_if_full(&self) {
        if Some(self.0.position()) == self.0.length() {
            self.0.finish_and_clear();
        }
    }

    /// Hides the bar while `print` writes lines.
    pub(crate) fn suspend(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Prints a result: named lines for people, or with `as_json` one JSON object that names the
/// machine, too.
pub(crate) fn print(as_json: bool, machine: &str, mut result: Value, lines: &[(&str, String)]) {
    if as_json {
        result["machine"] = machine.into();
        println!("{result}");
        return;
    }
    println!("{:15}  {machine}", "machine");
    for (name, text) in lines {
        println!("{name:15}  {text}");
    }
}

/// The number of refusals, and the first one.
pub(crate) fn refused(count: u64, first: Option<&str>) -> String {
    first.map_or_else(
        || format!("{count} refused"),
        |first| format!("{count} refused, the first: {first}"),
    )
}

/// Processor time in user space and in the kernel, in whichever unit.
pub(crate) fn user_and_system([user, system]: [f64; 2]) -> Value {
    json!({"user": user, "system": system})
}

/// Processor time of the server for each of something, in microseconds, for people.
pub(crate) fn cpu_each([user, system]: [f64; 2]) -> String {
    format!("{user:.1} + {system:.1} us of the server each (user + system)")
}

/// A share as a percentage for people; nothing if it is not known.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0))
}
