//! The commands and requests that shards and the control thread send to shards.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::carry::CarryFault;
use super::cluster::{FromCluster, Search};
use super::departed::Departed;
use super::estate::{Carried, Inherited, RoomsEstate, SenderTag};
use super::handshake::HandshakeSettings;
use super::journal::beside::Tail;
use super::mailbox::{MustArrive, Refusable};
use super::settings::{Reservation, ShardId, ShardSettings};
use super::survey::Survey;
pub use super::user_event::UserEvent;
use crate::net::io::Key;
use crate::net::pass::Connection;
use crate::net::tls::Tls;
use uproar_proto::base::admission::Share;
use uproar_proto::base::clock::{Tick, UnixTime};
use uproar_proto::base::hash::fnv1a_32;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::chat::review::Verdict;
use uproar_proto::chat::{self, Action, ErrorCode};
use uproar_proto::cluster::crowd::Recalled;
use uproar_proto::extension::command::CommandFault;
use uproar_proto::extension::held::{Decision, HeldPage, HeldPlace};
use uproar_proto::extension::reactions::Taps;
use uproar_proto::extension::speech;
use uproar_proto::extension::tallies::{TallyAnswer, TallyOrder};
use uproar_proto::extension::tally::Ballot;
use uproar_proto::extension::{Speaker, Traits, Verb};
use uproar_proto::room::RoomSettings;
use uproar_proto::room::log::Batch;
use uproar_proto::room::memory::Replay;
use uproar_proto::room::order::NewMessage;
use uproar_proto::room::redaction::Redaction;
use uproar_proto::room::review::Ticket;
use uproar_proto::session::Grant;
use uproar_proto::token::TokenId;
use uproar_proto::ws::extension::Agreement;

/// A connection with an opened token that is not installed on a shard yet.
#[derive(Debug)]
pub struct PendingConnection<S> {
    /// Its socket.
    pub socket: S,
    /// The client's address.
    pub ip: IpAddr,
    /// Its established TLS, if any.
    pub tls: Option<Box<Tls>>,
    /// The `101` answer, to be sent first.
    pub greeting: Vec<u8>,
    /// Plaintext that the client sent after its request head.
    pub leftover: Vec<u8>,
    /// The rights that the token grants.
    pub grant: Grant,
    /// The token's room.
    pub room: RoomId,
    /// The token's id, which may be used once.
    pub token: TokenId,
    /// When the token expires; its use is remembered until then.
    pub token_expires: UnixTime,
    /// [`user_hash`] of the user's id.
    pub user_hash: u32,
    /// The agreement on compression, if there is one.
    pub agreement: Option<Agreement>,
    /// What the token tells the server of its user, if it does.
    pub traits: Option<Box<Traits>>,
    /// Its share of the limit on its address, if that is counted.
    pub share: Option<Share>,
    /// When it was accepted.
    pub accepted: Tick,
    /// What its room's home gives it.
    pub arrival: Arrival,
}

/// What a room's home gives a connection that it lets in.
#[derive(Debug, Default)]
pub struct Arrival {
    /// Number of the room's frames that the shards were handed before.
    pub heard: u64,
    /// What the room remembers for it.
    pub replay: Option<Box<Replay>>,
    /// Whether its token opened a connection before, which is closed now.
    pub reopens: bool,
}

impl<S> PendingConnection<S> {
    /// Counts it as a member.
    pub fn counts(&self) -> MemberCounts {
        MemberCounts::one(self.agreement.is_some(), self.traits.as_deref())
    }
}

impl PendingConnection<()> {
    /// Attaches the socket to a connection that was made without one.
    pub fn attach<S>(self, socket: S) -> PendingConnection<S> {
        PendingConnection {
            socket,
            ip: self.ip,
            tls: self.tls,
            greeting: self.greeting,
            leftover: self.leftover,
            grant: self.grant,
            room: self.room,
            token: self.token,
            token_expires: self.token_expires,
            user_hash: self.user_hash,
            agreement: self.agreement,
            traits: self.traits,
            share: self.share,
            accepted: self.accepted,
            arrival: self.arrival,
        }
    }
}

/// Hashes a user id to narrow the search for its connections; the hash is the same on all shards.
pub fn user_hash(user_id: &str) -> u32 {
    fnv1a_32(user_id.as_bytes())
}

/// Why a connection is not admitted; the handshake answers with a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
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
    /// The user, or the address, is banned.
    #[error("banned")]
    Banned,
    /// The cluster did not say in time whether the token was used before.
    #[error("The cluster did not confirm the token in time; retry later with a new one")]
    Unconfirmed,
}

