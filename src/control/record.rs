//! Rooms and logging configurations as the control plane stores them.

/// Makes a struct with a `header` a stored resource: with ids of this type, in this table.
macro_rules! stored {
    ($record:ty, $id:ty, $table:expr) => {
        impl $crate::control::record::Record for $record {
            type Id = $id;
            const TABLE: Table = $table;

            fn header(&self) -> &ResourceHeader {
                &self.header
            }

            fn header_mut(&mut self) -> &mut ResourceHeader {
                &mut self.header
            }
        }
    };
}

mod ban;
mod extension;
mod rule_set;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::arn::{ResourceId, resource_id};
use super::store::Table;
pub use ban::BanRecord;
pub(super) use ban::tick_at;
pub use extension::{ExtensionRecord, Override, PinRecord};
pub use rule_set::RuleSetRecord;
use uproar_proto::base::id::{LoggingId, RoomId};
use uproar_proto::base::limits::{CONTENT_CHARS_MAX, ROOM_RATE_DEFAULT};
use uproar_proto::room::RoomSettings;
use uproar_proto::room::review::Fallback;

/// A stored resource.
pub trait Record: Clone + Serialize + DeserializeOwned {
    /// The type of its id.
    type Id: ResourceId;
    /// The table that stores it.
    const TABLE: Table;

    /// The header that all resources share.
    fn header(&self) -> &ResourceHeader;

    /// The same, mutable.
    fn header_mut(&mut self) -> &mut ResourceHeader;

    /// Its id.
    fn id(&self) -> Self::Id {
        Self::Id::parse(&self.header().id)
            .expect("records are made with ids, and read back only with them")
    }
}

/// The header of every resource. Members never set stay absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceHeader {
    pub(super) id: String,
    /// A name; it need not be unique.
    pub name: Option<String>,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Milliseconds since the epoch.
    pub updated_ms: u64,
    /// `tags`.
    pub tags: BTreeMap<String, String>,
}

impl ResourceHeader {
    /// The header of a new resource.
    pub fn new(id: impl ResourceId, now_ms: u64) -> Self {
        Self {
            id: id.to_string(),
            name: None,
            created_ms: now_ms,
            updated_ms: now_ms,
            tags: BTreeMap::new(),
        }
    }

    /// Records an update. Time may step back; the order of updates does not.
    pub fn touch(&mut self, now_ms: u64) {
        self.updated_ms = now_ms.max(self.updated_ms);
    }
}

/// A message review handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// Lambda ARN; if empty there is no review, and the fallback is kept for later.
    pub uri: String,
    /// `ALLOW` or `DENY`.
    pub fallback: String,
}

impl Handler {
    fn fallback(&self) -> Fallback {
        if self.fallback == "DENY" {
            Fallback::Deny
        } else {
            Fallback::Allow
        }
    }
}

/// A room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// Id, name, times, tags.
    #[serde(flatten)]
    pub header: ResourceHeader,
    /// `maximumMessageRatePerSecond`.
    pub message_rate: u32,
    /// `maximumMessageLength`.
    pub message_length: u32,
    /// `messageReviewHandler`.
    pub handler: Option<Handler>,
    /// `loggingConfigurationIdentifiers`, as ARNs; absent if never set.
    pub logging: Option<Vec<String>>,
    /// What it has beyond IVS Chat, beside its tags.
    #[serde(default, skip_serializing_if = "ExtensionRecord::is_new")]
    pub extension: ExtensionRecord,
}

impl RoomRecord {
    /// A room with the defaults of the API.
    pub(super) fn new(header: ResourceHeader) -> Self {
        Self {
            header,
            message_rate: ROOM_RATE_DEFAULT,
            message_length: u32::try_from(CONTENT_CHARS_MAX).expect("500"),
            handler: None,
            logging: None,
            extension: ExtensionRecord::default(),
        }
    }

    /// Its logging configurations.
    pub(super) fn logging_ids(&self) -> impl Iterator<Item = LoggingId> {
        let arns = self.logging.iter().flatten();
        arns.filter_map(|arn| LoggingId::parse(resource_id(arn)))
    }

    /// The handler that reviews its messages, if there is one.
    pub fn reviewer(&self) -> Option<&Handler> {
        self.handler
            .as_ref()
            .filter(|handler| !handler.uri.is_empty())
    }

    /// The settings its shard needs; `extensions`: whether tags of ours mean something.
    pub fn settings(&self, extensions: bool) -> RoomSettings {
        let extension = self.in_force().filter(|_| extensions);
        RoomSettings {
            content_chars_max: u16::try_from(self.message_length).unwrap_or(u16::MAX),
            messages_per_second: self.message_rate,
            review: self.reviewer().map(Handler::fallback),
            archive: self.logging_ids().collect(),
            extension: extension.map(Arc::new),
        }
    }
}

stored!(RoomRecord, RoomId, Table::Rooms);

/// The destination of a room's records: `destinationConfiguration`, written as the API writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Destination {
    /// Objects in a bucket.
    #[serde(rename_all = "camelCase")]
    S3 {
        /// Its name.
        bucket_name: String,
    },
    /// A log group.
    #[serde(rename_all = "camelCase")]
    CloudWatchLogs {
        /// Its name.
        log_group_name: String,
    },
    /// A Firehose stream.
    #[serde(rename_all = "camelCase")]
    Firehose {
        /// Its name.
        delivery_stream_name: String,
    },
}

/// State of a logging configuration. A server alone stores `ACTIVE` only: a change in progress when
/// it stopped was not acknowledged, so it did not happen. A cluster also stores `DELETING`, for its
/// nodes to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LoggingState {
    /// Delivers.
    #[default]
    Active,
    /// Delivers to its old destination; the change is being written.
    Updating,
    /// No longer delivers; the removal is being written.
    Deleting,
}

impl LoggingState {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_active(&self) -> bool {
        *self == Self::Active
    }

    /// The state as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }
}

/// A logging configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggingRecord {
    /// Id, name, times, tags.
    #[serde(flatten)]
    pub header: ResourceHeader,
    /// Where its records go.
    pub destination: Destination,
    /// Not written if it is `ACTIVE`.
    #[serde(default, skip_serializing_if = "LoggingState::is_active")]
    pub state: LoggingState,
}

stored!(LoggingRecord, LoggingId, Table::Logging);
