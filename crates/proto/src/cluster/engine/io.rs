//! What goes into the engine and what comes out.

use std::time::Duration;

use bytes::Bytes;

use crate::base::clock::UnixTime;
use crate::base::rate::Rate;
use crate::chat::ErrorCode;
use crate::cluster::here::{About, Facts};
use crate::cluster::message::Ask;
use crate::cluster::record::Entry;
use crate::cluster::{Epoch, HashSlot, Incarnation, Number, Quota, Sequence};

/// Identifies a request to whoever made it; opaque to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Identifies a request to the home that decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Its hash slot.
    pub slot: HashSlot,
    /// The home's epoch.
    pub epoch: Epoch,
    /// The node that it came from.
    pub origin: Incarnation,
    /// Its number there.
    pub number: Number,
    /// `SendTime` of its frame is not earlier: the newest one that the hash slot's log has.
    pub not_before: UnixTime,
}

/// What the engine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A request of a client or caller of this node. Its outcome is [`Output::Told`], once.
    Ask {
        /// Comes back with the outcome.
        ticket: Ticket,
        /// The request.
        ask: Ask,
    },
    /// The outcome of [`Output::Author`]: this frame, of `origin` and `number` of the key.
    Authored {
        /// The key's hash slot.
        slot: HashSlot,
        /// The key's epoch.
        epoch: Epoch,
        /// The frame.
        entry: Entry,
    },
    /// The outcome of [`Output::Author`]: it is refused.
    RefusedByShard {
        /// The key.
        key: RequestKey,
        /// Why.
        code: ErrorCode,
        /// The text for the client.
        text: Box<str>,
    },
    /// A record, as the stream publishes it.
    Record {
        /// The log.
        slot: HashSlot,
        /// Its position there.
        sequence: Sequence,
        /// The record.
        payload: Bytes,
    },
    /// The outcome of [`Output::Append`].
    Appended {
        /// The log.
        slot: HashSlot,
        /// The attempt.
        attempt: u64,
        /// What became of it.
        outcome: AppendOutcome,
    },
    /// The outcome of [`Output::Fetch`].
    Fetched {
        /// The log.
        slot: HashSlot,
        /// What was asked for.
        from: FetchFrom,
        /// What the stream's leader answered; `None`: it did not, in time.
        found: Option<Fetched>,
    },
    /// A message on this node's own subject.
    Message(Bytes),
    /// A sign of life of any node; of this one too, which shows that the brokers are reached.
    Here(Bytes),
    /// Nobody takes messages to this process: the brokers' answer to [`Output::Send`].
    NoResponders(Incarnation),
    /// Records may have been lost: their subscription was interrupted, and is there again.
    Interrupted,
    /// Messages reach this node again, after its connection was interrupted: it says so at once, before others that
    /// wrote to it meanwhile take over.
    Reconnected,
    /// What this node says of itself from now on.
    Facts(Facts),
    /// The account's rates of messages from now on.
    Rates(MessageRates),
    /// A call of the API takes from a budget of the account. Its outcome is [`Output::Charged`], within 100 ms.
    Charge {
        /// Comes back with the outcome.
        ticket: Ticket,
        /// The budget.
        quota: Quota,
        /// The account's rate of it.
        rate: Rate,
    },
    /// All frames of this log up to here, as far as their rooms are logged, are in this node's archive.
    Archived {
        /// The log.
        slot: HashSlot,
        /// The epoch of this node in which its archive got them: the number of a record holds for one log, which may be lost.
        epoch: Epoch,
        /// The newest record of which that is true.
        sequence: Sequence,
    },
    /// Hand all hash slots over, and take none; or not any more.
    Drain(bool),
    /// An operator's order: hand the hash slot over to this node, wherever its home is.
    Move {
        /// The hash slot.
        slot: HashSlot,
        /// Who gets it.
        to: Incarnation,
    },
    /// An operator's order: hash slots that were moved by order go where they belong.
    Balance,
    /// Time has passed.
    Tick,
}

/// Rates that all nodes grant together; `None`: not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageRates {
    /// Of `SEND_MESSAGE` of all rooms.
    pub sends: Option<Rate>,
    /// Of `DELETE_MESSAGE` of all rooms, and the same again for `DISCONNECT_USER`.
    pub moderations: Option<Rate>,
}

/// What became of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It is in the log, here.
    Ok(Sequence),
    /// The stream's leader refuses the condition. That is no verdict: the log may have this very record.
    WrongLast,
    /// No answer in time, no leader, no connection.
    Unknown,
}