/// A member's request on its way to the room's home shard and to its reviewer, and who sent it. The
/// texts lie in one shared buffer, which is cut from a reused one.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    action: Action,
    // Texts of the request, sender as JSON, the sender's address.
    text: Bytes,
    // Where each of them but the last ends.
    ends: [u16; 4],
    /// Where a refusal goes.
    pub sender: SenderAddress,
    /// What is known of the sender, beside `Sender`.
    pub speaker: Speaker,
}

/// The connection that made a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenderAddress {
    /// Its shard.
    pub shard: ShardId,
    /// Its key there: the bits of its slot.
    pub connection: Key,
}

impl SenderAddress {
    /// No connection has it.
    pub const NOWHERE: Self = Self {
        shard: 0,
        connection: 0xFFFF_FFFF,
    };
}

impl PublishRequest {
    /// Copies the texts into `buffer` and cuts them off. `ip` is the sender's address; empty unless
    /// the room is reviewed.
    pub fn new(
        buffer: &mut bytes::BytesMut,
        request: &chat::Request<'_>,
        sender_json: &str,
        ip: &str,
        sender: SenderAddress,
    ) -> Self {
        let [subject, detail, request_id] = request.texts();
        let texts = [subject, detail, request_id, sender_json];
        buffer.reserve(texts.iter().map(|text| text.len()).sum::<usize>() + ip.len());
        let ends = texts.map(|text| {
            buffer.extend_from_slice(text.as_bytes());
            u16::try_from(buffer.len()).expect("requests are far below 64 KiB")
        });
        buffer.extend_from_slice(ip.as_bytes());
        Self {
            action: request.action(),
            text: buffer.split().freeze(),
            ends,
            sender,
            speaker: Speaker::default(),
        }
    }

    /// Adds what is known of the sender.
    #[must_use]
    pub fn with_speaker(mut self, speaker: Speaker) -> Self {
        self.speaker = speaker;
        self
    }

    /// The same with another text, of a message.
    #[must_use]
    pub fn saying(&self, content: &str) -> Self {
        let (request, sender_json) = self.request();
        let [_, detail, request_id] = request.texts();
        let request = chat::Request::from_texts(self.action, [content, detail, request_id]);
        let mut buffer = bytes::BytesMut::new();
        let said = Self::new(&mut buffer, &request, sender_json, self.ip(), self.sender);
        said.with_speaker(self.speaker)
    }

    /// Returns the request as the client made it, and the sender as JSON.
    pub fn request(&self) -> (chat::Request<'_>, &str) {
        let [a, b, c, d] = self.ends.map(usize::from);
        let text = self.text();
        let texts = [&text[..a], &text[a..b], &text[b..c]];
        (chat::Request::from_texts(self.action, texts), &text[c..d])
    }

    /// Returns the message that the request asks to publish, as its sender wrote it.
    ///
    /// # Panics
    ///
    /// If the request is another one: only messages are held for review.
    pub fn message(&self) -> NewMessage<'_> {
        let (request, sender_json) = self.request();
        let chat::Request::SendMessage {
            content,
            attributes_json,
            request_id,
        } = request
        else {
            panic!("only messages are held for review");
        };
        NewMessage {
            content,
            attributes_json,
            request_id,
            sender_json,
        }
    }

    /// Returns the sender's address; empty if it is not known.
    pub fn ip(&self) -> &str {
        let [.., end] = self.ends.map(usize::from);
        &self.text()[end..]
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.text).expect("made of strings")
    }
}

/// An ERROR frame for one connection, and the content of its log line.
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

/// A user whose connections in a room are closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// The user's id.
    pub user_id: Box<str>,
    /// The reason that the Close frame gives.
    pub reason: Box<str>,
}

/// A message of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiMessage {
    /// Its text.
    pub content: Box<str>,
    /// Its attributes as a JSON object, or `null`.
    pub attributes_json: Box<str>,
    /// `Sender` as JSON.
    pub sender_json: Box<str>,
    /// Whether no review decides.
    pub is_exempt: bool,
}

/// What was said: a message or an event that is in its room's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    /// Its `Id`.
    pub id: FrameId,
    /// Its `SendTime`.
    pub sent: UnixTime,
}

/// What a shard does of a ban: who comes later is looked up.
#[derive(Debug, Clone)]
pub struct BanOrder {
    /// Where; `None`: in all rooms.
    pub room: Option<RoomId>,
    /// The user.
    pub user_id: Box<str>,
    /// Whether the user's connections are closed, with this reason.
    pub evicts: Option<Box<str>>,
    /// Who learns of it, if anybody does.
    pub notice: Option<BanNotice>,
}

