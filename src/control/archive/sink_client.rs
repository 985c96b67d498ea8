//! Sends upload requests: one HTTP request or one file write each.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use hyper::Method;
use hyper::body::Bytes;

use super::metrics::DeliveryError;
use super::settings::ArchiveSettings;
use super::spool::RecordBatch;
use super::upload::UploadRequest;
use super::verdict::{self, Outcome};
use super::{body, layout};
use crate::control::aws_client::{Answered, AwsClient, Endpoint, ServiceCall};
use crate::control::http_client::CallError;
use crate::durable::{self, Access, Appender, Survives};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::number::wide;
use uproar_proto::sigv4::sign::escape_path;

const JSON_1_1: &str = "application/x-amz-json-1.1";

/// Sends upload requests.
#[derive(Debug)]
pub(super) struct SinkClient {
    /// The archive's settings.
    pub(super) settings: Arc<ArchiveSettings>,
    /// The HTTP client; present if there is an endpoint.
    pub(super) client: Option<AwsClient>,
}

impl SinkClient {
    /// Whether the upload goes to a file here.
    pub(super) fn writes_file(&self, upload: &UploadRequest) -> bool {
        match upload {
            UploadRequest::Object { .. } => self.settings.s3.is_none(),
            UploadRequest::Lines { .. } => true,
            UploadRequest::LogEvents { .. } | UploadRequest::Records { .. } => false,
        }
    }

    /// Sends one upload request; returns what is known of its records afterwards.
    pub(super) async fn ship(
        &self,
        upload: &UploadRequest,
        batch: &Arc<RecordBatch>,
        now: UnixTime,
    ) -> Outcome {
        let outcome = match upload {
            UploadRequest::Object { bucket, .. } => self.put(upload, bucket, batch, now).await,
            UploadRequest::Lines { file, indexes } => {
                let (lines, indexes) = (Arc::clone(batch), indexes.clone());
                let file = self.settings.directory.join(file);
                let write = move || append(&file, &body::lines(&lines, &indexes));
                blocking(write)
                    .await
                    .map(|()| Outcome::Accepted { rejected: 0 })
            }
            UploadRequest::LogEvents {
                group,
                stream,
                indexes,
            } => {
                self.put_log_events((group, stream), batch, indexes, now)
                    .await
            }
            UploadRequest::Records { stream, indexes } => {
                let (records, chosen, name) = (Arc::clone(batch), indexes.clone(), stream.clone());
                let make = move || Ok(body::put_record_batch(&name, &records, &chosen));
                self.put_records(blocking(make).await, indexes.len(), now)
                    .await
            }
        };
        outcome.unwrap_or_else(|failed| failed)
    }

    async fn put(
        &self,
        upload: &UploadRequest,
        bucket: &str,
        batch: &Arc<RecordBatch>,
        now: UnixTime,
    ) -> Result<Outcome, Outcome> {
        let (lines, indexes) = (Arc::clone(batch), upload.indexes().to_vec());
        let object = blocking(move || Ok(body::gzip(&body::lines(&lines, &indexes)))).await?;
        let key = upload.key().unwrap_or_default();
        let Some(endpoint) = &self.settings.s3 else {
            let file = self
                .settings
                .directory
                .join(layout::object_file(bucket, &key));
            let written = blocking(move || replace(&file, &object)).await;
            return written.map(|()| Outcome::Accepted { rejected: 0 });
        };
        // A bucket with Object Lock refuses objects without a checksum. The official SDKs send this
        // one by default, so a store that accepts their objects accepts ours.
        let checksum = body::crc32_base64(&object);
        let call = ServiceCall {
            service: "s3",
            method: Method::PUT,
            endpoint,
            path: &escape_path(&format!("/{bucket}/{key}")),
            content_type: "application/gzip",
            headers: &[
                ("x-amz-checksum-crc32", &checksum),
                ("x-amz-sdk-checksum-algorithm", "CRC32"),
            ],
            body: Bytes::from(object),
        };
        Ok(verdict::object(&self.call(call, now).await?))
    }

    /// Creates the log stream if there is none, and sends a sequence token to a service that
    /// requires one.
    async fn put_log_events(
        &self,
        (group, stream): (&str, &str),
        batch: &Arc<RecordBatch>,
        indexes: &[usize],
        now: UnixTime,
    ) -> Result<Outcome, Outcome> {
        let put = async |token: Option<String>| {
            let (events, chosen) = (Arc::clone(batch), indexes.to_vec());
            let names = (group.to_owned(), stream.to_owned());
            let make = move || {
                let names = (names.0.as_str(), names.1.as_str());
                Ok(body::put_log_events(
                    names,
                    token.as_deref(),
                    &events,
                    &chosen,
                ))
            };
            let sent = blocking(make).await?;
            self.logs("Logs_20140328.PutLogEvents", sent, now).await
        };
        let mut answered = put(None).await?;
        let outcome = verdict::log_events(&answered, indexes.len());
        if matches!(
            &outcome,
            Outcome::Failed {
                error: DeliveryError::NotFound,
                ..
            }
        ) {
            let create = body::create_log_stream(group, stream);
            let made = self
                .logs("Logs_20140328.CreateLogStream", create, now)
                .await?;
            verdict::log_stream_made(&made)?;
            answered = put(None).await?;
        }
        if let Some(token) = verdict::expected_sequence_token(&answered) {
            answered = put(Some(token)).await?;
        }
        Ok(verdict::log_events(&answered, indexes.len()))
    }

