//! Where each value comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The default.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A flag, by name.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Source of each key that is not a default, by its full name: `server.shards`.
#[derive(Debug, Default)]
pub(super) struct Sources(BTreeMap<String, Source>);

impl Sources {
    pub(super) fn set(&mut self, key: String, source: Source) {
        self.0.insert(key, source);
    }

    /// The key that `text` names in backquotes, with its source.
    pub(super) fn named_in(&self, text: &str) -> Option<(&str, &Source)> {
        let mut keys = self.0.iter().map(|(key, source)| (&**key, source));
        keys.find(|(key, _)| text.contains(&format!("`{key}`")))
    }

    /// The source of a key's value.
    pub(super) fn of(&self, key: &str) -> Source {
        self.0.get(key).cloned().unwrap_or(Source::Default)
    }
}
