//! Contents and target of one request or one file write. Pure.

use std::path::PathBuf;

use super::batch::{self, Indexes};
use super::layout;
use super::settings::ArchiveSettings;
use super::spool::RecordBatch;
use crate::control::arn::Account;
use crate::control::record::Destination;
use uproar_proto::base::id::{LoggingId, RoomId};
use uproar_proto::base::number::wide;

/// The records and the target of one request or one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadRequest {
    /// An object in a bucket.
    Object {
        /// The bucket.
        bucket: String,
        /// The parts of its key.
        name: ObjectName,
        /// Its records.
        indexes: Indexes,
    },
    /// Events of a log stream.
    LogEvents {
        /// The log group.
        group: String,
        /// The stream.
        stream: String,
        /// The events.
        indexes: Indexes,
    },
    /// Records of a Firehose stream.
    Records {
        /// The stream.
        stream: String,
        /// The records.
        indexes: Indexes,
    },
    /// Lines appended to a file.
    Lines {
        /// Path below the directory of chat logs.
        file: PathBuf,
        /// The lines.
        indexes: Indexes,
    },
}

/// The parts of an object's key, except for its first record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    account: Account,
    configuration: LoggingId,
    room: RoomId,
    start_ms: u64,
    // Epoch and sequence number of the batch's first record.
    first: (u32, u64),
}

impl ObjectName {
    /// The key of an object whose first record is record `index` of the batch. Each record is the
    /// first of one object at most.
    fn key(&self, index: usize) -> String {
        let (epoch, first) = self.first;
        let number = (epoch, first + wide(index));
        let hash = layout::object_hash(self.configuration, number);
        layout::object_key(&self.account, self.room, self.start_ms, hash)
    }
}

impl UploadRequest {
    /// Its records: indexes into the batch.
    pub fn indexes(&self) -> &[usize] {
        let (Self::Object { indexes, .. }
        | Self::LogEvents { indexes, .. }
        | Self::Records { indexes, .. }
        | Self::Lines { indexes, .. }) = self;
        indexes
    }

    fn indexes_mut(&mut self) -> &mut Indexes {
        let (Self::Object { indexes, .. }
        | Self::LogEvents { indexes, .. }
        | Self::Records { indexes, .. }
        | Self::Lines { indexes, .. }) = self;
        indexes
    }

    /// Records in it.
    pub fn count(&self) -> u64 {
        wide(self.indexes().len())
    }

    /// The object's key; `None` for other requests.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Object { name, indexes, .. } => indexes.first().map(|index| name.key(*index)),
            Self::LogEvents { .. } | Self::Records { .. } | Self::Lines { .. } => None,
        }
    }

    /// Keeps only the records at these positions.
    pub fn keep(&mut self, positions: &[usize]) {
        let indexes = self.indexes_mut();
        let kept = positions
            .iter()
            .filter_map(|position| indexes.get(*position).copied());
        *indexes = kept.collect();
    }

    /// Cuts off and returns the second half.
    #[must_use]
    pub fn split(&mut self) -> Self {
        let mut second = self.clone();
        let indexes = self.indexes_mut();
        *second.indexes_mut() = indexes.split_off(indexes.len() / 2);
        second
    }
}

/// Divides a batch for a destination. The same batch always gives the same requests.
pub fn uploads(
    settings: &ArchiveSettings,
    id: LoggingId,
    destination: &Destination,
    batch: &RecordBatch,
) -> Vec<UploadRequest> {
    let records = &batch.records;
    match destination {
        Destination::S3 { bucket_name } => objects(settings, id, bucket_name, batch),
        Destination::CloudWatchLogs {
            log_group_name: group,
        } => {
            if settings.cloudwatch.is_none() {
                return lines(batch::files(records, |record| {
                    layout::log_file(group, &layout::log_stream(record.room), record.event_ms)
                }));
            }
            let upload = |(room, indexes)| UploadRequest::LogEvents {
                group: group.clone(),
                stream: layout::log_stream(room),
                indexes,
            };
            batch::log_events(records).into_iter().map(upload).collect()
        }
        Destination::Firehose {
            delivery_stream_name: stream,
        } => {
            if settings.firehose.is_none() {
                return lines(batch::files(records, |record| {
                    layout::firehose_file(stream, record.event_ms)
                }));
            }
            let upload = |indexes| UploadRequest::Records {
                stream: stream.clone(),
                indexes,
            };
            let calls = batch::firehose_records(records).into_iter();
            calls.map(upload).collect()
        }
    }
}

/// One object for each room and window.
fn objects(
    settings: &ArchiveSettings,
    id: LoggingId,
    bucket: &str,
    batch: &RecordBatch,
) -> Vec<UploadRequest> {
    let upload = |(room, start_ms, indexes): (_, _, Indexes)| UploadRequest::Object {
        bucket: bucket.to_owned(),
        name: ObjectName {
            account: settings.account.clone(),
            configuration: id,
            room,
            start_ms,
            first: batch.origin(),
        },
        indexes,
    };
    let objects = batch::objects(&batch.records, settings.window_ms());
    objects.into_iter().map(upload).collect()
}

fn lines(files: Vec<(PathBuf, Indexes)>) -> Vec<UploadRequest> {
    let upload = |(file, indexes)| UploadRequest::Lines { file, indexes };
    files.into_iter().map(upload).collect()
}

#[cfg(test)]
mod tests {
    use super::super::spool::batch_from;
    use super::*;

    /// Goal: no object of a spool replaces another, however many windows share a minute and however
    /// many batches a window.
    #[test]
    fn objects_have_keys_of_their_own() {
        let settings = ArchiveSettings {
            account: Account {
                region: "us-west-2".to_owned(),
                id: "123456789012".to_owned(),
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
            let batch = batch_from(first, &records);
            for upload in uploads(&settings, id, &destination, &batch) {
                objects += 1;
                keys.insert(upload.key().expect("an object was asked for"));
            }
        }
        assert_eq!((objects, keys.len()), (12, 12));
    }
}
