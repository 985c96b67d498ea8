//! The messages of the admin socket: one JSON object each.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rooms::{CallOrder, JoinOrder, RoomOrder, RoomsOrder};
use uproar_proto::base::limits::ADMIN_MESSAGE_BYTES_MAX;

/// What a server is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Order {
    /// Tells how the server does: [`Health`].
    Health {},
    /// Cuts all viewers, who reconnect elsewhere, and stops.
    Drain(DrainOrder),
    /// Ends a drain before it has ended the server.
    CancelDrain {},
    /// Reads the configuration again.
    Reload {},
    /// Hands everything over to a new process.
    Upgrade {
        /// The new process's program; `None`: the file that this one was started from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        binary: Option<PathBuf>,
        /// If the two versions cannot hand over: stop, so that a supervisor starts the new program.
        #[serde(default)]
        or_restart: bool,
    },
    /// Tells how the cluster does, as this node sees it.
    ClusterStatus {
        /// The ARN of a room whose home is wanted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        room: Option<String>,
    },
    /// Hands a slot over to another node.
    ClusterMove {
        /// The slot.
        slot: u8,
        /// The node's name.
        node: String,
    },
    /// Lets slots that were moved go where they belong, and spreads the leaders of streams over the brokers.
    ClusterBalance {},
    /// Tells what the server does and has done, in numbers.
    Stats {},
    /// Tells how the server has done of late.
    History {
        /// The number of the last sample that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u32>,
    },
    /// Tells of the server itself: its certificate, its log destinations, what should be changed.
    Server {},
    /// Tells of rooms.
    Rooms(RoomsOrder),
    /// Tells of one room.
    Room(RoomOrder),
    /// Tells in which rooms a user is.
    User {
        /// The user's id.
        user: String,
    },
    /// Does an operation of the API.
    Call(CallOrder),
    /// Adds a member to a room: the answer comes with its connection.
    Join(JoinOrder),
    /// From a new process: it takes over, on this connection.
    TakeOver {},
}

impl Order {
    /// Whether it is done while another order is.
    pub(crate) fn is_answered_beside(&self) -> bool {
        matches!(
            self,
            Self::Health {}
                | Self::CancelDrain {}
                | Self::ClusterStatus { .. }
                | Self::ClusterMove { .. }
                | Self::ClusterBalance {}
                | Self::Stats {}
                | Self::History { .. }
                | Self::Server {}
                | Self::Rooms(_)
                | Self::Room(_)
                | Self::User { .. }
                | Self::Call(_)
                | Self::Join(_)
        )
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Health {} => "health",
            Self::Drain(_) => "drain",
            Self::CancelDrain {} => "cancel_drain",
            Self::Reload {} => "reload",
            Self::Upgrade { .. } => "upgrade",
            Self::ClusterStatus { .. } => "cluster_status",
            Self::ClusterMove { .. } => "cluster_move",
            Self::ClusterBalance {} => "cluster_balance",
            Self::Stats {} => "stats",
            Self::History { .. } => "history",
            Self::Server {} => "server",
            Self::Rooms(_) => "rooms",
            Self::Room(_) => "room",
            Self::User { .. } => "user",
            Self::Call(_) => "call",
            Self::Join(_) => "join",
            Self::TakeOver {} => "take_over",
        }
    }
}

/// A drain; `[drain]` of the configuration says what is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DrainOrder {
    /// Seconds in which `/readyz` says that no viewer is welcome, before the first is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) notice_s: Option<u64>,
    /// Seconds from the first cut to the last; 0: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) over_s: Option<u64>,
    /// Also at a pace at which viewers are refused their tokens.
    #[serde(default)]
    pub(crate) force: bool,
    /// Tell of progress, and answer at its end; else answer when it has begun.
    #[serde(default)]
    pub(crate) wait: bool,
}

/// What the server says of an order: any number of `Progress`, then one of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// It is being done.
    Progress(Value),
    /// It is done.
    Ok(Value),
    /// It is not done.
    Error(Refusal),
}

/// Why an order was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// For programs.
    pub(crate) code: RefusalCode,
    /// For people: the value, the limit, the next step.
    pub(crate) message: String,
}

