//! What whoever may speak to the admin socket can do with rooms: name them as people do, call the API's operations
//! without a key, and become a member without a token.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use hyper::Uri;
use serde_json::{Value, json};

use super::access::grant::Grant;
use super::access::{AccessKey, Caller};
use super::fault::Fault;
use super::op::request::{Answer, Request};
use super::op::tokens::Wanted;
use super::op::{self, rooms};
use super::operation::{Family, Operation, TAGS_PATH};
use super::record::{Record, RoomRecord};
use super::state::Control;
use crate::random;
use crate::shard::command::{Arrival, PendingConnection, user_hash};
use uproar_proto::base::clock::Now;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{ADMIN_MEMBER_STAY_MAX, ADMIN_MEMBER_TOKEN_LIFE};
use uproar_proto::chat::encode;
use uproar_proto::extension::PREFIX;
use uproar_proto::extension::tags::TAGS;
use uproar_proto::session::Grant as SessionGrant;
use uproar_proto::token::TokenId;

/// Candidates that an ambiguous name is refused with; further ones are counted.
const CANDIDATES_MAX: usize = 10;

/// Why a text names no room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Nothing has that ARN, id or name.
    #[error("no room has the ARN, id or name {0}; `uproar room list` shows all rooms")]
    Unknown(String),
    /// The text is empty.
    #[error(
        "the room's ARN, id or name is empty: is a variable not set? `uproar room list` shows all rooms"
    )]
    Empty,
    /// Several rooms have that name, or one has it as its id and another as its name.
    #[error("several rooms are called {name}: {candidates}; name one by its id")]
    Ambiguous {
        /// The text.
        name: String,
        /// Their ids.
        candidates: String,
    },
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFault {
    /// The database is another process's, or is about to be.
    Paused,
    /// As the API says.
    Refused(Fault),
}

impl From<Fault> for CallFault {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

/// The server's answer to a member's upgrade, which it did not have to ask for.
const GREETING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

impl Control {
    /// Does an operation of the API with every right: validated, limited, counted and answered as any call.
    ///
    /// # Errors
    ///
    /// As the API's. Of operations on tags, whose resource stands in a path, see [`Control::tag_room`].
    pub async fn operate(
        self: &Rc<Self>,
        operation: Operation,
        input: &Value,
    ) -> Result<Answer, CallFault> {
        self.operate_at(Uri::from_static("/"), operation, input)
            .await
    }

    /// Gives a room these tags, as TagResource does.
    ///
    /// # Errors
    ///
    /// As the API's.
    pub async fn tag_room(self: &Rc<Self>, room: RoomId, tags: &Value) -> Result<(), CallFault> {
        let uri = self.tags_uri(room, "")?;
        let input = json!({ "tags": tags });
        let tagged = self.operate_at(uri, Operation::TagResource, &input).await;
        tagged.map(drop)
    }

    /// Takes all tags of ours from a room, as UntagResource does: it is IVS Chat's again.
    ///
    /// # Errors
    ///
    /// As the API's.
    pub async fn untag_room(self: &Rc<Self>, room: RoomId) -> Result<(), CallFault> {
        let keys = TAGS
            .iter()
            .map(|tag| format!("tagKeys={PREFIX}{}", tag.name));
        let query = keys.collect::<Vec<_>>().join("&");
        let uri = self.tags_uri(room, &query)?;
        let untagged = self.operate_at(uri, Operation::UntagResource, &Value::Null);
        untagged.await.map(drop)
    }

    /// Where a room's tags are.
    fn tags_uri(&self, room: RoomId, query: &str) -> Result<Uri, CallFault> {
        let uri = format!("{TAGS_PATH}{}?{query}", self.settings.account.arn(room));
        uri.parse()
            .map_err(|_invalid| CallFault::Refused(Fault::Internal))
    }

    /// Whether rooms can have more than IVS Chat's.
    pub fn has_extensions(&self) -> bool {
        self.registry.has_extensions()
    }

    async fn operate_at(
        self: &Rc<Self>,
        uri: Uri,
        operation: Operation,
        input: &Value,
    ) -> Result<Answer, CallFault> {
        if self.phase.is_ending() {
            return Err(CallFault::Paused);
        }
        let started = self.clock.now().tick;
        let key = AccessKey {
            id: "admin.sock".to_owned(),
            secret: String::new().into(),
        };
        let request = Request {
            caller: Caller::new(key, Grant::ALL),
            operation,
            uri,
            body: input.to_string().into(),
        };
        let outcome = op::call(self, request).await;
        let status = match &outcome {
            Ok((status, _)) => *status,
            Err(fault) => fault.kind().1,
        };
        self.count(operation.name(), status);
        let took = self.clock.now().tick.since(started);
        self.took(operation.name(), status, took);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            operation = operation.name(),
            key = "admin.sock",
            status,
            micros,
            "api"
        );
        Ok(outcome?)
    }

