//! What travels: bodies of objects, files and requests, and what the answers say. Pure.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::spool::Stretch;

/// JSON lines.
pub fn lines(stretch: &Stretch, picks: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    for index in picks {
        out.extend_from_slice(stretch.json(*index));
        out.push(b'\n');
    }
    out
}

/// JSON lines, gzip; the same lines always make the same bytes.
pub fn gzip(lines: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(lines.len() / 4), Compression::default());
    encoder
        .write_all(lines)
        .and_then(|()| encoder.finish())
        .expect("memory takes every write")
}

/// Body of `PutLogEvents`.
pub fn put_log_events(
    group: &str,
    log_stream: &str,
    stretch: &Stretch,
    picks: &[usize],
) -> Vec<u8> {
    #[derive(Serialize)]
    struct Event<'a> {
        timestamp: u64,
        message: &'a str,
    }
    #[derive(Serialize)]
    struct Call<'a> {
        #[serde(rename = "logGroupName")]
        group: &'a str,
        #[serde(rename = "logStreamName")]
        log_stream: &'a str,
        #[serde(rename = "logEvents")]
        events: Vec<Event<'a>>,
    }
    let events = picks
        .iter()
        .filter_map(|index| {
            let message = std::str::from_utf8(stretch.json(*index)).ok()?;
            let timestamp = stretch.records[*index].event_ms;
            Some(Event { timestamp, message })
        })
        .collect();
    let call = Call {
        group,
        log_stream,
        events,
    };
    serde_json::to_vec(&call).expect("strings and numbers")
}

/// Body of `CreateLogStream`.
pub fn create_log_stream(group: &str, log_stream: &str) -> Vec<u8> {
    let call = json!({ "logGroupName": group, "logStreamName": log_stream });
    call.to_string().into_bytes()
}

/// How many of `sent` events an answer to `PutLogEvents` rejects: too new, too old, expired.
pub fn rejected_log_events(answer: &[u8], sent: usize) -> u64 {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Rejected {
        #[serde(rename = "tooNewLogEventStartIndex")]
        new_start: Option<usize>,
        #[serde(rename = "tooOldLogEventEndIndex")]
        old_end: Option<usize>,
        #[serde(rename = "expiredLogEventEndIndex")]
        expired_end: Option<usize>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        rejected_log_events_info: Option<Rejected>,
    }
    let rejected = serde_json::from_slice(answer)
        .ok()
        .and_then(|answer: Answer| answer.rejected_log_events_info)
        .unwrap_or_default();
    // Events are sorted by time: the old ones come first, the new ones last. End indexes are exclusive.
    let old = rejected.old_end.max(rejected.expired_end).unwrap_or(0);
    let new = sent.saturating_sub(rejected.new_start.unwrap_or(sent));
    (old + new).min(sent) as u64
}

/// Body of `PutRecordBatch`. Each record ends with a line break: Firehose puts records one behind the
/// other as they are.
pub fn put_record_batch(delivery_stream: &str, stretch: &Stretch, picks: &[usize]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Record {
        data: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Call<'a> {
        delivery_stream_name: &'a str,
        records: Vec<Record>,
    }
    let records = picks
        .iter()
        .map(|index| Record {
            data: STANDARD.encode(lines(stretch, &[*index])),
        })
        .collect();
    let call = Call {
        delivery_stream_name: delivery_stream,
        records,
    };
    serde_json::to_vec(&call).expect("strings")
}

/// Which of the records sent an answer to `PutRecordBatch` refuses, by their place in the call.
pub fn failed_records(answer: &[u8]) -> Vec<usize> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Outcome {
        error_code: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        failed_put_count: usize,
        request_responses: Vec<Outcome>,
    }
    match serde_json::from_slice(answer) {
        Ok(Answer {
            failed_put_count: 1..,
            request_responses,
        }) => request_responses
            .iter()
            .enumerate()
            .filter(|(_, outcome)| outcome.error_code.is_some())
            .map(|(index, _)| index)
            .collect(),
        _ => Vec::new(),
    }
}

