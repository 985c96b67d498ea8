//! What a sink's answer says about the records sent to it. Pure.
//!
//! A record counts as delivered only if the answer says so in the service's own form. A status of
//! 200 with a page of HTML, a count without the list it counts, or a list of another length says
//! nothing, and records without a known result are sent again: at least once. An acceptance is one
//! of:
//!
//! - **S3**: status 200, an `ETag`, an empty body.
//! - **CloudWatch Logs**: status 200 and a JSON object with a `nextSequenceToken`, or with no
//!   members except those of `PutLogEvents`' answer; or `DataAlreadyAcceptedException`.
//! - **Firehose**: status 200, a list with one entry for each record, at least as many failures in
//!   it as `FailedPutCount` says; and for each record an entry with a `RecordId` and without an
//!   `ErrorCode`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::body::error_code;
use super::metrics::DeliveryError;
use crate::control::aws_client::Answered;
use uproar_proto::base::number::wide;

/// What is known of the records of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All were accepted, except some that the sink will never accept (too old, too new).
    Accepted {
        /// How many it will never accept.
        rejected: u64,
    },
    /// Some were accepted.
    Partial {
        /// The others, by their position in the request.
        left: Vec<usize>,
        /// A text for people.
        text: String,
    },
    /// The request was refused because of its content: one of its records may be at fault.
    Refused {
        /// The sink named a fault of the data, not just of the request.
        named: bool,
        /// A text for people.
        text: String,
    },
    /// None is known to be accepted, and none of them is at fault.
    Failed {
        /// The error, for metrics.
        error: DeliveryError,
        /// A text for people.
        text: String,
    },
}

impl Outcome {
    /// An outcome that says nothing about the records, for this reason.
    pub fn failed(error: DeliveryError, text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Failed { error, text }
    }

    fn unreadable(status: u16, what: &str) -> Self {
        let text = format!("status {status}, but {what}; the records are sent again");
        Self::failed(DeliveryError::Unreadable, text)
    }
}

/// The outcome of an answer to S3's `PutObject`. A stored object has an `ETag`; a page from
/// something between here and the store has none.
pub fn object(answered: &Answered) -> Outcome {
    if !is_success(answered) {
        return refusal(answered);
    }
    if !answered.has_etag {
        return Outcome::unreadable(answered.status, "no ETag names a stored object");
    }
    if !answered.body.trim_ascii().is_empty() {
        return Outcome::unreadable(answered.status, "there is a body, which S3 does not send");
    }
    Outcome::Accepted { rejected: 0 }
}

/// The outcome of an answer to CloudWatch Logs' `PutLogEvents` of `sent` events.
pub fn log_events(answered: &Answered, sent: usize) -> Outcome {
    if !is_success(answered) {
        return match refusal_code(answered).as_str() {
            // It has these records already.
            "DataAlreadyAcceptedException" => Outcome::Accepted { rejected: 0 },
            _ => refusal(answered),
        };
    }
    let members = object_members(&answered.body).filter(is_put_log_events);
    let Some(members) = members else {
        return Outcome::unreadable(answered.status, "the body is no answer of CloudWatch Logs");
    };
    match rejected_log_events(&members, sent) {
        Some(rejected) => Outcome::Accepted { rejected },
        None => Outcome::unreadable(answered.status, "rejectedLogEventsInfo contradicts itself"),
    }
}

/// Whether an answer to `CreateLogStream` means that the stream exists now.
///
/// # Errors
///
/// The reason why it does not exist.
pub fn log_stream_made(answered: &Answered) -> Result<(), Outcome> {
    let exists = refusal_code(answered) == "ResourceAlreadyExistsException";
    if is_success(answered) || exists {
        return Ok(());
    }
    Err(match refusal(answered) {
        // The names are at fault, not a record.
        Outcome::Refused { text, .. } => Outcome::failed(DeliveryError::Refused, text),
        outcome @ (Outcome::Accepted { .. } | Outcome::Partial { .. } | Outcome::Failed { .. }) => {
            outcome
        }
    })
}

