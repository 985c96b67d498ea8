//! Parcels and their shipment: one request or one file write each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Method;
use hyper::body::Bytes;

use super::batch::{self, Picks};
use super::metrics::Trouble;
use super::spool::Stretch;
use super::{ArchiveSettings, body, layout};
use crate::base::clock::UnixTime;
use crate::base::id::LoggingId;
use crate::control::client::{Answered, Call, CallError, Client, Endpoint};
use crate::control::record::Destination;
use crate::protocol::sigv4::sign::escape_path;

const JSON_1_1: &str = "application/x-amz-json-1.1";

/// What one request or one write carries, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parcel {
    /// An object in a bucket.
    Object {
        /// The bucket.
        bucket: String,
        /// Its key.
        key: String,
        /// Its records.
        picks: Picks,
    },
    /// Events of a log stream.
    LogEvents {
        /// The log group.
        group: String,
        /// The stream.
        stream: String,
        /// The events.
        picks: Picks,
    },
    /// Records of a Firehose stream.
    Records {
        /// The stream.
        stream: String,
        /// The records.
        picks: Picks,
    },
    /// Lines behind a file.
    Lines {
        /// Below the directory of chat logs.
        file: PathBuf,
        /// The lines.
        picks: Picks,
    },
}

impl Parcel {
    /// Records in it.
    pub fn count(&self) -> u64 {
        let (Self::Object { picks, .. }
        | Self::LogEvents { picks, .. }
        | Self::Records { picks, .. }
        | Self::Lines { picks, .. }) = self;
        picks.len() as u64
    }
}

/// Why a parcel did not arrive.
#[derive(Debug)]
pub struct Failure {
    /// For metrics.
    pub trouble: Trouble,
    /// For people.
    pub text: String,
}

/// Divides a stretch for a destination. The same stretch always gives the same parcels.
pub fn parcels(
    settings: &ArchiveSettings,
    id: LoggingId,
    destination: &Destination,
    stretch: &Stretch,
) -> Vec<Parcel> {
    let records = &stretch.records;
    let lines = |files: Vec<(PathBuf, Picks)>| {
        let parcels = files
            .into_iter()
            .map(|(file, picks)| Parcel::Lines { file, picks });
        parcels.collect()
    };
    match destination {
        Destination::S3 { bucket_name } => {
            let parcel = |(room, start_ms, picks): (_, _, Picks)| {
                // Each record is the first of one object at most.
                let number = stretch.first + picks.first().map_or(0, |index| *index as u64);
                let hash = layout::object_hash(id, number);
                Parcel::Object {
                    bucket: bucket_name.clone(),
                    key: layout::object_key(&settings.realm, room, start_ms, hash),
                    picks,
                }
            };
            batch::objects(records, settings.window_ms())
                .into_iter()
                .map(parcel)
                .collect()
        }
        Destination::CloudWatchLogs {
            log_group_name: group,
        } => {
            if settings.cloudwatch.is_some() {
                let calls = batch::log_events(records).into_iter();
                let parcel = |(room, picks)| Parcel::LogEvents {
                    group: group.clone(),
                    stream: layout::log_stream(room),
                    picks,
                };
                calls.map(parcel).collect()
            } else {
                lines(batch::files(records, |record| {
                    layout::log_file(group, &layout::log_stream(record.room), record.event_ms)
                }))
            }
        }
        Destination::Firehose {
            delivery_stream_name: stream,
        } => {
            if settings.firehose.is_some() {
                let calls = batch::firehose_records(records).into_iter();
                let parcel = |picks| Parcel::Records {
                    stream: stream.clone(),
                    picks,
                };
                calls.map(parcel).collect()
            } else {
                lines(batch::files(records, |record| {
                    layout::firehose_file(stream, record.event_ms)
                }))
            }
        }
    }
}

/// Ships parcels.
#[derive(Debug)]
pub struct Shipper {
    /// What the archive was started with.
    pub settings: Arc<ArchiveSettings>,
    /// Makes calls; there is one if there is an endpoint.
    pub client: Option<Client>,
}

