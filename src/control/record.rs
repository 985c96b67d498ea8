//! What the control plane keeps of a room and of a logging configuration, as it is stored.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::arn::{ResourceId, resource_id};
use super::store::Table;
use crate::base::id::{LoggingId, RoomId};
use crate::room::RoomSettings;
use crate::room::review::Fallback;

/// A kept resource.
pub trait Record: Clone + Serialize + DeserializeOwned {
    /// What names it.
    type Id: ResourceId;
    /// Where it is stored.
    const TABLE: Table;

    /// What it has in common with the others.
    fn head(&self) -> &Head;

    /// The same, to be changed.
    fn head_mut(&mut self) -> &mut Head;

    /// Its id.
    fn id(&self) -> Self::Id {
        Self::Id::parse(&self.head().id)
            .expect("records are made with ids, and read back only with them")
    }
}

/// What every resource has. Members never set stay absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub(super) id: String,
    /// Not unique.
    pub name: Option<String>,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Milliseconds since the epoch.
    pub updated_ms: u64,
    /// `tags`.
    pub tags: BTreeMap<String, String>,
}

impl Head {
    /// Of a new resource.
    pub fn new(id: impl ResourceId, now_ms: u64) -> Self {
        Self {
            id: id.to_string(),
            name: None,
            created_ms: now_ms,
            updated_ms: now_ms,
            tags: BTreeMap::new(),
        }
    }

    /// Notes an update. Time may step back; the order of updates does not.
    pub fn touch(&mut self, now_ms: u64) {
        self.updated_ms = now_ms.max(self.updated_ms);
    }
}

/// A message review handler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// Lambda ARN; empty: nobody is asked, and the fallback is kept for later.
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
    pub head: Head,
    /// `maximumMessageRatePerSecond`.
    pub message_rate: u32,
    /// `maximumMessageLength`.
    pub message_length: u32,
    /// `messageReviewHandler`.
    pub handler: Option<Handler>,
    /// `loggingConfigurationIdentifiers`, as ARNs; absent if never set.
    pub logging: Option<Vec<String>>,
}

impl RoomRecord {
    /// Its logging configurations.
    fn logging_ids(&self) -> impl Iterator<Item = LoggingId> {
        let arns = self.logging.iter().flatten();
        arns.filter_map(|arn| LoggingId::parse(resource_id(arn)))
    }

    /// Who reviews its messages, if anybody does.
    pub fn reviewer(&self) -> Option<&Handler> {
        self.handler
            .as_ref()
            .filter(|handler| !handler.uri.is_empty())
    }

    /// What its shard must know.
    pub fn settings(&self) -> RoomSettings {
        RoomSettings {
            content_chars_max: u16::try_from(self.message_length).unwrap_or(u16::MAX),
            messages_per_second: self.message_rate,
            review: self.reviewer().map(Handler::fallback),
            archive: self.logging_ids().collect(),
        }
    }
}

impl Record for RoomRecord {
    type Id = RoomId;
    const TABLE: Table = Table::Rooms;

    fn head(&self) -> &Head {
        &self.head
    }

    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}

/// Where a room's records go: `destinationConfiguration`, written as the API writes it.
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

/// State of a logging configuration. Only `ACTIVE` is ever stored: a change that was under way when the
/// server stopped was not acknowledged, so it did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoggingState {
    /// Delivers.
    #[default]
    Active,
    /// Delivers to its old destination; the change is being written.
    Updating,
    /// Delivers no more; the removal is being written.
    Deleting,
}

impl LoggingState {
    /// As the API writes it.
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
    pub head: Head,
    /// Where to.
    pub destination: Destination,
    /// Lives in memory only.
    #[serde(skip)]
    pub state: LoggingState,
}

impl Record for LoggingRecord {
    type Id = LoggingId;
    const TABLE: Table = Table::Logging;

    fn head(&self) -> &Head {
        &self.head
    }

    fn head_mut(&mut self) -> &mut Head {
        &mut self.head
    }
}