/// The sequence token that a refused `PutLogEvents` lacked: old services require one.
pub fn expected_sequence_token(answered: &Answered) -> Option<String> {
    if refusal_code(answered) != "InvalidSequenceTokenException" {
        return None;
    }
    let token = object_members(&answered.body)?.remove("expectedSequenceToken")?;
    token.as_str().map(str::to_owned)
}

/// The outcome of an answer to Firehose's `PutRecordBatch` of `sent` records.
pub fn records(answered: &Answered, sent: usize) -> Outcome {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        record_id: Option<String>,
        error_code: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        failed_put_count: usize,
        request_responses: Vec<Entry>,
    }
    if !is_success(answered) {
        return refusal(answered);
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(&answered.body) else {
        return Outcome::unreadable(answered.status, "the body is no answer of Firehose");
    };
    if answer.request_responses.len() != sent {
        return Outcome::unreadable(answered.status, "its list is not as long as the request's");
    }
    let is_left = |entry: &Entry| {
        let named = entry.record_id.as_deref().is_some_and(|id| !id.is_empty());
        entry.error_code.is_some() || !named
    };
    let entries = answer.request_responses.iter().enumerate();
    let left: Vec<usize> = entries
        .filter(|(_, entry)| is_left(entry))
        .map(|(index, _)| index)
        .collect();
    if answer.failed_put_count > left.len() {
        return Outcome::unreadable(
            answered.status,
            "FailedPutCount is more than its list names",
        );
    }
    if left.is_empty() {
        return Outcome::Accepted { rejected: 0 };
    }
    let first = &answer.request_responses[left[0]];
    let code = first.error_code.as_deref();
    let code = code.map_or_else(|| "no RecordId".to_owned(), shown);
    let text = format!("{} of {sent} records were not taken ({code})", left.len());
    Outcome::Partial { left, text }
}

/// How many of `sent` events were rejected for good; `None` if the indexes are not those of the
/// request. Events are sorted by time: the old ones come first, the new ones last. End indexes are
/// exclusive.
fn rejected_log_events(members: &Map<String, Value>, sent: usize) -> Option<u64> {
    let info = match members.get("rejectedLogEventsInfo") {
        None | Some(Value::Null) => return Some(0),
        Some(Value::Object(info)) => info,
        Some(_) => return None,
    };
    let index = |name: &str| match info.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => {
            let index = value.as_u64().and_then(|index| usize::try_from(index).ok());
            index.filter(|index| *index <= sent).map(Some)
        }
    };
    let too_old = index("tooOldLogEventEndIndex")?.unwrap_or(0);
    let expired = index("expiredLogEventEndIndex")?.unwrap_or(0);
    let too_new = sent - index("tooNewLogEventStartIndex")?.unwrap_or(sent);
    Some(wide((too_old.max(expired) + too_new).min(sent)))
}

/// No service here accepts anything with another status.
fn is_success(answered: &Answered) -> bool {
    answered.status == 200
}

/// Whether these are members of an answer to `PutLogEvents`, and not of some other JSON.
fn is_put_log_events(members: &Map<String, Value>) -> bool {
    let token = members.get("nextSequenceToken").and_then(Value::as_str);
    let has_token = token.is_some_and(|token| !token.is_empty());
    let known = [
        "nextSequenceToken",
        "rejectedLogEventsInfo",
        "rejectedEntityInfo",
    ];
    let mut names = members.keys();
    !members.contains_key("__type") && (has_token || names.all(|name| known.contains(&&**name)))
}

/// The members of a JSON object.
fn object_members(body: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(body).ok()
}

/// The code exactly as the service wrote it: decisions compare it unchanged.
fn refusal_code(answered: &Answered) -> String {
    error_code(answered.error_type.as_deref(), &answered.body)
}

/// A code that a sink chose, shortened for a log line.
fn shown(code: &str) -> String {
    let plain = code
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || "._-".contains(*letter));
    plain.take(CODE_CHARS_MAX).collect()
}