/// An event that tells of a ban.
#[derive(Debug, Clone)]
pub struct BanNotice {
    /// The rooms whose members learn of it.
    pub rooms: Vec<RoomId>,
    /// The frame.
    pub frame: Bytes,
}

/// Why a shard did not execute a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No shard knows the room.
    #[error("room does not exist")]
    NoSuchRoom,
    /// The account-wide rate of this action is used up.
    #[error("rate limit exceeded")]
    Rate,
    /// The room's review denied the message; the reason is for its sender.
    #[error("denied: {0}")]
    Denied(Box<str>),
    /// The room holds back as much as it may, or the server is stopping.
    #[error("the room's shard takes no more work now")]
    Busy,
    /// The shard did not answer within [`SHARD_ANSWER_MAX`](uproar_proto::base::limits::SHARD_ANSWER_MAX). It may still execute the command.
    #[error("the room's shard does not answer")]
    Late,
}

impl Refused {
    /// Why the API gets an error, as the code and the text that a member would get.
    pub fn of(code: ErrorCode, text: &str) -> Self {
        match code {
            ErrorCode::NotFound => Self::NoSuchRoom,
            ErrorCode::TooManyRequests => Self::Rate,
            ErrorCode::NotAcceptable => Self::Denied(text.into()),
            ErrorCode::BadRequest
            | ErrorCode::Unauthorized
            | ErrorCode::Forbidden
            | ErrorCode::PayloadTooLarge
            | ErrorCode::Internal => Self::Busy,
        }
    }
}

/// Sends an answer to the control thread.
pub type Answer<T> = oneshot::Sender<Result<T, Refused>>;

/// A member's command on its way to the control thread.
#[derive(Debug)]
pub struct MemberOrder {
    /// The member's room.
    pub room: RoomId,
    /// The member's connection.
    pub sender: SenderAddress,
    /// The request's id, for the answer.
    pub request_id: Box<str>,
    /// `Sender` of the member, as JSON.
    pub sender_json: Box<str>,
    /// What is asked for.
    pub verb: Verb,
}

/// The answer to a member's command, for that member alone.
#[derive(Debug)]
pub struct MemberAnswer {
    /// The request's id.
    pub request_id: Box<str>,
    /// The verb's name.
    pub verb: &'static str,
    /// What was done, or why it was not.
    pub outcome: Result<String, CommandFault>,
}

/// Who voted or reacted, to be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// The member's connection.
    pub sender: SenderAddress,
    /// The request's id.
    pub request_id: Box<str>,
}

/// A vote or a reaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cast {
    /// A vote in a tally.
    Vote(Ballot),
    /// A reaction.
    React(Taps),
}

impl Cast {
    /// The name of its verb.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Vote(_) => "vote",
            Self::React(_) => "react",
        }
    }
}

/// A member's vote or reaction on its way to the room's home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberCast {
    /// Whose it is.
    pub voter: Voter,
    /// What it is.
    pub cast: Cast,
}

/// Answers the control thread once the last of those who share it has dropped it: when each shard has done its part.
#[derive(Debug)]
pub struct WhenAll(Option<Answer<()>>);

impl WhenAll {
    /// Shares an answer.
    pub fn new(answer: Answer<()>) -> Arc<Self> {
        Arc::new(Self(Some(answer)))
    }
}

impl Drop for WhenAll {
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            let _caller_gone = answer.send(Ok(()));
        }
    }
}

/// A client's request to a room at home on another shard. The sender refuses it if the mailbox is
/// full.
#[derive(Debug)]
pub enum Request<S> {
    /// A connection asks to join its room.
    Join(Box<PendingConnection<S>>),
    /// A member asks to publish.
    Publish(RoomId, PublishRequest),
    /// A member votes or reacts.
    Cast(RoomId, Box<MemberCast>),
    /// The shard that sends this makes no further request in its freeze of this number.
    Marker(ShardId, u32),
}

impl<S> Refusable for Request<S> {}