/// The error an AWS service names in its answer: header or JSON member, without its namespace, or the
/// `<Code>` of S3.
pub fn error_code(header: Option<&str>, body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "__type")]
        kind: String,
    }
    let text = String::from_utf8_lossy(body);
    let xml = || {
        Some(
            text.split_once("<Code>")?
                .1
                .split_once("</Code>")?
                .0
                .to_owned(),
        )
    };
    let named = header
        .map(str::to_owned)
        .or_else(|| {
            serde_json::from_slice(body)
                .ok()
                .map(|body: Body| body.kind)
        })
        .or_else(xml)
        .unwrap_or_default();
    let named = named.split(':').next().unwrap_or_default();
    named.rsplit('#').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::spool::stretch_of;
    use super::*;
    use std::io::Read;

    /// Goal: bodies hold the records as they are.
    #[test]
    fn bodies_hold_the_records() {
        let stretch = stretch_of(&[(5, "{\"a\":\"é\\n\"}"), (6, "{}"), (7, "[]")]);
        let text = lines(&stretch, &[2, 0]);
        assert_eq!(text, "[]\n{\"a\":\"é\\n\"}\n".as_bytes());
        let mut back = Vec::new();
        let read = flate2::read::GzDecoder::new(&gzip(&text)[..]).read_to_end(&mut back);
        assert!(read.is_ok() && back == text);
        assert_eq!(gzip(&text), gzip(&text));

        let call: serde_json::Value =
            serde_json::from_slice(&put_log_events("g", "s", &stretch, &[0, 1])).expect("JSON");
        assert_eq!(
            call,
            json!({"logGroupName": "g", "logStreamName": "s", "logEvents": [
                {"timestamp": 5, "message": "{\"a\":\"é\\n\"}"}, {"timestamp": 6, "message": "{}"}]})
        );
        let call: serde_json::Value =
            serde_json::from_slice(&put_record_batch("d", &stretch, &[1])).expect("JSON");
        assert_eq!(
            call,
            json!({"DeliveryStreamName": "d", "Records": [{"Data": STANDARD.encode("{}\n")}]})
        );
    }

    /// Goal: partial failures are read, and answers that say nothing reject nothing.
    #[test]
    fn partial_failures_are_read() {
        let answer = br#"{"FailedPutCount":1,"RequestResponses":[{"RecordId":"1"},{"ErrorCode":"ServiceUnavailableException","ErrorMessage":"x"}]}"#;
        assert_eq!(failed_records(answer), [1]);
        assert!(failed_records(br#"{"FailedPutCount":0,"RequestResponses":[]}"#).is_empty());
        assert!(failed_records(b"").is_empty());
        let rejected = |info: &str| {
            rejected_log_events(
                format!("{{\"rejectedLogEventsInfo\":{info}}}").as_bytes(),
                10,
            )
        };
        assert_eq!(rejected("{}"), 0);
        assert_eq!(rejected("null"), 0);
        assert_eq!(rejected_log_events(b"", 10), 0);
        assert_eq!(
            rejected(r#"{"tooOldLogEventEndIndex":3,"expiredLogEventEndIndex":1}"#),
            3
        );
        assert_eq!(rejected(r#"{"tooNewLogEventStartIndex":8}"#), 2);
        assert_eq!(
            rejected(r#"{"tooNewLogEventStartIndex":0,"tooOldLogEventEndIndex":10}"#),
            10
        );
    }

    /// Goal: errors are named alike, however the service writes them.
    #[test]
    fn errors_are_named() {
        let name = "ResourceNotFoundException";
        assert_eq!(
            error_code(Some("ResourceNotFoundException:http://x/"), b""),
            name
        );
        assert_eq!(
            error_code(
                None,
                br#"{"__type":"com.amazonaws.logs#ResourceNotFoundException"}"#
            ),
            name
        );
        let xml =
            b"<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>x</Message></Error>";
        assert_eq!(error_code(None, xml), "NoSuchBucket");
        assert_eq!(error_code(None, b"<html>"), "");
    }
}
