//! A node's part in the cluster: inputs and time in, outputs out.
//!
//! Drive it so: hand every [`Input`] to [`Engine::input`] as it comes, take [`Engine::next_output`] until it is empty,
//! then wait for an input or for [`Engine::due`], whichever is first; at that time the input is
//! [`Input::Tick`]. Several inputs before the outputs are taken make fewer and larger messages.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::here::{About, Facts, Here};
use super::message::Ask;
use super::record::Entry;
use super::{Epoch, HashSlot, Incarnation, Number, Sequence};
use crate::base::clock::{Now, Tick};
use crate::base::id::RoomId;
use crate::chat::ErrorCode;

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
    /// Records may have been lost: the subscription was interrupted.
    Interrupted,
    /// What this node says of itself from now on.
    Facts(Facts),
    /// All frames of this log up to here, as far as their rooms are logged, are in this node's archive.
    Archived {
        /// The log.
        slot: HashSlot,
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
        /// Whether this node is that home, whose archive takes the frames of logged rooms.
        is_home_here: bool,
        /// The frames.
        entries: Vec<Entry>,
    },
    /// Frames that the homes before this node may not have put into their archives: this node's archive takes those of
    /// logged rooms. Members got them by `Deliver`.
    Unarchived {
        /// The log.
        slot: HashSlot,
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

/// What operators see.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Each hash slot, by number.
    pub slots: Vec<SlotStatus>,
    /// Each node that was heard, this one included.
    pub peers: Vec<PeerStatus>,
    /// Bytes of requests kept.
    pub kept_bytes: usize,
    /// Bytes of frames that wait for the log.
    pub authored_bytes: usize,
    /// Round trip of the newest probe that came back, and when it did.
    pub probe: Option<(Duration, Tick)>,
    /// Whether this node hears its own signs of life: brokers are reached.
    pub is_heard: bool,
    /// Sums since the start.
    pub counts: Counts,
}

/// One hash slot, as this node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotStatus {
    /// Its home; `None`: it has none, or the log was not read yet.
    pub home: Option<Incarnation>,
    /// The home's epoch.
    pub epoch: Epoch,
    /// The newest record read.
    pub sequence: Sequence,
    /// Whether an operator moved it to where it is; known to its home alone.
    pub is_pinned: bool,
    /// Requests of this node that wait for their outcome.
    pub kept: usize,
}

/// One node, as this one hears it.
#[derive(Debug, Clone)]
pub struct PeerStatus {
    /// What it said last.
    pub here: Here,
    /// When.
    pub heard: Tick,
    /// Whether it is held to be alive.
    pub is_live: bool,
    /// Its wall clock against ours when it was heard, in nanoseconds, its way here included: above 0 if it is ahead.
    pub skew_nanos: i64,
}

/// Sums since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Take-overs by this node of a home that died or fell silent.
    pub takeovers_failed_home: u64,
    /// Take-overs by this node that the home before it had asked for.
    pub takeovers_planned: u64,
    /// Take-overs by this node of logs without a home.
    pub takeovers_vacant: u64,
    /// Times that this node was home and another took over unasked.
    pub fenced: u64,
    /// Records appended.
    pub appends: u64,
    /// Entries in them.
    pub appended_entries: u64,
    /// Refused conditions after which the record was found in the log.
    pub conflicts_own: u64,
    /// Refused conditions after which another's record was found.
    pub conflicts_foreign: u64,
    /// Refused conditions although nothing had changed.
    pub conflicts_nothing: u64,
    /// Appends without an answer.
    pub appends_unknown: u64,
    /// Gaps that were read from the log.
    pub gaps_filled: u64,
    /// Gaps that were skipped.
    pub gaps_skipped: u64,
    /// Records that came again.
    pub duplicates: u64,
    /// Logs that went back.
    pub regressions: u64,
    /// Requests sent again.
    pub requests_resent: u64,
    /// Requests that ended as unknown.
    pub requests_unknown: u64,
    /// Requests refused because too many are kept.
    pub requests_over_bound: u64,
    /// Messages, records and signs of life that could not be read.
    pub unreadable: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Engine {
    me: Incarnation,
    outputs: VecDeque<Output>,
}

impl Engine {
    /// Makes an engine that knows nothing. Its first outputs read the end of each log.
    pub fn new(settings: EngineSettings, now: Now) -> Self {
        let _ = now;
        let outputs = HashSlot::all().map(|slot| Output::Fetch {
            slot,
            from: FetchFrom::Last,
        });
        Self {
            me: settings.me,
            outputs: outputs.collect(),
        }
    }

    /// Takes an input.
    pub fn input(&mut self, input: Input, now: Now) {
        let _ = (input, now);
    }

    /// Returns what to do next; `None`: nothing until the next input or [`Engine::due`].
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Tick`] is wanted.
    pub fn due(&self) -> Option<Tick> {
        None
    }

    /// Returns the facts for operators. Costs an allocation for each list: once a second, not each turn.
    pub fn status(&self) -> Status {
        Status::default()
    }

    /// Returns who this is.
    pub fn me(&self) -> Incarnation {
        self.me
    }

    /// Returns the home of a room's hash slot, and its epoch.
    pub fn home_of(&self, room: RoomId) -> Option<(Incarnation, Epoch)> {
        let _ = room;
        None
    }
}
