//! Refusals of single values, each with the key's name and the value's source.

use std::borrow::Cow;
use std::fmt::Display;

use super::error::ConfigError;
use super::source::Sources;

/// Refuses a value, with its name and source.
pub(super) struct Check<'a>(pub(super) &'a Sources);

impl Check<'_> {
    pub(super) fn holds(
        &self,
        holds: bool,
        key: &'static str,
        value: impl Display,
        must: impl Into<Cow<'static, str>>,
    ) -> Result<(), ConfigError> {
        if holds {
            return Ok(());
        }
        Err(ConfigError::Value {
            key,
            value: value.to_string(),
            origin: self.0.of(key),
            must: must.into(),
        })
    }

    /// Refuses `key` if it `has_value` while `required` `is_given` not: it means nothing alone.
    pub(super) fn requires(
        &self,
        key: &'static str,
        has_value: bool,
        required: &'static str,
        is_given: bool,
    ) -> Result<(), ConfigError> {
        if is_given || !has_value {
            return Ok(());
        }
        Err(ConfigError::Requires {
            key,
            origin: self.0.of(key),
            required,
        })
    }

    /// Refuses a percentage of zero or above 100.
    pub(super) fn percentage(&self, key: &'static str, percent: u32) -> Result<(), ConfigError> {
        self.holds((1..=100).contains(&percent), key, percent, "1 to 100")
    }
}
