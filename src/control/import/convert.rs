//! From the API's JSON to this server's records.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::ImportError;
use crate::control::arn::{Account, ResourceId, resource_id};
use crate::control::record::{
    Destination, Handler, LoggingRecord, LoggingState, ResourceHeader, RoomRecord,
};
use uproar_proto::base::id::{LoggingId, RoomId};

/// A record, unless it cannot be carried, and what is lost.
pub(super) struct Converted<R> {
    pub(super) record: Option<R>,
    pub(super) notes: Vec<String>,
}

/// Whether a summary of `ListRooms` says that the record is as it was: the update time and the tags.
pub(super) fn is_unchanged(summary: &Value, known: &RoomRecord) -> bool {
    time(&summary["updateTime"]) == Some(known.header.updated_ms)
        && tags(summary) == known.header.tags
}

pub(super) fn room_record(
    room: &Value,
    account: &Account,
    has_logging: impl Fn(&str) -> bool,
) -> Result<Converted<RoomRecord>, ImportError> {
    let header = header::<RoomId>(room, account)?;
    let name = called(room);
    let mut notes = Vec::new();
    let mut record = RoomRecord::new(header);
    if let Some(rate) = number(&room["maximumMessageRatePerSecond"]) {
        record.message_rate = rate;
    }
    if let Some(length) = number(&room["maximumMessageLength"]) {
        record.message_length = length;
    }
    if let Some(handler) = room["messageReviewHandler"].as_object() {
        let text = |member: &str, other: &str| {
            let text = handler.get(member).and_then(Value::as_str);
            text.unwrap_or(other).to_owned()
        };
        record.handler = Some(Handler {
            uri: text("uri", ""),
            fallback: text("fallbackResult", "ALLOW"),
        });
    }
    if let Some(named) = room["loggingConfigurationIdentifiers"].as_array() {
        let arns = named.iter().filter_map(Value::as_str);
        let (kept, lost): (Vec<_>, Vec<_>) = arns
            .map(str::to_owned)
            .partition(|arn| has_logging(resource_id(arn)));
        for arn in lost {
            notes.push(format!(
                "{name} is not logged to {arn}, which is not active there"
            ));
        }
        record.logging = Some(kept);
    }
    Ok(Converted {
        record: Some(record),
        notes,
    })
}

pub(super) fn logging_record(
    summary: &Value,
    account: &Account,
) -> Result<Converted<LoggingRecord>, ImportError> {
    let header = header::<LoggingId>(summary, account)?;
    let name = called(summary);
    let lost = |why: String| Converted {
        record: None,
        notes: vec![format!("{name} is left out: {why}")],
    };
    let state = summary["state"].as_str().unwrap_or("ACTIVE");
    if state != "ACTIVE" {
        return Ok(lost(format!(
            "its state is {state}; import again when it is ACTIVE"
        )));
    }
    let destination = summary["destinationConfiguration"].clone();
    let destination: Destination = match serde_json::from_value(destination) {
        Ok(destination) => destination,
        Err(error) => return Ok(lost(format!("its destination is unknown here: {error}"))),
    };
    Ok(Converted {
        record: Some(LoggingRecord {
            header,
            destination,
            state: LoggingState::Active,
        }),
        notes: Vec::new(),
    })
}

fn header<I: ResourceId>(value: &Value, account: &Account) -> Result<ResourceHeader, ImportError> {
    let arn = value["arn"].as_str().unwrap_or_default();
    let id = account.parse::<I>(arn);
    let id = id.map_err(|error| ImportError::Foreign(format!("the ARN {arn} {error}")))?;
    let id = id.ok_or_else(|| {
        let Account { region, id } = account;
        ImportError::Foreign(format!(
            "{arn} is not of region {region} and account {id}: set server.region and server.account to those of the ARN, since \
             they are in every ARN and cannot change later"
        ))
    })?;
    let missing = |member: &str| ImportError::Foreign(format!("{arn} has no {member}"));
    let created = time(&value["createTime"]).ok_or_else(|| missing("createTime"))?;
    let mut header = ResourceHeader::new(id, created);
    header.updated_ms = time(&value["updateTime"]).unwrap_or(created);
    header.name = value["name"].as_str().map(str::to_owned);
    header.tags = tags(value);
    Ok(header)
}

fn called(value: &Value) -> String {
    let arn = value["arn"].as_str().unwrap_or_default();
    match value["name"].as_str().filter(|name| !name.is_empty()) {
        Some(name) => format!("{arn} ({name})"),
        None => arn.to_owned(),
    }
}

fn tags(value: &Value) -> BTreeMap<String, String> {
    let tags = value["tags"].as_object().into_iter().flatten();
    tags.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// Milliseconds since the epoch: of `2026-11-29T02:00:00.123Z`, or of a number of seconds.
fn time(value: &Value) -> Option<u64> {
    if let Some(text) = value.as_str() {
        return of_text(text);
    }
    let seconds = std::time::Duration::try_from_secs_f64(value.as_f64()?).ok()?;
    u64::try_from(seconds.as_millis()).ok()
}

fn of_text(text: &str) -> Option<u64> {
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let marks = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    if !marks
        .iter()
        .all(|(at, mark)| text.get(*at..at + 1) == Some(mark))
    {
        return None;
    }
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    let rest = text.get(19..)?;
    let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    if !["Z", "+00:00", "+0000"].contains(&zone) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let fraction = rest.strip_suffix(zone)?.strip_prefix('.').unwrap_or("");
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    // Days from civil (Hinnant): years begin in March, so that leap days are last.
    let shifted = year.checked_sub(u64::from(month <= 2))?;
    let (era_year, month_of) = (shifted % 400, (month + 9) % 12);
    let day_of_year = (153 * month_of + 2) / 5 + day - 1;
    let day_of_era = era_year * 365 + era_year / 4 - era_year / 100 + day_of_year;
    let days = (shifted / 400 * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + second * 1_000 + millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_read_as_the_service_writes_them() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-29T02:00:00.123Z", 1_795_917_600_123),
            ("2024-02-29T23:59:59.5+00:00", 1_709_251_199_500),
            ("2000-03-01T00:00:00.000001Z", 951_868_800_000),
        ] {
            assert_eq!(of_text(text), Some(millis), "{text}");
        }
        assert_eq!(time(&json!(1_700_000_000.25)), Some(1_700_000_000_250));
        for bad in [
            "",
            "2026-11-29",
            "2026-11-29T02:00:00+02:00",
            "2026-13-01T00:00:00Z",
            "é26-11-29T02:00:00Z",
        ] {
            assert_eq!(of_text(bad), None, "{bad}");
        }
    }
}