/// A command to a shard, which must arrive.
#[derive(Debug)]
pub enum Command<S> {
    /// To the chosen shard: install this admitted connection.
    Install(Box<PendingConnection<S>>, RoomSettings, Reservation),
    /// To a shard with members: append to the room log and fan out. The first of its messages came at this instant.
    Batch(RoomId, Batch, Tick),
    /// To a shard with members: take this out of what they have not got yet.
    Redact(RoomId, Arc<[Redaction]>),
    /// To a shard with members, behind a batch: a deletion or disconnect in it was accepted at this instant.
    Moderated(RoomId, Tick),
    /// To every other shard: close the connection that this token opened before, if there is one.
    Replace(TokenId),
    /// To a home shard: where a viewer stood who left the shard that sends this.
    Departed(RoomId, Departed),
    /// To a member's shard: the request of this connection was refused.
    RefuseRequest(Key, Box<Refusal>),
    /// From the control thread, or the room's home shard: the answer to a command of this connection.
    AnswerMember(Key, Box<MemberAnswer>),
    /// To a shard with members: close this user's connections.
    Evict(RoomId, Eviction),
    /// To a home shard: members have left on the shard that sends this.
    MembersLeft(RoomId, ShardId, MemberCounts),
    /// From the control thread: the room exists, with these settings.
    PutRoom(RoomId, RoomSettings, Answer<()>),
    /// From the home shard: changed settings.
    SettingsChanged(RoomId, RoomSettings, Arc<WhenAll>),
    /// From the control thread: the room is gone.
    DeleteRoom(RoomId, Answer<()>),
    /// From the home shard: the room is gone.
    RoomDeleted(RoomId),
    /// From the control thread, of a node that begins: what other nodes remember of a room. Answered once the room has it.
    Recalled(RoomId, Vec<Recalled>, oneshot::Sender<()>),
    /// From the control thread: an application event.
    SendEvent {
        /// The room that gets it.
        room: RoomId,
        /// `EventName`.
        name: Box<str>,
        /// `Attributes`, a JSON object.
        attributes_json: Box<str>,
        /// Gets the event's id.
        answer: Answer<Said>,
    },
    /// From the control thread: a message.
    SendMessage(RoomId, Box<ApiMessage>, Answer<Said>),
    /// From the control thread, or the cluster's: an event for one user. Answered with the number of connections
    /// that it was sent through.
    SendUserEvent(Box<UserEvent>, oneshot::Sender<u64>),
    /// From the control thread: what is asked of a room's tallies.
    Tally(RoomId, Box<TallyOrder>, oneshot::Sender<TallyAnswer>),
    /// From the control thread: a ban is in force, or is not any more. Answered once it holds for the connections here.
    Ban(Box<BanOrder>, oneshot::Sender<()>),
    /// From the control thread: a held message is decided, by this moderator.
    Decide {
        /// The room.
        room: RoomId,
        /// What is decided.
        decision: Decision,
        /// Who decides; empty: a back end.
        by: Box<str>,
        /// Gets the message's id and time.
        answer: Answer<Said>,
    },
    /// From the control thread: tell which messages of a room wait for a moderator, some of those behind a place.
    ListHeld {
        /// The room.
        room: RoomId,
        /// Behind which; `None`: from the oldest on.
        place: Option<HeldPlace>,
        /// How many.
        most: u32,
        /// Gets them.
        answer: Answer<HeldPage>,
    },
    /// From the control thread: announce that a message is deleted.
    DeleteMessage {
        /// The message's room.
        room: RoomId,
        /// The message's id.
        id: Box<str>,
        /// The reason that the event gives.
        reason: Box<str>,
        /// Gets the event's id.
        answer: Answer<Said>,
    },
    /// From the control thread: take back all messages of a user, or of everybody.
    Purge {
        /// The room.
        room: RoomId,
        /// Whose; `None`: everybody's.
        user_id: Option<Box<str>>,
        /// The reason that the event gives.
        reason: Box<str>,
        /// Gets the event's id.
        answer: Answer<Said>,
    },
    /// From the control thread: announce that a user is disconnected, and close the user's
    /// connections.
    DisconnectUser {
        /// The room.
        room: RoomId,
        /// Whom, and why.
        eviction: Eviction,
        /// Whether it tells of a ban that there is: then the kick bans nobody.
        is_banned: bool,
        /// Gets the event's id.
        answer: Answer<Said>,
    },
    /// From the control thread: the verdict of a review; `None`: there is none, the fallback
    /// decides.
    Verdict(RoomId, Ticket, Option<Verdict>),
    /// From the archive: this many more of this shard's entries are in the spool.
    Spooled(u32),
    /// From the cluster.
    Cluster(Box<FromCluster>),
    /// From the control thread: all rooms that existed when the shard asked this were put before.
    Searched(Search),
    /// From the control thread: accept connections, or stop accepting.
    Doors(Doors),
    /// From the control thread: take these settings over.
    Adopt(Box<ChangedSettings>, Answer<()>),
    /// From the control thread: cut every connection at an even pace over this time, each once it has
    /// what was said, without a Close frame. Connections that arrive are cut in their turn. Replaces a
    /// drain that was begun before.
    Drain(Duration),
    /// From the control thread: cut no more.
    Undrain,
    /// From the control thread: cut every connection, without a Close frame, and stop.
    Stop,
    /// From the control thread: become frozen, as `core::freeze` says; answered once it is so.
    Freeze(oneshot::Sender<()>),
    /// To every other shard: this shard sends no further command in its freeze of this number.
    Marker(ShardId, u32),
    /// From the control thread: go on serving; the hand-over is off.
    Thaw,
    /// From the control thread to a frozen shard: its rooms, for [`merge_rooms`](super::estate::merge_rooms).
    ExportRooms(oneshot::Sender<Vec<u8>>),
    /// From the control thread to a frozen shard: send the viewers through this connection. The driver does it.
    Export(Connection, oneshot::Sender<Result<Carried, CarryFault>>),
    /// From the control thread of a process that takes over: the rooms of the other process. The
    /// shard is frozen from now on.
    InheritRooms(Arc<RoomsEstate>),
    /// From the control thread of a process that takes over: viewers of the other process. Answered
    /// once the homes of their rooms have counted them.
    Inherit(Vec<Inherited<S>>, oneshot::Sender<Carried>),
    /// To a home shard: members have come to the shard that sends this from another process; these users, if the room remembers
    /// messages.
    MembersArrived(RoomId, ShardId, MemberCounts, Box<[speech::Key]>),
    /// From a home shard: they are counted, and the room has these settings; `None`: it does not exist.
    MembersCounted(RoomId, Option<RoomSettings>),
    /// To a home shard: the sender of a message under review had this address in the other process, and has this one
    /// here.
    SenderMoved(SenderTag, SenderAddress),
    /// From the control thread of a process that takes over, before it opens doors: uses of tokens
    /// and segments of the other process, which cannot serve any more.
    TakeJournal(Box<Tail>),
    /// From the control thread of a process that takes over: the other one is gone, serve.
    Resume,
    /// From the control thread: generate frames' ids from this seed on.
    Reseed(u64),
    /// From the control thread: tell about rooms.
    Survey(Survey),
    /// From the control thread: admit this connection as one that came by itself.
    Enter(Box<PendingConnection<S>>),
}

