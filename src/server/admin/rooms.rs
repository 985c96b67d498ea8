//! The fields of orders about rooms.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Which rooms are told of: the first ones by a figure, or all, a page at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomsOrder {
    /// The figure; `None`: all rooms, the newest change first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<By>,
    /// How many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<usize>,
    /// Where the page before ended; without `by`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// Only rooms of this name; without `by`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Only rooms whose name or id has this in it, in any case; without `by`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
}

/// A figure of rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    /// Viewers on this server
    Viewers,
    /// Messages and events a minute
    Rate,
}

/// One room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoomOrder {
    /// Its ARN, id or name.
    pub(crate) room: String,
    /// How many of its viewers to name.
    #[serde(default)]
    pub(crate) viewers: usize,
}

/// A call of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CallOrder {
    /// The API's name of the operation.
    pub(crate) operation: String,
    /// Its body.
    #[serde(default)]
    pub(crate) input: Map<String, Value>,
}

/// A new member of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinOrder {
    /// The room's ARN, id or name.
    pub(crate) room: String,
    /// The member's user id.
    pub(crate) user: String,
    /// What it may do, as of a chat token.
    #[serde(default)]
    pub(crate) capabilities: Vec<String>,
    /// The member's attributes.
    #[serde(default)]
    pub(crate) attributes: Map<String, Value>,
}