impl Shipper {
    /// Ships one parcel; how many of its records the destination rejected for good. After a failure
    /// the parcel holds what is left to ship.
    pub async fn ship(
        &self,
        parcel: &mut Parcel,
        stretch: &Arc<Stretch>,
        now: UnixTime,
    ) -> Result<u64, Failure> {
        match parcel {
            Parcel::Object { bucket, key, picks } => {
                let (lines, picks) = (Arc::clone(stretch), picks.clone());
                let object = blocking(move || Ok(body::gzip(&body::lines(&lines, &picks)))).await?;
                if let Some(endpoint) = &self.settings.s3 {
                    self.put(endpoint, bucket, key, object, now).await?;
                } else {
                    let file = layout::object_file(bucket, key);
                    let file = self.settings.directory.join(file);
                    blocking(move || replace(&file, &object)).await?;
                }
                Ok(0)
            }
            Parcel::Lines { file, picks } => {
                let (lines, picks) = (Arc::clone(stretch), picks.clone());
                let file = self.settings.directory.join(file);
                blocking(move || append(&file, &body::lines(&lines, &picks))).await?;
                Ok(0)
            }
            Parcel::LogEvents {
                group,
                stream,
                picks,
            } => {
                let answer = self
                    .put_log_events(group, stream, stretch, picks, now)
                    .await?;
                Ok(body::rejected_log_events(&answer, picks.len()))
            }
            Parcel::Records { stream, picks } => {
                let (records, chosen, name) = (Arc::clone(stretch), picks.clone(), stream.clone());
                let sent =
                    blocking(move || Ok(body::put_record_batch(&name, &records, &chosen))).await?;
                let answer = self
                    .json(
                        "firehose",
                        self.settings.firehose.as_ref(),
                        "Firehose_20150804.PutRecordBatch",
                        sent,
                        now,
                    )
                    .await?;
                let failed = body::failed_records(&answer);
                if failed.is_empty() {
                    return Ok(0);
                }
                let left = failed.iter().filter_map(|index| picks.get(*index).copied());
                *picks = left.collect();
                Err(Failure {
                    trouble: Trouble::Throttled,
                    text: format!("{} records were not taken", picks.len()),
                })
            }
        }
    }

    async fn put(
        &self,
        endpoint: &Endpoint,
        bucket: &str,
        key: &str,
        object: Vec<u8>,
        now: UnixTime,
    ) -> Result<(), Failure> {
        let call = Call {
            service: "s3",
            method: Method::PUT,
            endpoint,
            path: &escape_path(&format!("/{bucket}/{key}")),
            content_type: "application/gzip",
            target: None,
            body: Bytes::from(object),
        };
        self.call(call, now).await.map(drop)
    }

    /// Makes the log stream if there is none.
    async fn put_log_events(
        &self,
        group: &str,
        stream: &str,
        stretch: &Arc<Stretch>,
        picks: &Picks,
        now: UnixTime,
    ) -> Result<Bytes, Failure> {
        let (events, chosen) = (Arc::clone(stretch), picks.clone());
        let names = (group.to_owned(), stream.to_owned());
        let sent = blocking(move || Ok(body::put_log_events(&names.0, &names.1, &events, &chosen)))
            .await?;
        let endpoint = self.settings.cloudwatch.as_ref();
        let put = "Logs_20140328.PutLogEvents";
        match self.json("logs", endpoint, put, sent.clone(), now).await {
            Err(Failure {
                trouble: Trouble::NotFound,
                ..
            }) => {
                let create = body::create_log_stream(group, stream);
                self.json(
                    "logs",
                    endpoint,
                    "Logs_20140328.CreateLogStream",
                    create,
                    now,
                )
                .await
                .or_else(|failure| {
                    let exists = failure.text.starts_with("ResourceAlreadyExistsException");
                    if exists {
                        Ok(Bytes::new())
                    } else {
                        Err(failure)
                    }
                })?;
                self.json("logs", endpoint, put, sent, now).await
            }
            outcome => outcome,
        }
    }

    async fn json(
        &self,
        service: &str,
        endpoint: Option<&Endpoint>,
        target: &str,
        body: Vec<u8>,
        now: UnixTime,
    ) -> Result<Bytes, Failure> {
        let endpoint = endpoint.ok_or_else(|| Failure {
            trouble: Trouble::Refused,
            text: "no endpoint".to_owned(),
        })?;
        let call = Call {
            service,
            method: Method::POST,
            endpoint,
            path: "/",
            content_type: JSON_1_1,
            target: Some(target),
            body: Bytes::from(body),
        };
        self.call(call, now).await
    }

    async fn call(&self, call: Call<'_>, now: UnixTime) -> Result<Bytes, Failure> {
        let client = self.client.as_ref().ok_or_else(|| Failure {
            trouble: Trouble::Refused,
            text: "no credentials".to_owned(),
        })?;
        let answered = client.call(call, now).await.map_err(|error| Failure {
            trouble: match error {
                CallError::Connection(_) | CallError::Timeout(_) | CallError::Answer => {
                    Trouble::Unreachable
                }
                CallError::Request => Trouble::Refused,
            },
            text: error.to_string(),
        })?;
        if (200..300).contains(&answered.status) {
            return Ok(answered.body);
        }
        Err(judge(&answered))
    }
}

