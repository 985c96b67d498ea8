//! Why there are no valid settings.

use std::borrow::Cow;
use std::path::PathBuf;

use super::layers::Source;

/// Each names the value, where it comes from, and what it may be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// Not TOML.
    #[error("configuration {origin}: {detail}")]
    Syntax {
        /// Which file.
        origin: Source,
        /// What, and in which line.
        detail: String,
    },
    /// A name nobody knows.
    #[error("configuration: {name} is not known ({origin}){}", guess(nearest.as_deref()))]
    Unknown {
        /// As written.
        name: String,
        /// Where.
        origin: Source,
        /// What was meant, perhaps.
        nearest: Option<String>,
    },
    /// A value of the wrong type, or none of the allowed words.
    #[error("configuration: {detail}{}", said(origin.as_ref()))]
    Type {
        /// Key and what is wrong.
        detail: String,
        /// Where the value comes from, if one value is to blame.
        origin: Option<Source>,
    },
    /// A value out of its range.
    #[error("configuration: {key} is {value} ({origin}); it must be {must}")]
    Value {
        /// As in the file.
        key: &'static str,
        /// As given.
        value: String,
        /// Where it comes from.
        origin: Source,
        /// What it may be.
        must: Cow<'static, str>,
    },
}

fn guess(nearest: Option<&str>) -> String {
    let meant = nearest.map_or_else(String::new, |nearest| format!("did you mean {nearest}? "));
    format!(
        "; {meant}`uproar config sample` prints all keys, and a key's variable is UPROAR_SECTION__KEY"
    )
}

fn said(origin: Option<&Source>) -> String {
    origin.map_or_else(String::new, |origin| format!(" ({origin})"))
}
