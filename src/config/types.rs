//! Values of the wrong type, with errors in the terms of the file.

use toml::Value;

use super::error::ConfigError;
use super::source::Source;
use super::{listen, names};

/// Whether a value has its key's type; keys without one are checked elsewhere.
pub(super) fn check(key: &str, value: &Value, source: &Source) -> Result<(), ConfigError> {
    let Some(kind) = names::kind(key) else {
        return Ok(());
    };
    let must = match (kind, value) {
        (Value::String(_), Value::String(text)) if (key.ends_with(".listen") || key.ends_with("_listen")) => {
            let Err(problem) = listen::parse(text) else {
                return Ok(());
            };
            return Err(refusal(key, value, &problem, source));
        }
        (Value::Integer(_), Value::Integer(number)) if *number < 0 => "it must not be below 0",
        (Value::String(_), Value::String(_))
        | (Value::Integer(_), Value::Integer(_))
        | (Value::Boolean(_), Value::Boolean(_))
        // The sample has none of these.
        | (Value::Float(_) | Value::Datetime(_) | Value::Table(_), _) => return Ok(()),
        (Value::Array(_), Value::Array(items)) if items.iter().all(Value::is_str) => return Ok(()),
        (Value::String(_), _) => "it must be a text in quotes",
        (Value::Integer(_), _) => "it must be a whole number",
        (Value::Boolean(_), _) => "it must be true or false",
        (Value::Array(_), _) => "it must be a list of texts in quotes, as in [\"a\", \"b\"]",
    };
    Err(refusal(key, value, must, source))
}

fn refusal(key: &str, value: &Value, must: &str, source: &Source) -> ConfigError {
    let is_secret = ["secret", "session_token"]
        .iter()
        .any(|word| key.contains(word));
    let shown = if is_secret {
        "not what it should be".to_owned()
    } else {
        value.to_string()
    };
    ConfigError::Type {
        detail: format!("{key} is {shown}; {must}"),
        origin: Some(source.clone()),
    }
}

/// Rewords serde's error about a number beyond its type.
pub(super) fn too_large(detail: &str, key: &str) -> Option<String> {
    detail
        .contains("expected u32")
        .then(|| format!("{key} is too large; it must be at most {}", u32::MAX))
}