/// What an unsuccessful answer means. All of these are tried again: the operator may put right what is
/// wrong, and the spool bounds how long that may take.
fn judge(answered: &Answered) -> Failure {
    let code = body::error_code(answered.error_type.as_deref(), &answered.body);
    let trouble = match (answered.status, code.as_str()) {
        (_, "NoSuchBucket" | "ResourceNotFoundException") | (404, _) => Trouble::NotFound,
        (429 | 503, _) | (_, "ThrottlingException" | "LimitExceededException" | "SlowDown") => {
            Trouble::Throttled
        }
        (401 | 403, _)
        | (
            _,
            "AccessDenied"
            | "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidSignatureException",
        ) => Trouble::AccessDenied,
        _ => Trouble::Refused,
    };
    let text = format!("{code} (status {})", answered.status);
    Failure { trouble, text }
}

/// Runs work that blocks or computes for long beside the archive's thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panicked| Err(io::Error::other(panicked)))
        .map_err(|error| Failure {
            trouble: Trouble::Disk,
            text: error.to_string(),
        })
}

/// All of the file or nothing.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_data()?;
    fs::rename(new, path)
}

/// Behind the last whole line; the rest of an interrupted write is cut off first.
fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let len = file.metadata()?.len();
    let whole = whole_lines(&mut file, len)?;
    if whole < len {
        file.set_len(whole)?;
    }
    let written = file.write_all(lines).and_then(|()| file.sync_data());
    if written.is_err() {
        // As it was, so that trying again does not double what did arrive.
        let _still_torn = file.set_len(whole);
    }
    written
}

/// Bytes up to the last line break.
fn whole_lines(file: &mut File, len: u64) -> io::Result<u64> {
    const STEP: u64 = 64 * 1024;
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut bytes)?;
        if let Some(place) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::spool::stretch_of;
    use super::*;

    /// Goal: a torn last line is cut off before the next is written; whole ones stay.
    #[test]
    fn lines_follow_whole_lines() {
        let directory = std::env::temp_dir().join(format!("uproar-lines-{}", std::process::id()));
        let path = directory.join("a/b.jsonl");
        append(&path, b"one\n").expect("writes");
        append(&path, b"two\n").expect("writes");
        let mut file = OpenOptions::new().append(true).open(&path).expect("opens");
        file.write_all(&vec![b'x'; 200_000]).expect("writes");
        append(&path, b"three\n").expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"one\ntwo\nthree\n");
        replace(&path, b"new").expect("writes");
        append(&path, b"line\n").expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"line\n");
        fs::remove_dir_all(directory).expect("removes");
    }

    /// Goal: no object of a spool replaces another, however many windows share a minute and however
    /// many stretches a window.
    #[test]
    fn objects_have_keys_of_their_own() {
        let settings = ArchiveSettings {
            realm: crate::control::arn::Realm {
                region: "us-west-2".to_owned(),
                account: "123456789012".to_owned(),
            },
            spool: PathBuf::new(),
            directory: PathBuf::new(),
            spool_bytes_max: 0,
            age_max: std::time::Duration::ZERO,
            window: std::time::Duration::from_secs(1),
            linger: std::time::Duration::ZERO,
            s3: None,
            cloudwatch: None,
            firehose: None,
            credentials: None,
        };
        let id = LoggingId::from_random(1);
        let destination = Destination::S3 {
            bucket_name: "bucket".to_owned(),
        };
        let mut keys = std::collections::HashSet::new();
        let mut objects = 0;
        for first in [0, 10, 20] {
            let records: Vec<(u64, &str)> = (0..10).map(|index| (index * 400, "{}")).collect();
            let mut stretch = stretch_of(&records);
            stretch.first = first;
            for parcel in parcels(&settings, id, &destination, &stretch) {
                let Parcel::Object { key, .. } = parcel else {
                    panic!("an object was asked for");
                };
                objects += 1;
                keys.insert(key);
            }
        }
        assert_eq!((objects, keys.len()), (12, 12));
    }

    /// Goal: answers are told apart by what an operator would do about them.
    #[test]
    fn answers_are_judged() {
        let judged = |status, body: &str| {
            let answered = Answered {
                status,
                error_type: None,
                body: Bytes::from(body.to_owned()),
            };
            judge(&answered).trouble
        };
        let named = |name: &str| format!("{{\"__type\":\"{name}\"}}");
        assert_eq!(judged(404, "<Code>NoSuchBucket</Code>"), Trouble::NotFound);
        assert_eq!(
            judged(400, &named("ResourceNotFoundException")),
            Trouble::NotFound
        );
        assert_eq!(
            judged(403, "<Code>SignatureDoesNotMatch</Code>"),
            Trouble::AccessDenied
        );
        assert_eq!(
            judged(400, &named("AccessDeniedException")),
            Trouble::AccessDenied
        );
        assert_eq!(
            judged(400, &named("ThrottlingException")),
            Trouble::Throttled
        );
        assert_eq!(judged(503, ""), Trouble::Throttled);
        assert_eq!(judged(500, ""), Trouble::Refused);
        assert_eq!(
            judged(400, &named("InvalidParameterException")),
            Trouble::Refused
        );
    }
}
