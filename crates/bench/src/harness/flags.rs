//! Parsers of flags' values.

use std::ops::RangeBounds;
use std::time::Duration;

use clap::builder::{RangedU64ValueParser, TypedValueParser};

use super::message::CONTENT_BYTES_MIN;

/// Content of a chat message at most, in bytes, with space for its JSON.
pub(crate) const CONTENT_BYTES_MAX: u64 = 500;

/// Parses a count within `range`.
pub(crate) fn count(range: impl RangeBounds<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

/// Parses the length of a chat message's content, in bytes.
pub(crate) fn content_bytes() -> RangedU64ValueParser<usize> {
    count(CONTENT_BYTES_MIN as u64..=CONTENT_BYTES_MAX)
}

/// Parses a measurement's length: 1 to 600 seconds.
pub(crate) fn seconds() -> impl TypedValueParser<Value = Duration> {
    let seconds = RangedU64ValueParser::<u64>::new().range(1..=600);
    seconds.map(Duration::from_secs)
}

/// Parses milliseconds within `range`.
pub(crate) fn millis(range: impl RangeBounds<u64>) -> impl TypedValueParser<Value = Duration> {
    let millis = RangedU64ValueParser::<u64>::new().range(range);
    millis.map(Duration::from_millis)
}

/// Parses a rate above zero.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if rate > 0.0 && rate.is_finite() {
        Ok(rate)
    } else {
        Err("a rate is above 0".to_owned())
    }
}
