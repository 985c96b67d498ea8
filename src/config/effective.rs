//! `--print-config`: a file with each value, followed by its source.

use std::fmt::{self, Write};

use sha2::{Digest, Sha256};

use super::raw::Raw;
use super::source::Sources;
use uproar_proto::base::hex::hex;

/// All values of a start, as TOML. Secrets are hidden.
#[derive(Debug)]
pub struct Effective(String);

impl Effective {
    pub(super) fn new(raw: &Raw, sources: &Sources) -> Self {
        let text = toml::to_string(raw).expect("strings, numbers and lists");
        let mut section = String::new();
        let mut keys = raw.keys.iter();
        let mut key_of_variables = false;
        let mut out = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                name.trim_matches(['[', ']']).clone_into(&mut section);
                out.push_str(line);
                if section == "keys" {
                    key_of_variables = keys.next().is_some_and(|key| key.is_of_variables);
                }
            } else if let Some((name, _value)) = line.split_once(" = ") {
                let key = if section == "keys" && !key_of_variables {
                    section.clone()
                } else {
                    format!("{section}.{name}")
                };
                let _infallible = write!(out, "{line:<40} # {}", sources.of(&key));
            }
            out.push('\n');
        }
        Self(out)
    }

    /// The SHA-256 of what is printed, in hexadecimal digits. Secrets are hidden, so it tells nothing of them.
    pub(super) fn sha256(&self) -> String {
        hex(&Sha256::digest(&self.0))
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
