//! Bodies of objects, files and requests, and the errors that answers name. Pure.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::spool::RecordBatch;

/// JSON lines.
pub fn lines(batch: &RecordBatch, indexes: &[usize]) -> Vec<u8> {
    let mut out = Vec::new();
    for index in indexes {
        out.extend_from_slice(batch.json(*index));
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

/// The checksum `x-amz-checksum-crc32` of S3: big-endian CRC-32, base64.
pub fn crc32_base64(bytes: &[u8]) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    STANDARD.encode(crc.sum().to_be_bytes())
}

/// Body of `PutLogEvents`; old services require a sequence token.
pub fn put_log_events(
    (group, log_stream): (&str, &str),
    sequence_token: Option<&str>,
    batch: &RecordBatch,
    indexes: &[usize],
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
        #[serde(rename = "sequenceToken", skip_serializing_if = "Option::is_none")]
        sequence_token: Option<&'a str>,
        #[serde(rename = "logEvents")]
        events: Vec<Event<'a>>,
    }
    let events = indexes
        .iter()
        .filter_map(|index| {
            let message = std::str::from_utf8(batch.json(*index)).ok()?;
            let timestamp = batch.records[*index].event_ms;
            Some(Event { timestamp, message })
        })
        .collect();
    let call = Call {
        group,
        log_stream,
        sequence_token,
        events,
    };
    serde_json::to_vec(&call).expect("strings and numbers")
}

/// Body of `CreateLogStream`.
pub fn create_log_stream(group: &str, log_stream: &str) -> Vec<u8> {
    let call = json!({ "logGroupName": group, "logStreamName": log_stream });
    call.to_string().into_bytes()
}

/// Body of `PutRecordBatch`. Each record ends with a line break, because Firehose concatenates
/// records unchanged.
pub fn put_record_batch(delivery_stream: &str, batch: &RecordBatch, indexes: &[usize]) -> Vec<u8> {
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
    let records = indexes
        .iter()
        .map(|index| Record {
            data: STANDARD.encode(lines(batch, &[*index])),
        })
        .collect();
    let call = Call {
        delivery_stream_name: delivery_stream,
        records,
    };
    serde_json::to_vec(&call).expect("strings")
}

/// The error an AWS service names in its answer: header or JSON member, without its namespace, or
/// the `<Code>` of S3.
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
    use super::super::spool::batch_of;
    use super::*;
    use std::io::Read;

    /// Goal: bodies hold the records as they are.
    #[test]
    fn bodies_hold_the_records() {
        let batch = batch_of(&[(5, "{\"a\":\"é\\n\"}"), (6, "{}"), (7, "[]")]);
        let text = lines(&batch, &[2, 0]);
        assert_eq!(text, "[]\n{\"a\":\"é\\n\"}\n".as_bytes());
        let mut back = Vec::new();
        let read = flate2::read::GzDecoder::new(&gzip(&text)[..]).read_to_end(&mut back);
        assert!(read.is_ok() && back == text);
        assert_eq!(gzip(&text), gzip(&text));

        let call: serde_json::Value =
            serde_json::from_slice(&put_log_events(("g", "s"), None, &batch, &[0, 1]))
                .expect("JSON");
        assert_eq!(
            call,
            json!({"logGroupName": "g", "logStreamName": "s", "logEvents": [
                {"timestamp": 5, "message": "{\"a\":\"é\\n\"}"}, {"timestamp": 6, "message": "{}"}]})
        );
        let call: serde_json::Value =
            serde_json::from_slice(&put_record_batch("d", &batch, &[1])).expect("JSON");
        assert_eq!(
            call,
            json!({"DeliveryStreamName": "d", "Records": [{"Data": STANDARD.encode("{}\n")}]})
        );
    }

    /// Goal: the checksum is S3's. Oracle: the check value of CRC-32, of "123456789".
    #[test]
    fn the_checksum_is_that_of_s3() {
        assert_eq!(
            crc32_base64(b"123456789"),
            STANDARD.encode(0xCBF4_3926_u32.to_be_bytes())
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
