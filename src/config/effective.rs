//! `--print-config`: a file with each value, followed by its source.

use std::fmt::{self, Write};

use super::raw::Raw;
use super::source::Sources;

/// All values of a start, as TOML. Secrets are hidden.
#[derive(Debug)]
pub struct Effective {
    text: String,
    // Key and value of each line.
    values: Vec<(String, String)>,
}

impl Effective {
    pub(super) fn new(raw: &Raw, sources: &Sources) -> Self {
        let text = toml::to_string(raw).expect("strings, numbers and lists");
        let mut section = String::new();
        let (mut out, mut values) = (String::new(), Vec::new());
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                name.trim_matches(['[', ']']).clone_into(&mut section);
                out.push_str(line);
            } else if let Some((name, value)) = line.split_once(" = ") {
                let key = if section == "keys" {
                    section.clone()
                } else {
                    format!("{section}.{name}")
                };
                let _infallible = write!(out, "{line:<40} # {}", sources.of(&key));
                values.push((key, value.to_owned()));
            }
            out.push('\n');
        }
        Self { text: out, values }
    }

    /// Keys whose values differ in `other`, or that only one of both has; each once.
    pub(super) fn changed(&self, other: &Self) -> Vec<String> {
        let without = |these: &Self, those: &Self| {
            let differing = these
                .values
                .iter()
                .filter(|pair| !those.values.contains(pair));
            differing.map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        let mut keys = without(self, other);
        keys.extend(without(other, self));
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