    /// The room of this ARN, id or name.
    ///
    /// # Errors
    ///
    /// If there is none, or more than one.
    pub async fn room_called(&self, text: &str) -> Result<RoomId, NoRoom> {
        match self.room_known_as(text) {
            Err(NoRoom::Unknown(_)) if self.registry.is_shared() => {
                // Another node may have made it a moment ago.
                let _unreachable = self.registry.barrier().await;
                self.room_known_as(text)
            }
            known => known,
        }
    }

    fn room_known_as(&self, text: &str) -> Result<RoomId, NoRoom> {
        let rooms = &self.registry.rooms;
        // An empty text is a variable that is not set, not a room whose name was taken away.
        if text.is_empty() {
            return Err(NoRoom::Empty);
        }
        if let Ok(id) = self.settings.account.parse::<RoomId>(text) {
            let id = id.filter(|id| rooms.contains(*id));
            return id.ok_or_else(|| NoRoom::Unknown(text.to_owned()));
        }
        let own =
            |room: &RoomRecord| room.header.id == text || room.header.name.as_deref() == Some(text);
        let (mut found, more) = rooms.page(None, CANDIDATES_MAX, own);
        let Some(first) = found.pop() else {
            return Err(NoRoom::Unknown(text.to_owned()));
        };
        if found.is_empty() {
            return Ok(first.id());
        }
        found.push(first);
        let ids: Vec<_> = found.iter().map(|room| room.id().to_string()).collect();
        let rest = if more { " and others" } else { "" };
        Err(NoRoom::Ambiguous {
            name: text.to_owned(),
            candidates: format!("{}{rest}", ids.join(", ")),
        })
    }

    /// Whether there is the operator's page, with its API.
    pub fn has_console(&self) -> bool {
        self.settings.orders.is_some()
    }

    /// Whether this server has the operation.
    pub(super) fn offers(&self, operation: Operation) -> bool {
        match operation.family() {
            Family::Ivs => true,
            Family::Operator => self.has_console(),
            Family::Extension => self.registry.has_extensions(),
        }
    }

    /// Time since the process's start, in milliseconds.
    pub fn uptime_ms(&self) -> u64 {
        let up = self.clock.uptime();
        u64::try_from(up.as_millis()).unwrap_or(u64::MAX)
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// The wall clock's time, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.clock.now().unix.millis()
    }

    /// A page of the rooms whose name or id has `text` in it, in any case, as ListRooms shows them.
    ///
    /// # Errors
    ///
    /// Of that operation.
    pub async fn rooms_like(&self, text: &str, page: &Value) -> Result<Value, CallFault> {
        if self.phase.is_ending() {
            return Err(CallFault::Paused);
        }
        self.registry.barrier().await.map_err(CallFault::Refused)?;
        Ok(rooms::like(self, text, page)?)
    }

    /// Connections of viewers that the server takes at most.
    pub fn viewers_max(&self) -> usize {
        self.gateway.connections_max()
    }

    /// What people know a room by: `arn`, `id` and, if it has one, `name`.
    pub fn room_names(&self, id: RoomId) -> Value {
        let mut names = json!({"arn": self.settings.account.arn(id), "id": id.to_string()});
        let room = self.registry.rooms.get(id);
        if let Some(name) = room.and_then(|room| room.header.name) {
            names["name"] = name.into();
        }
        names
    }

    /// A room's settings as GetRoom shows them; `None` once it is gone.
    pub fn room_settings(&self, id: RoomId) -> Option<Value> {
        let room = self.registry.rooms.get(id)?;
        Some(rooms::full(self, &room))
    }

    /// Makes `socket` a member of a room. Its first bytes are the answer to an upgrade: 101, or the refusal that a
    /// viewer would get. What follows is WebSocket, without compression.
    ///
    /// # Errors
    ///
    /// Of `CreateChatToken`, for a user, attributes or capabilities that it refuses.
    pub fn admit_member(&self, room: RoomId, wish: &Value, socket: OwnedFd) -> Result<(), Fault> {
        let wanted = Wanted::parse(wish)?;
        let token = TokenId::from_bytes(random::bytes().map_err(|_none| Fault::Internal)?);
        let now = self.clock.now();
        let attributes = wanted.attributes.iter();
        let attributes = attributes.map(|(key, value)| (&**key, &**value));
        let sender_json = encode::sender_json(&wanted.user_id, attributes);
        self.gateway.enter(Box::new(PendingConnection {
            socket,
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tls: None,
            greeting: GREETING.to_vec(),
            leftover: Vec::new(),
            grant: SessionGrant {
                sender_json: sender_json.into_boxed_str(),
                capabilities: wanted.capabilities,
                ends: now.tick.after(ADMIN_MEMBER_STAY_MAX),
            },
            room,
            token,
            token_expires: now.unix.after(ADMIN_MEMBER_TOKEN_LIFE),
            user_hash: user_hash(&wanted.user_id),
            agreement: None,
            traits: None,
            share: None,
            accepted: now.tick,
            arrival: Arrival::default(),
        }));
        Ok(())
    }
}