    async fn put_records(
        &self,
        body: Result<Vec<u8>, Outcome>,
        sent: usize,
        now: UnixTime,
    ) -> Result<Outcome, Outcome> {
        let (endpoint, target) = (
            self.settings.firehose.as_ref(),
            "Firehose_20150804.PutRecordBatch",
        );
        let answered = self.json("firehose", endpoint, target, body?, now).await?;
        Ok(verdict::records(&answered, sent))
    }

    async fn logs(&self, target: &str, body: Vec<u8>, now: UnixTime) -> Result<Answered, Outcome> {
        let endpoint = self.settings.cloudwatch.as_ref();
        self.json("logs", endpoint, target, body, now).await
    }

    async fn json(
        &self,
        service: &str,
        endpoint: Option<&Endpoint>,
        target: &str,
        body: Vec<u8>,
        now: UnixTime,
    ) -> Result<Answered, Outcome> {
        let endpoint =
            endpoint.ok_or_else(|| Outcome::failed(DeliveryError::Refused, "no endpoint"))?;
        let call = ServiceCall {
            service,
            method: Method::POST,
            endpoint,
            path: "/",
            content_type: JSON_1_1,
            headers: &[("x-amz-target", target)],
            body: Bytes::from(body),
        };
        self.call(call, now).await
    }

    async fn call(&self, call: ServiceCall<'_>, now: UnixTime) -> Result<Answered, Outcome> {
        let client = self.client.as_ref();
        let client =
            client.ok_or_else(|| Outcome::failed(DeliveryError::Refused, "no credentials"))?;
        client.call(call, now).await.map_err(|error| {
            let delivery_error = match error {
                CallError::Connection(_) | CallError::Timeout(_) | CallError::TooLong(_) => {
                    DeliveryError::Unreachable
                }
                CallError::Request(_) => DeliveryError::Refused,
            };
            Outcome::failed(delivery_error, error.to_string())
        })
    }
}

/// Runs work that blocks or computes for long on a blocking thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Outcome> {
    let done = crate::supervisor::blocking(work).await;
    done.map_err(|error| Outcome::failed(DeliveryError::Disk, error.to_string()))
}

/// Writes the whole file or nothing.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    durable::replace(path, content, Access::PUBLIC, Survives::PowerLoss)
}

/// Appends after the last whole line; the rest of an interrupted write is cut off first. Writes all
/// lines or none, so that a retry duplicates nothing.
fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut appender = match File::open(path) {
        Ok(mut file) => {
            let len = file.metadata()?.len();
            Appender::recover(path, whole_lines(&mut file, len)?)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Appender::create(path, Access::PUBLIC.mode)?
        }
        Err(error) => return Err(error),
    };
    appender.append_synced(lines)
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
        if let Some(position) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + wide(position) + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;
    use crate::durable::faults::{Plan, Scratch, plans, under};

    /// Goal: with any failure, alone or in pairs, acknowledged lines are there once, in order, and
    /// a repetition of a failed append leaves no second copy.
    #[test]
    fn lines_are_appended_once_whatever_fails() {
        let run = |path: &Path| {
            let mut taken = Vec::new();
            for line in ["one\n", "two\n", "three\n"] {
                if append(path, line.as_bytes()).is_ok() {
                    taken.push(line);
                }
            }
            taken
        };
        let scratch = Scratch::new();
        let (_, operations) = under(Plan::default(), || run(&scratch.0.join("f")));
        for plan in plans(operations.len() + 2) {
            let scratch = Scratch::new();
            let path = scratch.0.join("f");
            let (taken, _) = under(plan.clone(), || run(&path));
            append(&path, b"last\n").expect("the disk is good again");
            let found = fs::read_to_string(&path).expect("reads");
            let mut left = found.lines();
            for line in &taken {
                // A refused line may precede it, if it could not be cut off.
                assert!(
                    left.any(|other| other == line.trim()),
                    "{plan:?}: {found:?}"
                );
            }
            assert!(found.ends_with("last\n"), "{plan:?}: {found:?}");
            if plan.fails.iter().all(|number| *number == plan.fails[0]) && plan.killed.is_none() {
                assert_eq!(found, taken.concat() + "last\n", "{plan:?}");
            }
        }
    }

    /// Goal: a torn last line is cut off before the next is written; whole ones stay.
    #[test]
    fn lines_follow_whole_lines() {
        let scratch = Scratch::new();
        let path = scratch.0.join("a/b.jsonl");
        append(&path, b"one\n").expect("writes");
        append(&path, b"two\n").expect("writes");
        let mut file = OpenOptions::new().append(true).open(&path).expect("opens");
        file.write_all(&vec![b'x'; 200_000]).expect("writes");
        append(&path, b"three\n").expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"one\ntwo\nthree\n");
        replace(&path, b"new").expect("writes");
        append(&path, b"line\n").expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"line\n");
    }
}