/// Where a read of a log begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchFrom {
    /// The newest record alone.
    Last,
    /// All records behind this one.
    After(Sequence),
}

/// What a log has, as its stream's leader says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The records asked for, in order, from the first that is still there.
    pub records: Vec<(Sequence, Bytes)>,
    /// Whether there are no more.
    pub is_complete: bool,
    /// Position of the log's newest record; 0: the log is empty.
    pub last: Sequence,
}

/// What the engine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Append a record if the newest of this log is `expected`. Answer with [`Input::Appended`].
    Append {
        /// The log.
        slot: HashSlot,
        /// The condition; 0: the log is empty.
        expected: Sequence,
        /// Names the attempt.
        attempt: u64,
        /// The record.
        payload: Bytes,
        /// Entries in it.
        entries: usize,
    },
    /// Read records from the stream's leader. Answer with [`Input::Fetched`].
    Fetch {
        /// The log.
        slot: HashSlot,
        /// Which records.
        from: FetchFrom,
    },
    /// Send a message to the subject of this process. If the brokers say that nobody takes it, the input is
    /// [`Input::NoResponders`].
    Send {
        /// The process.
        to: Incarnation,
        /// The message.
        payload: Bytes,
    },
    /// Publish a sign of life.
    Here(Bytes),
    /// To the home shard of the request's room on this node: charge rates, review, encode. Answer with
    /// [`Input::Authored`] or [`Input::RefusedByShard`], once, unless [`Output::Fenced`] says that this hash slot's
    /// requests are dropped.
    Author {
        /// Names the request in the answer.
        key: RequestKey,
        /// The request.
        ask: Ask,
    },
    /// These frames are in the log: append them to their rooms here, in this order.
    Deliver {
        /// The log.
        slot: HashSlot,
        /// The epoch of the home that wrote them.
        epoch: Epoch,
        /// Position of their record.
        sequence: Sequence,
        /// Whether this node is that home, and its archive takes the frames of logged rooms. While it still reads what homes
        /// before it may not have archived, these follow as [`Output::Unarchived`].
        is_home_here: bool,
        /// The frames.
        entries: Vec<Entry>,
    },
    /// Frames that the homes before this node may not have put into their archives, or that came meanwhile: this node's
    /// archive takes those of logged rooms. Members got them by `Deliver`.
    Unarchived {
        /// The log.
        slot: HashSlot,
        /// The epoch of this node.
        epoch: Epoch,
        /// Position of their record.
        sequence: Sequence,
        /// The frames.
        entries: Vec<Entry>,
    },
    /// The outcome of [`Input::Ask`].
    Told {
        /// The request.
        ticket: Ticket,
        /// Its outcome.
        outcome: Outcome,
        /// `SendTime` of its frame, if that is in the log.
        sent: Option<UnixTime>,
    },
    /// The outcome of [`Input::Charge`].
    Charged {
        /// The call.
        ticket: Ticket,
        /// Whether it is within the rate.
        is_granted: bool,
    },
    /// This node is the home in this epoch no more: what its shards hold for rooms of this hash slot by
    /// [`Output::Author`] is dropped without a word, since its origins send it to the next home.
    Fenced {
        /// The hash slot.
        slot: HashSlot,
        /// The epoch that ended.
        epoch: Epoch,
    },
    /// Records that were older than the log keeps them, or that nobody can read, are skipped.
    Skipped {
        /// The log.
        slot: HashSlot,
        /// The newest record before the hole.
        after: Sequence,
        /// The first record behind it.
        upto: Sequence,
        /// Why.
        cause: SkipCause,
    },
}

/// Why records are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipCause {
    /// They were not in the log any more.
    Aged,
    /// The log lost records that it had acknowledged, or was made anew.
    WentBack,
    /// A record that this version cannot read.
    Unreadable,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its frame is in the log. [`Output::Deliver`] with it comes before this.
    Committed,
    /// It has not happened and will not.
    Refused(ErrorCode, Box<str>),
    /// It may still appear, once.
    Unknown,
}

/// What an engine begins with.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// This process.
    pub me: Incarnation,
    /// What it says of itself.
    pub about: About,
    /// How long a home collects requests before it appends them; urgent ones do not wait.
    pub linger: Duration,
}

/// What waits for the account's budget.
#[derive(Debug)]
pub(super) enum Waiter {
    /// A request, at the home of its hash slot.
    Request(RequestKey, Ask),
    /// A call of the API, at the node that took it.
    Call(Ticket),
}
