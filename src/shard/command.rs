//! What shards ask of each other, and the control thread of them.

use std::net::IpAddr;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::gateway::Refused;
use super::mailbox::{MustArrive, Refusable};
use super::settings::{Reservation, ShardId};
use crate::base::admission::Share;
use crate::base::clock::UnixTime;
use crate::base::id::{FrameId, RoomId};
use crate::net::tls::Tls;
use crate::protocol::chat::ErrorCode;
use crate::protocol::chat::review::Verdict;
use crate::protocol::extension::Agreement;
use crate::protocol::token::TokenId;
use crate::room::RoomSettings;
use crate::room::log::Batch;
use crate::room::review::Ticket;
use crate::session::Grant;

/// A connection whose token was opened, on its way to its place.
#[derive(Debug)]
pub struct Newcomer<S> {
    /// The connection.
    pub socket: S,
    /// The other end's address.
    pub ip: IpAddr,
    /// Established TLS, if any.
    pub tls: Option<Box<Tls>>,
    /// The `101` answer, to be sent first.
    pub greeting: Vec<u8>,
    /// What the client sent behind its request head (plaintext).
    pub leftover: Vec<u8>,
    /// What the token grants.
    pub grant: Grant,
    /// The token's room.
    pub room: RoomId,
    /// For single use.
    pub token: TokenId,
    /// When the token stops being usable: so long it is remembered.
    pub token_expires: UnixTime,
    /// Narrows the search for a user's connections.
    pub user_hash: u32,
    /// On compression, if there is one.
    pub agreement: Option<Agreement>,
    /// Its part of what its address may have, if that is counted.
    pub share: Option<Share>,
}

/// Why a newcomer is turned away; the handshake answers with a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Turned {
    /// The token was used before.
    #[error("The chat token has already been used; a token opens one connection")]
    TokenUsed,
    /// The room does not exist.
    #[error("The room does not exist")]
    NoSuchRoom,
    /// The server holds as many connections as it may.
    #[error("The server holds as many connections as its limit allows")]
    TooManyConnections,
    /// Its address has as many connections as it may.
    #[error("Too many connections from this address")]
    TooManyOfAddress,
    /// Too many used tokens to remember one more.
    #[error("Too many tokens were used within their lifetime; retry later")]
    TooManyTokens,
    /// The use of the token could not be written down.
    #[error("The token's use could not be recorded")]
    NotRecorded,
    /// The room's shard has more to do than it can take.
    #[error("The server is too busy to take the connection; retry later")]
    Busy,
}

/// A publish request on its way to the room's home shard, and to its reviewer. The texts lie one
/// behind the other in `text`, which is cut from a reused buffer.
#[derive(Debug, Clone)]
pub struct Posted {
    /// Content or id or user id; attributes or reason; request id; sender; the sender's address.
    text: Bytes,
    ends: [u16; 4],
    /// What is asked.
    pub action: Action,
    /// The shard and connection to tell of a refusal.
    pub from: (ShardId, u64),
}

/// The three publish actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `SEND_MESSAGE`: content, attributes as JSON.
    Send,
    /// `DELETE_MESSAGE`: message id, reason.
    Delete,
    /// `DISCONNECT_USER`: user id, reason.
    Disconnect,
}

/// The four texts of a publish request: what, its companion, request id, sender as JSON.
pub type Texts<'a> = [&'a str; 4];

impl Posted {
    /// Copies the texts into `buffer` and cuts them off. `ip` is the sender's address; empty unless
    /// the room is reviewed.
    pub fn new(
        buffer: &mut bytes::BytesMut,
        action: Action,
        texts: Texts<'_>,
        ip: &str,
        from: (ShardId, u64),
    ) -> Self {
        buffer.reserve(texts.iter().map(|text| text.len()).sum::<usize>() + ip.len());
        let ends = texts.map(|text| {
            buffer.extend_from_slice(text.as_bytes());
            u16::try_from(buffer.len()).expect("requests are far below 64 KiB")
        });
        buffer.extend_from_slice(ip.as_bytes());
        Self {
            text: buffer.split().freeze(),
            ends,
            action,
            from,
        }
    }

