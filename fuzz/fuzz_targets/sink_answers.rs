//! Answers of S3, CloudWatch Logs and Firehose: of the records of a delivery each is delivered, dropped or left, never
//! twice and never more than were sent; and delivered are only those that an answer, read by another parser, says
//! are taken.
//!
//! Input: service, records, records in a request, then answers: status and flags, what names the error, the length of
//! the body, the body. A body that begins with a zero byte is Firehose's true answer: of each record, whether it was
//! taken.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};
use uproar::control::archive::fuzzing::{Delivery, Service};
use uproar::control::archive::verdict::{Outcome, expected_sequence_token, log_stream_made};
use uproar::control::aws_client::Answered;

const STATUSES: [u16; 16] = [
    200, 200, 200, 200, 200, 201, 204, 301, 400, 400, 403, 404, 409, 413, 500, 503,
];

fuzz_target!(|data: &[u8]| {
    let Some(([service, records, each], mut rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let service = match service % 3 {
        0 => Service::S3,
        1 => Service::Logs,
        _ => Service::Firehose,
    };
    let records = usize::from(records % 40);
    let mut delivery = Delivery::new(service, records, usize::from(*each).max(1));
    // By their place in the delivery: what an answer said that counted.
    let mut known = vec![false; records];
    let (mut delivered, mut rejected, mut dropped) = (0, 0, 0);
    while let (Some(picks), Some(([flags, length], more))) =
        (delivery.next(), rest.split_first_chunk::<2>())
    {
        assert!(picks.iter().all(|pick| !known[*pick]), "sent once more");
        let (body, more) = more.split_at(usize::from(*length).min(more.len()));
        rest = more;
        let (answered, others_wait) = answer(*flags, body, picks.len());
        let (oracle, may_reject) = oracle(service, &answered, picks.len());
        let outcome = service.verdict(&answered, picks.len());
        is_sound(&outcome, &oracle, picks.len(), may_reject);
        if matches!(outcome, Outcome::Accepted { .. } | Outcome::Partial { .. }) {
            oracle.iter().for_each(|place| known[picks[*place]] = true);
        }
        let came = delivery.answered(outcome, others_wait);
        assert!(came.refused <= 1 && (came.refused == 0 || picks.len() == 1));
        delivered += came.delivered;
        rejected += came.rejected;
        dropped += came.refused;
        let accounted = delivered + rejected + dropped + delivery.left();
        assert_eq!(accounted, records as u64, "each once");
        let known = known.iter().filter(|known| **known).count() as u64;
        assert_eq!(delivered + rejected, known);
    }
    let made = Answered {
        status: STATUSES[usize::from(*each & 0x0F)],
        error_type: None,
        has_etag: false,
        body: rest.to_vec().into(),
    };
    if log_stream_made(&made).is_ok() && made.status != 200 {
        let text = String::from_utf8_lossy(rest);
        let json: Value = serde_json::from_slice(rest).unwrap_or_default();
        assert!(format!("{text}{json}").contains("ResourceAlreadyExistsException"));
    }
    assert!(expected_sequence_token(&made).is_none_or(|token| !token.is_empty()));
});

/// The answer that flags and bytes describe, and whether records wait behind these.
fn answer(flags: u8, body: &[u8], sent: usize) -> (Answered, bool) {
    let (error_type, body) = if flags & 0x40 == 0 {
        (None, body)
    } else {
        let end = body.iter().position(|byte| *byte == b'\n');
        let (name, rest) = body.split_at(end.unwrap_or(0));
        (Some(String::from_utf8_lossy(name).into_owned()), rest)
    };
    let body = match body {
        [0, bits @ ..] => {
            let is_taken = |place: &usize| bits.get(*place).is_none_or(|bit| bit & 1 == 0);
            let entry = |place: usize| {
                if is_taken(&place) {
                    json!({"RecordId": "r"})
                } else {
                    json!({"ErrorCode": "ServiceUnavailableException"})
                }
            };
            let failed = (0..sent).filter(|place| !is_taken(place)).count();
            let entries: Vec<Value> = (0..sent).map(entry).collect();
            let truth = json!({"FailedPutCount": failed, "RequestResponses": entries});
            truth.to_string().into_bytes()
        }
        body => body.to_vec(),
    };
    let answered = Answered {
        status: STATUSES[usize::from(flags & 0x0F)],
        error_type,
        has_etag: flags & 0x10 != 0,
        body: body.into(),
    };
    (answered, flags & 0x20 != 0)
}

/// The places of records that are taken by the most generous reading, and whether some of them may never be kept.
fn oracle(service: Service, answered: &Answered, sent: usize) -> (Vec<usize>, bool) {
    let all: Vec<usize> = (0..sent).collect();
    let json: Value = serde_json::from_slice(&answered.body).unwrap_or_default();
    let is_success = answered.status == 200;
    match service {
        Service::S3 => {
            let stored = is_success && answered.has_etag && answered.body.trim_ascii().is_empty();
            (if stored { all } else { Vec::new() }, false)
        }
        Service::Logs => {
            let named = answered.error_type.as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(&answered.body);
            let repeated = format!("{named}{text}{json}").contains("DataAlreadyAcceptedException");
            let taken = if is_success {
                json.is_object()
            } else {
                repeated
            };
            (if taken { all } else { Vec::new() }, is_success)
        }
        Service::Firehose => {
            // Members that nobody reads may be odd: letters that are none, numbers beyond all bounds.
            let text = String::from_utf8_lossy(&answered.body);
            let json: Value = serde_json::from_str(&text).unwrap_or_default();
            let entries = json["RequestResponses"].as_array();
            let entries = entries.filter(|entries| is_success && entries.len() == sent);
            let is_taken = |entry: &Value| {
                let none = Map::new();
                let entry = entry.as_object().unwrap_or(&none);
                let id = entry.get("RecordId").and_then(Value::as_str);
                let error = entry.get("ErrorCode").unwrap_or(&Value::Null);
                id.is_some_and(|id| !id.is_empty()) && error.is_null()
            };
            let taken = entries.into_iter().flatten().enumerate();
            let taken = taken.filter(|(_, entry)| is_taken(entry));
            (taken.map(|(place, _)| place).collect(), false)
        }
    }
}

fn is_sound(outcome: &Outcome, oracle: &[usize], sent: usize, may_reject: bool) {
    match outcome {
        Outcome::Accepted { rejected } => {
            assert_eq!(oracle.len(), sent, "{outcome:?}");
            assert!(*rejected <= sent as u64 && (may_reject || *rejected == 0));
        }
        Outcome::Partial { left, text } => {
            assert!(!left.is_empty() && left.is_sorted_by(|one, next| one < next));
            assert!(left.last().is_some_and(|last| *last < sent));
            let taken = (0..sent).filter(|place| !left.contains(place));
            assert!(taken.eq(oracle.iter().copied()), "{outcome:?} {oracle:?}");
            assert!(!text.is_empty());
        }
        Outcome::Refused { text, .. } | Outcome::Failed { text, .. } => {
            assert!(text.len() < 400, "a sink's words in a log line: {text}");
        }
    }
}