/// The outcome of an unsuccessful answer. The operator may correct a fault of the sink or the
/// configuration, so the request is repeated; a fault of the data is searched for.
fn refusal(answered: &Answered) -> Outcome {
    let status = answered.status;
    let code = refusal_code(answered);
    let text = format!("{} (status {status})", shown(&code));
    let meaning = MEANINGS
        .iter()
        .find(|(_, codes, statuses)| codes.contains(&code.as_str()) || statuses.contains(&status));
    if let Some((error, ..)) = meaning {
        return Outcome::failed(*error, text);
    }
    // A key that is disabled or unavailable is no fault of the data.
    if matches!(status, 400 | 413 | 422) && !code.starts_with("KMS") {
        let named = FAULTS_OF_DATA.contains(&code.as_str()) || status == 413;
        return Outcome::Refused { named, text };
    }
    Outcome::failed(DeliveryError::Refused, text)
}

/// What services' codes and statuses mean; the first row that has either counts.
const MEANINGS: [(DeliveryError, &[&str], &[u16]); 4] = [
    (
        DeliveryError::NotFound,
        &["NoSuchBucket", "ResourceNotFoundException"],
        &[404, 410],
    ),
    (
        DeliveryError::Throttled,
        &[
            "ThrottlingException",
            "LimitExceededException",
            "SlowDown",
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "RequestLimitExceeded",
            "TooManyRequestsException",
            "ProvisionedThroughputExceededException",
        ],
        &[425, 429, 503],
    ),
    (
        DeliveryError::AccessDenied,
        &[
            "AccessDenied",
            "AccessDeniedException",
            "UnrecognizedClientException",
            "InvalidSignatureException",
            "InvalidClientTokenId",
            "InvalidToken",
            "ExpiredToken",
            "ExpiredTokenException",
            "AuthorizationHeaderMalformed",
            "RequestTimeTooSkewed",
            "OptInRequired",
            "SignatureDoesNotMatch",
            "IncompleteSignature",
            "InvalidAccessKeyId",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "RequestExpired",
            "TokenRefreshRequired",
        ],
        &[401, 403, 407],
    ),
    (
        DeliveryError::Refused,
        &[
            "RequestTimeout",
            "IncompleteBody",
            "BadDigest",
            "InvalidDigest",
            "XAmzContentSHA256Mismatch",
            "OperationAbortedException",
            "InvalidSequenceTokenException",
            "InvalidBucketName",
            "IllegalLocationConstraintException",
            "InvalidSourceException",
            "InvalidKMSResourceException",
            "InternalFailure",
            "InternalError",
            "InternalServerError",
        ],
        &[408, 409],
    ),
];
/// Codes by which a service says that the data is at fault.
const FAULTS_OF_DATA: [&str; 6] = [
    "InvalidParameterException",
    "InvalidArgumentException",
    "ValidationException",
    "SerializationException",
    "EntityTooLarge",
    "InvalidRequest",
];

