//! `uproar drain`: cut viewers at an even pace, and stop the server.

use serde_json::Value;

use super::failure::Failure;
use super::output::print;
use super::place::Place;
use crate::server::{DrainOrder, Order, ask};
use uproar_proto::base::limits::DRAIN_MAX;

/// `uproar drain`.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags, not a state"
)]
pub(super) struct DrainCommand {
    /// From the first cut to the last, as in 90s, 5m, 2h; 0: all at once [default: the server's drain.over_s]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    over: Option<u64>,
    /// How long before the first cut /readyz is 503 [default: the server's drain.notice_s]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    notice: Option<u64>,
    /// Also faster than viewers can get new tokens: some will be lost
    #[arg(long)]
    force: bool,
    /// Show progress, and return when all are cut
    #[arg(long)]
    wait: bool,
    /// Print what the server tells as JSON objects, one a line
    #[arg(long)]
    json: bool,
    /// Cut no more, and serve on
    #[arg(long, conflicts_with_all = ["over", "notice", "force", "wait"])]
    cancel: bool,
    #[command(flatten)]
    place: Place,
}

impl DrainCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let data_dir = self.place.existing()?.data_dir;
        let order = if self.cancel {
            Order::CancelDrain {}
        } else {
            Order::Drain(DrainOrder {
                notice_s: self.notice,
                over_s: self.over,
                force: self.force,
                wait: self.wait,
            })
        };
        // A reader that has gone must not end the wait.
        let line = |told: &Value| {
            if self.json {
                format!("{told}\n")
            } else {
                line(told)
            }
        };
        let show = |progress: &Value| drop(print(&line(progress)));
        let outcome =
            ask(&data_dir, &order, show).map_err(|error| Failure::Run(error.to_string()))?;
        print(&if self.cancel && !self.json {
            "the drain is cancelled: the server serves on\n".to_owned()
        } else {
            line(&outcome)
        })
    }
}

/// What the server told, in a line.
fn line(told: &Value) -> String {
    let number = |key: &str| told[key].as_u64().unwrap_or_default();
    let Some(state) = told["state"].as_str() else {
        return begun(told);
    };
    let (cut, left, rest) = (number("cut"), number("left"), number("rest_s"));
    match state {
        "noticed" => format!("{left} viewers, the first is cut in {rest} s\n"),
        "stopped" => format!("{cut} viewers were cut, {left} are left; the server ends\n"),
        _ => format!("{cut} viewers cut, {left} left, {rest} s to go\n"),
    }
}

/// What is about to happen.
fn begun(told: &Value) -> String {
    let number = |key: &str| told[key].as_u64();
    let text = |key: &str| number(key).unwrap_or_default().to_string();
    let viewers = text("viewers");
    let Some(pace) = number("per_second") else {
        return format!(
            "{viewers} viewers are cut at once, {} s from now\n",
            text("notice_s")
        );
    };
    let allowed = match number("tokens_per_second") {
        Some(rate) => format!("CreateChatToken allows {rate}/s"),
        None => "CreateChatToken is not limited".to_owned(),
    };
    let (over, notice) = (text("over_s"), text("notice_s"));
    format!("{viewers} viewers are cut over {over} s, {pace}/s, {notice} s from now; {allowed}\n")
}

/// Whole seconds of a time such as 90s, 5m or 2h; a bare number is seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        _ => None,
    };
    let seconds = unit.zip(digits.parse::<u64>().ok());
    let seconds = seconds.and_then(|(unit, count)| count.checked_mul(unit));
    seconds
        .filter(|seconds| *seconds <= DRAIN_MAX.as_secs())
        .ok_or_else(|| {
            "it must be whole seconds, minutes or hours, as in 90s, 5m, 2h; at most 24h".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: times are read as written; what is no time, or too long, is refused.
    #[test]
    fn times_have_units() {
        for (text, wanted) in [
            ("0", 0),
            ("90", 90),
            ("90s", 90),
            ("5m", 300),
            ("24h", 86_400),
        ] {
            assert_eq!(seconds(text), Ok(wanted), "{text}");
        }
        for text in [
            "",
            "s",
            "-1",
            "1.5m",
            "5 m",
            "25h",
            "3d",
            "5ms",
            "99999999999999999999h",
            "é",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
