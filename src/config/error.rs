//! Reasons why settings are invalid.

use std::borrow::Cow;
use std::path::PathBuf;

use super::source::Source;

/// Each names the value, its source, and the allowed values.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {cause}")]
    File {
        /// The path.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// The text is not TOML.
    #[error("configuration {origin}: {detail}")]
    Syntax {
        /// The file.
        origin: Source,
        /// Fault and line.
        detail: String,
    },
    /// The name is unknown.
    #[error("configuration: {name} is not known ({origin}){}", guess(nearest.as_deref()))]
    Unknown {
        /// The name as written.
        name: String,
        /// Its source.
        origin: Source,
        /// A suggestion, if there is a similar name.
        nearest: Option<String>,
    },
    /// A value has the wrong type, or is not an allowed word.
    #[error("configuration: {detail}{}", source(origin.as_ref()))]
    Type {
        /// Key and fault.
        detail: String,
        /// The value's source, if one value is at fault.
        origin: Option<Source>,
    },
    /// A key that means nothing without another.
    #[error("configuration: {key} requires {required} ({origin})")]
    Requires {
        /// The key that has a value.
        key: &'static str,
        /// Its source.
        origin: Source,
        /// The key or keys that have none.
        required: &'static str,
    },
    /// The secret of an access key cannot be read.
    #[error("configuration: keys.secret_file {path}: {detail} ({origin})")]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// The fault.
        detail: String,
        /// Who names the file.
        origin: Source,
    },
    /// A value is out of its range.
    #[error("configuration: {key} is {value} ({origin}); it must be {must}")]
    Value {
        /// The key's name in the file.
        key: &'static str,
        /// The given value.
        value: String,
        /// Its source.
        origin: Source,
        /// The allowed values.
        must: Cow<'static, str>,
    },
}

fn guess(nearest: Option<&str>) -> String {
    let meant = nearest.map_or_else(String::new, |nearest| format!("did you mean {nearest}? "));
    format!(
        "; {meant}`uproar config sample` prints all keys, and a key's variable is UPROAR_SECTION__KEY"
    )
}

fn source(origin: Option<&Source>) -> String {
    origin.map_or_else(String::new, |origin| format!(" ({origin})"))
}