impl Refusal {
    /// Makes a refusal; a message that would not fit an answer is cut.
    pub(crate) fn new(code: RefusalCode, message: impl fmt::Display) -> Self {
        // Each character may become six in JSON.
        let most = ADMIN_MESSAGE_BYTES_MAX / 8;
        let mut message = message.to_string();
        message.truncate(message.floor_char_boundary(most));
        Self { code, message }
    }
}

/// The kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RefusalCode {
    /// The message is not an order.
    Malformed,
    /// The message is longer than `ADMIN_MESSAGE_BYTES_MAX`.
    TooLong,
    /// No order came within `ADMIN_ORDER_MAX`.
    Late,
    /// The peer is neither the server's user nor root.
    Forbidden,
    /// As many commands are connected as may be, or another order is being done.
    Busy,
    /// The order makes no sense now, or its values are refused.
    Refused,
    /// The order was begun and has failed; the message says what is left of it.
    Failed,
}

/// How a server does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// Its process.
    pub(crate) pid: u32,
    /// Its version.
    pub(crate) version: String,
    /// The commit it was built from.
    pub(crate) commit: String,
    /// What it does: serve, or which step of a drain.
    pub(crate) state: String,
    /// What `/readyz` says: whether new viewers are welcome.
    pub(crate) ready: bool,
    /// Established connections of viewers.
    pub(crate) viewers: u64,
    /// Rooms.
    pub(crate) rooms: u64,
    /// What moves the bytes of viewers: `io_uring` or `epoll`; empty: its version does not say.
    #[serde(default)]
    pub(crate) io: String,
    /// Why it is not `io_uring`, where that was wanted.
    #[serde(default)]
    pub(crate) io_uring_refused: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an order has one name, in messages, in the code and on the page; what is no order is
    /// refused. Method: every name on the page makes an order of that name, and each order has a row.
    #[test]
    fn the_page_lists_every_order() {
        let page = include_str!("../../../docs/admin-socket.md");
        let (_, orders) = page.split_once("## Orders").expect("the section");
        let (orders, refusals) = orders.split_once("## Refusals").expect("the next section");
        let names: Vec<&str> = rows(orders).collect();
        let parse = |name: &str| {
            let mut order = serde_json::json!({ "order": name });
            // Those that mean nothing without their fields.
            for (of, field, value) in [
                ("cluster_move", "slot", 17.into()),
                ("cluster_move", "node", Value::from("chat-2")),
                ("room", "room", "lobby".into()),
                ("user", "user", "ann".into()),
                ("join", "room", "lobby".into()),
                ("join", "user", "ann".into()),
                ("call", "operation", "GetRoom".into()),
            ] {
                if name == of {
                    order[field] = value;
                }
            }
            serde_json::from_value::<Order>(order).map_err(|e| e.to_string())
        };
        for name in &names {
            assert_eq!(parse(name).as_ref().map(Order::name), Ok(*name));
        }
        let unknown = parse("no such order").expect_err("it is unknown");
        let listed = format!("`{}`", names.join("`, `"));
        assert!(unknown.contains(&listed), "{unknown}");
        for code in rows(refusals) {
            let parsed = serde_json::from_value::<RefusalCode>(code.into());
            assert!(parsed.is_ok(), "{code} is no refusal");
        }
        let unknown = serde_json::from_value::<RefusalCode>("x".into()).expect_err("unknown");
        let listed = format!("`{}`", rows(refusals).collect::<Vec<_>>().join("`, `"));
        assert!(unknown.to_string().contains(&listed), "{unknown}");
    }

    /// The first cell of each row.
    fn rows(section: &str) -> impl Iterator<Item = &str> {
        let cells = section.lines().filter_map(|line| line.strip_prefix("| `"));
        cells.filter_map(|line| Some(line.split_once('`')?.0))
    }

    /// Goal: a misspelt field is refused, not ignored: `over` instead of `over_s` would cut a crowd at once.
    #[test]
    fn unknown_fields_are_refused() {
        for text in [
            r#"{"order":"drain","over":120}"#,
            r#"{"order":"health","verbose":true}"#,
            r#"{"order":"upgrade","binary":7}"#,
            r#"{"order":"upgrade"} {}"#,
        ] {
            assert!(serde_json::from_str::<Order>(text).is_err(), "{text}");
        }
    }
}