impl<S> MustArrive for Command<S> {}

/// Settings that a running shard takes over.
#[derive(Debug, Clone)]
pub struct ChangedSettings {
    /// The shard's own; the number of shards stays.
    pub shard: ShardSettings,
    /// Its acceptor's.
    pub handshake: HandshakeSettings,
}

/// Whether a shard accepts. The listening sockets stay open either way: while doors are closed,
/// newcomers wait in the kernel's queue.
#[derive(Debug)]
pub struct Doors {
    /// Accept from now on; else accept no more.
    pub open: bool,
    /// How long handshakes in progress may go on before they are aborted; for closing.
    pub deadline: Duration,
    /// Answered when the shard accepts, or when it does not and no handshake is in progress.
    /// Dropped if a later command replaces this one before.
    pub answer: Answer<()>,
}

/// A number of members that left a shard, or came to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemberCounts {
    /// All of them.
    pub members: u32,
    /// Those of them that took compressed messages.
    pub deflated: u32,
    /// Those of them that are no viewers.
    pub hidden: u32,
}

impl MemberCounts {
    /// Counts one member; `deflated`: it took compressed messages; with what its token tells of its user.
    pub fn one(deflated: bool, traits: Option<&Traits>) -> Self {
        Self {
            members: 1,
            deflated: deflated.into(),
            hidden: traits.is_some_and(|traits| traits.is_hidden).into(),
        }
    }
}

impl std::ops::AddAssign for MemberCounts {
    fn add_assign(&mut self, other: Self) {
        self.members += other.members;
        self.deflated += other.deflated;
        self.hidden += other.hidden;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: requests come back unchanged, empty texts too, from one reused buffer.
    #[test]
    fn requests_survive() {
        let mut buffer = bytes::BytesMut::with_capacity(64);
        for action in [
            Action::SendMessage,
            Action::DeleteMessage,
            Action::DisconnectUser,
        ] {
            for (texts, sender_json, ip) in [
                (["héllo", "null", ""], "{}", ""),
                (["", "", "r"], "{\"UserId\":\"u\"}", "203.0.113.7"),
            ] {
                let request = chat::Request::from_texts(action, texts);
                let sender = SenderAddress {
                    shard: 0,
                    connection: 1,
                };
                let published = PublishRequest::new(&mut buffer, &request, sender_json, ip, sender);
                assert_eq!(published.request(), (request, sender_json));
                assert_eq!(published.ip(), ip);
            }
        }
    }
}
