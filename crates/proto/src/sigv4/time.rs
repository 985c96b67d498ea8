//! The time of signing: `X-Amz-Date`, or `Date` where there is none.

use jiff::fmt::rfc2822::DateTimeParser;

use super::received::Received;
use super::received::SignatureFault::{self, Incomplete, Invalid};
use crate::base::clock::UnixTime;

/// The received header with the time of signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed<'a> {
    /// `X-Amz-Date`, which has precedence.
    Amazon(&'a str),
    /// `Date`.
    Date(&'a str),
}

impl<'a> Signed<'a> {
    /// Finds the header of a request with the time of signing.
    pub(super) fn find(received: &Received<'a>) -> Result<Self, SignatureFault> {
        if received.all("x-amz-date").next().is_some() {
            let once = received.one("x-amz-date");
            return once
                .map(Self::Amazon)
                .ok_or(Incomplete("X-Amz-Date must be there once"));
        }
        let once = received.one("date");
        once.map(Self::Date)
            .ok_or(Incomplete("X-Amz-Date or Date must be there once"))
    }

    /// Parses the time: `X-Amz-Date` is `yyyymmddThhmmssZ`; `Date` may be that, or the date of HTTP
    /// (RFC 1123).
    pub(super) fn at(self) -> Result<UnixTime, SignatureFault> {
        match self {
            Self::Amazon(text) => parse(text).ok_or(Incomplete("X-Amz-Date is not a time")),
            Self::Date(text) => parse(text)
                .or_else(|| parse_rfc1123(text))
                .ok_or(Incomplete("Date is not a time")),
        }
    }

    /// Checks that the header is signed: the string to sign has the time as well, but the header
    /// decides.
    pub(super) fn must_be_under(self, signed_headers: &str) -> Result<(), SignatureFault> {
        let name = match self {
            // Every `x-amz-*` header must be signed, which is checked elsewhere.
            Self::Amazon(_) => return Ok(()),
            Self::Date(_) => "date",
        };
        let mut names = signed_headers.split(';');
        if names.any(|other| other == name) {
            Ok(())
        } else {
            Err(Invalid("Date must be signed where X-Amz-Date is not sent"))
        }
    }
}

/// Writes a time as `yyyymmddThhmmssZ`.
pub(super) fn text(at: UnixTime) -> String {
    at.timestamp().strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn parse(text: &str) -> Option<UnixTime> {
    let parsed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let timestamp = jiff::tz::Offset::UTC.to_timestamp(parsed).ok()?;
    unix(timestamp)
}

/// Parses any zone: botocore writes `-0000`, others `GMT`. Amazon's own examples have a wrong
/// weekday.
fn parse_rfc1123(text: &str) -> Option<UnixTime> {
    let parser = DateTimeParser::new().relaxed_weekday(true);
    unix(parser.parse_timestamp(text).ok()?)
}

fn unix(timestamp: jiff::Timestamp) -> Option<UnixTime> {
    let secs = u64::try_from(timestamp.as_second()).ok()?;
    Some(UnixTime::from_secs(secs))
}