/// Longest code of a sink in a log line, in characters.
const CODE_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;

    use super::*;

    fn answered(status: u16, body: &str) -> Answered {
        Answered {
            status,
            error_type: None,
            has_etag: false,
            body: Bytes::from(body.to_owned()),
        }
    }

    fn is_unreadable(outcome: &Outcome) -> bool {
        let unreadable = DeliveryError::Unreadable;
        matches!(outcome, Outcome::Failed { error, .. } if *error == unreadable)
    }

    const ACCEPTED: Outcome = Outcome::Accepted { rejected: 0 };
    const PAGE: &str = "<html><body>Welcome</body></html>";

    /// Goal: an object is delivered if the store says that it stored one.
    #[test]
    fn an_object_is_stored_if_it_has_an_etag() {
        let mut stored = answered(200, "");
        assert!(is_unreadable(&object(&stored)), "no ETag");
        assert!(is_unreadable(&object(&answered(200, PAGE))));
        stored.has_etag = true;
        assert_eq!(object(&stored), ACCEPTED);
        for body in [PAGE, "{}", "<Error><Code>InternalError</Code></Error>"] {
            stored.body = Bytes::from(body);
            assert!(is_unreadable(&object(&stored)), "{body}");
        }
        stored.body = Bytes::from("\n");
        assert_eq!(object(&stored), ACCEPTED);
        for status in [201, 202, 204, 206] {
            stored.status = status;
            assert!(
                matches!(object(&stored), Outcome::Failed { .. }),
                "{status}"
            );
        }
        assert!(matches!(object(&answered(307, "")), Outcome::Failed { .. }));
    }

    /// Goal: events are delivered if CloudWatch Logs answered, and rejected ones are counted.
    #[test]
    fn log_events_are_accepted_if_the_service_says_so() {
        let of = |body: &str| log_events(&answered(200, body), 10);
        let rejected = |info: &str| of(&format!("{{\"rejectedLogEventsInfo\":{info}}}"));
        for silent in ["", PAGE, "[]", "{", "null", "7"] {
            assert!(is_unreadable(&of(silent)), "{silent}");
        }
        for other in [
            r#"{"status":"ok"}"#,
            r#"{"message":"maintenance"}"#,
            r#"{"__type":"ThrottlingException","nextSequenceToken":"1"}"#,
        ] {
            assert!(is_unreadable(&of(other)), "{other}");
        }
        let newer = r#"{"nextSequenceToken":"1","somethingNew":true}"#;
        assert_eq!(of(newer), ACCEPTED);
        assert_eq!(of("{}"), ACCEPTED);
        assert_eq!(of("{\"nextSequenceToken\":\"1\"}"), ACCEPTED);
        assert_eq!(rejected("null"), ACCEPTED);
        for (info, count) in [
            ("{}", 0),
            (
                r#"{"tooOldLogEventEndIndex":3,"expiredLogEventEndIndex":1}"#,
                3,
            ),
            (r#"{"tooNewLogEventStartIndex":8}"#, 2),
            (
                r#"{"tooNewLogEventStartIndex":0,"tooOldLogEventEndIndex":10}"#,
                10,
            ),
        ] {
            assert_eq!(
                rejected(info),
                Outcome::Accepted { rejected: count },
                "{info}"
            );
        }
        for wrong in [
            "[]",
            "7",
            r#"{"tooOldLogEventEndIndex":11}"#,
            r#"{"tooOldLogEventEndIndex":-1}"#,
            r#"{"tooNewLogEventStartIndex":"8"}"#,
        ] {
            assert!(is_unreadable(&rejected(wrong)), "{wrong}");
        }
    }

    /// Goal: a repeated request whose records are already there is delivered; an old service's
    /// token is found.
    #[test]
    fn repeated_log_events_are_delivered() {
        let twice = r#"{"__type":"DataAlreadyAcceptedException","expectedSequenceToken":"5"}"#;
        assert_eq!(log_events(&answered(400, twice), 3), ACCEPTED);
        assert_eq!(expected_sequence_token(&answered(400, twice)), None);
        let token = r#"{"__type":"InvalidSequenceTokenException","expectedSequenceToken":"5"}"#;
        assert_eq!(
            expected_sequence_token(&answered(400, token)).as_deref(),
            Some("5")
        );
        assert!(matches!(
            log_events(&answered(400, token), 3),
            Outcome::Failed { .. }
        ));
    }

    /// Goal: a code that only looks like a known one in a log line is not it: the records are not
    /// known to be accepted.
    #[test]
    fn a_code_that_looks_like_another_is_not_that_one() {
        for code in [
            "Data)AlreadyAcceptedException",
            "DataAlreadyAccepted Exception",
            "DataAlreadyAcceptedException\\n",
        ] {
            let body = format!("{{\"__type\":\"{code}\"}}");
            let outcome = log_events(&answered(400, &body), 3);
            assert!(matches!(outcome, Outcome::Refused { .. }), "{code}");
        }
        let made = answered(400, r#"{"__type":"Resource*AlreadyExistsException"}"#);
        assert!(log_stream_made(&made).is_err());
        let named = r#"{"FailedPutCount":1,"RequestResponses":[{"ErrorCode":"a\nb"}]}"#;
        let Outcome::Partial { text, .. } = records(&answered(200, named), 1) else {
            panic!("nothing was taken");
        };
        assert_eq!(text, "1 of 1 records were not taken (ab)");
    }

    /// Goal: a Firehose record is delivered if its own entry has a RecordId and no error.
    #[test]
    fn firehose_records_are_accepted_one_by_one() {
        let of = |body: &str| records(&answered(200, body), 2);
        let list = |count: u32, entries: &str| {
            of(&format!(
                "{{\"FailedPutCount\":{count},\"RequestResponses\":[{entries}]}}"
            ))
        };
        let (good, bad) = (
            r#"{"RecordId":"1"}"#,
            r#"{"ErrorCode":"ServiceUnavailable"}"#,
        );
        assert_eq!(list(0, &format!("{good},{good}")), ACCEPTED);
        for partly in [
            list(1, &format!("{good},{bad}")),
            list(0, &format!("{good},{bad}")),
            list(1, &format!("{good},{{}}")),
            list(0, &format!("{good},{{\"RecordId\":\"\"}}")),
        ] {
            assert!(
                matches!(&partly, Outcome::Partial { left, .. } if *left == [1]),
                "{partly:?}"
            );
        }
        for silent in [
            of(""),
            of(PAGE),
            of("{}"),
            of(r#"{"FailedPutCount":0}"#),
            of(r#"{"FailedPutCount":1,"RequestResponses":null}"#),
            list(0, good),
            list(0, ""),
            list(1, &format!("{good},{good}")),
            list(2, &format!("{good},{bad}")),
        ] {
            assert!(is_unreadable(&silent), "{silent:?}");
        }
    }

    /// Goal: answers are classified by who has to act on them.
    #[test]
    fn refusals_are_classified() {
        let of = |status, body: &str| match refusal(&answered(status, body)) {
            Outcome::Failed { error, .. } => error.label(),
            Outcome::Refused { named: true, .. } => "named",
            Outcome::Refused { named: false, .. } => "unnamed",
            Outcome::Accepted { .. } | Outcome::Partial { .. } => "taken",
        };
        let named = |name: &str| format!("{{\"__type\":\"{name}\"}}");
        for (status, body, expected) in [
            (404, "<Code>NoSuchBucket</Code>".to_owned(), "not_found"),
            (400, named("ResourceNotFoundException"), "not_found"),
            (
                403,
                "<Code>SignatureDoesNotMatch</Code>".to_owned(),
                "access_denied",
            ),
            (400, named("AccessDeniedException"), "access_denied"),
            (400, "<Code>ExpiredToken</Code>".to_owned(), "access_denied"),
            (400, named("ThrottlingException"), "throttled"),
            (400, "<Code>SlowDown</Code>".to_owned(), "throttled"),
            (503, String::new(), "throttled"),
            (500, String::new(), "refused"),
            (301, String::new(), "refused"),
            (400, "<Code>RequestTimeout</Code>".to_owned(), "refused"),
            (400, "<Code>BadDigest</Code>".to_owned(), "refused"),
            (
                400,
                "<Code>KMS.DisabledException</Code>".to_owned(),
                "refused",
            ),
            (400, named("InternalFailure"), "refused"),
            (405, String::new(), "refused"),
            (400, named("InvalidParameterException"), "named"),
            (400, named("InvalidArgumentException"), "named"),
            (413, PAGE.to_owned(), "named"),
            (400, PAGE.to_owned(), "unnamed"),
            (422, String::new(), "unnamed"),
        ] {
            assert_eq!(of(status, &body), expected, "{status} {body}");
        }
    }
}