    /// The texts, in the order of [`Posted::new`].
    pub fn texts(&self) -> Texts<'_> {
        let [a, b, c, d] = self.ends.map(usize::from);
        let text = self.text();
        [&text[..a], &text[a..b], &text[b..c], &text[c..d]]
    }

    /// The sender's address; empty if it is not known.
    pub fn ip(&self) -> &str {
        let [.., end] = self.ends.map(usize::from);
        &self.text()[end..]
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.text).expect("made of strings")
    }
}

/// An ERROR frame for one connection, and what its log line says.
#[derive(Debug)]
pub struct Refusal {
    /// The frame.
    pub frame: Bytes,
    /// Its `Id`.
    pub id: FrameId,
    /// Its `ErrorCode`.
    pub code: ErrorCode,
    /// Its `ErrorMessage`.
    pub reason: Box<str>,
}

/// Answer to the control thread.
pub type Answer<T> = oneshot::Sender<Result<T, Refused>>;

/// What clients want of a room at home on another shard. The sender refuses it if the mailbox is full.
#[derive(Debug)]
pub enum Request<S> {
    /// May this connection enter?
    Join(Box<Newcomer<S>>),
    /// A member's request.
    Post(RoomId, Posted),
}

impl<S> Refusable for Request<S> {}

/// What a shard is told, and must hear.
#[derive(Debug)]
pub enum Command<S> {
    /// To the chosen shard: it may, and its place is here.
    Install(Box<Newcomer<S>>, RoomSettings, Reservation),
    /// To a shard with members: append to the room log and fan out.
    Batch(RoomId, Batch),
    /// To a member's shard: a connection's request was refused.
    Tell(u64, Box<Refusal>),
    /// To a shard with members: close this user's connections.
    Evict(RoomId, Box<str>, Box<str>),
    /// To a home shard: members fewer on the sending shard.
    Left(RoomId, ShardId, Departures),
    /// From the control thread: the room exists, with these settings.
    PutRoom(RoomId, RoomSettings, Answer<()>),
    /// From the home shard: changed settings.
    Adopt(RoomId, RoomSettings),
    /// From the control thread: the room is gone.
    DeleteRoom(RoomId, Answer<()>),
    /// From the home shard: the room is gone.
    Vanish(RoomId),
    /// From the control thread: an application event; name, attributes as JSON.
    SendEvent(RoomId, Box<str>, Box<str>, Answer<FrameId>),
    /// From the control thread: message id, reason.
    DeleteMessage(RoomId, Box<str>, Box<str>, Answer<FrameId>),
    /// From the control thread: user id, reason.
    DisconnectUser(RoomId, Box<str>, Box<str>, Answer<FrameId>),
    /// From the control thread: what a review came to; `None`: nothing, the fallback decides.
    Verdict(RoomId, Ticket, Option<Verdict>),
    /// From the archive: so many more of this shard's entries are in the spool.
    Spooled(u32),
    /// From the control thread: cut every connection, without a Close frame, and stop.
    Stop,
}

impl<S> MustArrive for Command<S> {}

/// Members that left a shard, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Departures {
    /// How many.
    pub members: u32,
    /// How many of them took compressed messages.
    pub deflated: u32,
}

impl Departures {
    /// One member; whether it took compressed messages.
    pub fn one(deflated: bool) -> Self {
        Self {
            members: 1,
            deflated: deflated.into(),
        }
    }
}

impl std::ops::AddAssign for Departures {
    fn add_assign(&mut self, other: Self) {
        self.members += other.members;
        self.deflated += other.deflated;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: texts come out as they went in, empty ones too, from one reused buffer.
    #[test]
    fn posted_texts_survive() {
        let mut buffer = bytes::BytesMut::with_capacity(64);
        for (texts, ip) in [
            (["héllo", "null", "", "{}"], ""),
            (["", "", "r", "{\"UserId\":\"u\"}"], "203.0.113.7"),
        ] {
            let posted = Posted::new(&mut buffer, Action::Send, texts, ip, (0, 1));
            assert_eq!((posted.texts(), posted.ip()), (texts, ip));
        }
    }
}
