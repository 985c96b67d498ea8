//! `uproar stats`: the server in numbers.

use std::fmt::{Display, Write};

use serde_json::Value;

use super::admin::order;
use super::failure::Failure;
use super::output::print;
use super::place::Place;
use crate::server::Order;

/// `uproar stats`.
#[derive(Debug, clap::Args)]
pub(super) struct StatsCommand {
    /// Print one JSON object; else a line for each number
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl StatsCommand {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let told = order(&self.place, &Order::Stats {})?;
        if self.json {
            return print(&format!("{told}\n"));
        }
        let mut lines = String::new();
        flat("", &told, &mut lines);
        print(&lines)
    }
}

/// A line for each number, named by the way to it.
fn flat(path: &str, value: &Value, lines: &mut String) {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    };
    let shown: &dyn Display = match value {
        Value::Object(members) => {
            return members
                .iter()
                .for_each(|(key, value)| flat(&below(key), value, lines));
        }
        Value::Array(items) => {
            return items
                .iter()
                .enumerate()
                .for_each(|(number, item)| flat(&below(&number.to_string()), item, lines));
        }
        Value::Null => &"-",
        Value::String(text) => text,
        Value::Bool(_) | Value::Number(_) => value,
    };
    writeln!(lines, "{path} {shown}").expect("memory takes every write");
}
