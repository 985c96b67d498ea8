//! What one request or one file write carries. Pure.

use std::path::PathBuf;

use super::batch::{self, Picks};
use super::spool::Stretch;
use super::{ArchiveSettings, layout};
use crate::base::id::{LoggingId, RoomId};
use crate::control::arn::Realm;
use crate::control::record::Destination;

/// What one request or one write carries, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parcel {
    /// An object in a bucket.
    Object {
        /// The bucket.
        bucket: String,
        /// What its key is made of.
        name: ObjectName,
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

/// What names an object, but for its first record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName {
    realm: Realm,
    configuration: LoggingId,
    room: RoomId,
    start_ms: u64,
    // Epoch and sequence number of the stretch's first record.
    first: (u32, u64),
}

impl ObjectName {
    /// The key of an object that begins with record `index` of the stretch. Each record is the first
    /// of one object at most.
    fn key(&self, index: usize) -> String {
        let (epoch, first) = self.first;
        let number = (epoch, first + index as u64);
        let hash = layout::object_hash(self.configuration, number);
        layout::object_key(&self.realm, self.room, self.start_ms, hash)
    }
}

impl Parcel {
    /// Its records: indexes into the stretch.
    pub fn picks(&self) -> &[usize] {
        let (Self::Object { picks, .. }
        | Self::LogEvents { picks, .. }
        | Self::Records { picks, .. }
        | Self::Lines { picks, .. }) = self;
        picks
    }

    fn picks_mut(&mut self) -> &mut Picks {
        let (Self::Object { picks, .. }
        | Self::LogEvents { picks, .. }
        | Self::Records { picks, .. }
        | Self::Lines { picks, .. }) = self;
        picks
    }

    /// Records in it.
    pub fn count(&self) -> u64 {
        self.picks().len() as u64
    }

    /// The object's key; `None` for what is no object.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::Object { name, picks, .. } => picks.first().map(|index| name.key(*index)),
            Self::LogEvents { .. } | Self::Records { .. } | Self::Lines { .. } => None,
        }
    }

    /// Leaves only the records at these places.
    pub fn keep(&mut self, places: &[usize]) {
        let picks = self.picks_mut();
        let kept = places.iter().filter_map(|place| picks.get(*place).copied());
        *picks = kept.collect();
    }

    /// Cuts off and returns the second half.
    #[must_use]
    pub fn split(&mut self) -> Self {
        let mut second = self.clone();
        let picks = self.picks_mut();
        *second.picks_mut() = picks.split_off(picks.len() / 2);
        second
    }
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
                let name = ObjectName {
                    realm: settings.realm.clone(),
                    configuration: id,
                    room,
                    start_ms,
                    first: stretch.origin(),
                };
                Parcel::Object {
                    bucket: bucket_name.clone(),
                    name,
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

#[cfg(test)]
mod tests {
    use super::super::spool::stretch_from;
    use super::*;

    /// Goal: no object of a spool replaces another, however many windows share a minute and however
    /// many stretches a window.
    #[test]
    fn objects_have_keys_of_their_own() {
        let settings = ArchiveSettings {
            realm: Realm {
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
            let stretch = stretch_from(first, &records);
            for parcel in parcels(&settings, id, &destination, &stretch) {
                objects += 1;
                keys.insert(parcel.key().expect("an object was asked for"));
            }
        }
        assert_eq!((objects, keys.len()), (12, 12));
    }
}
