//! One node of a world: its process, if it has one, with the engine that ships and two shards that are none.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::id::RoomId;
use uproar_proto::cluster::engine::{Engine, Input, RequestKey};
use uproar_proto::cluster::message::{Ask, AskKind};
use uproar_proto::cluster::record::Entry;
use uproar_proto::cluster::{Epoch, HashSlot};

use super::cores::{Cores, SHARDS};
use super::flight::Archiving;
use super::freeze::Freeze;
use super::link::Link;

/// The least time between two frames of a room.
const NANO: Duration = Duration::from_nanos(1);

/// What a home asks of the shard of a room.
#[derive(Debug, Clone)]
pub(super) struct Authoring {
    pub(super) key: RequestKey,
    pub(super) ask: Ask,
}

/// What the engine tells a shard, in this order.
#[derive(Debug, Clone)]
pub(super) enum ToShard {
    Author(Authoring),
    /// Times of delivered entries.
    Adopt(Vec<(RoomId, UnixTime)>),
    Fenced(HashSlot, Epoch),
}

/// What a shard does not need of a room.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) inbox: VecDeque<ToShard>,
    /// Messages that a handler reviews.
    pub(super) reviewed: Vec<(Tick, Authoring)>,
    /// The newest time in each room.
    pub(super) sent: HashMap<RoomId, UnixTime>,
    /// It is to run.
    pub(super) woken: bool,
}

/// A process.
pub(super) struct Life {
    /// Its incarnation.
    pub(super) id: u64,
    pub(super) engine: Engine,
    pub(super) due: Option<Tick>,
    pub(super) shards: [Shard; SHARDS],
    /// The shards that ship, in place of those.
    pub(super) cores: Option<Cores>,
    /// When they run.
    pub(super) turn: Option<Tick>,
    /// Pending appends by slot and attempt.
    pub(super) appends: BTreeSet<(usize, u64)>,
    /// Numbers of pending reads.
    pub(super) reads: BTreeSet<u64>,
    /// When the last answer of its shards comes to its engine.
    pub(super) answers: Tick,
    /// When the last frame so far is in its archive.
    pub(super) archives: Tick,
    /// What is on its way there, in order.
    pub(super) archiving: VecDeque<Archiving>,
    pub(super) tickets: u64,
    pub(super) drains: bool,
    pub(super) freeze: Freeze,
    /// Of what its engine granted alone, what was seen to come out.
    pub(super) alone: u64,
}

/// A machine.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) link: Link,
    /// Its wall clock is ahead by this, in nanoseconds.
    pub(super) skew: i64,
    /// It does not run until then.
    pub(super) paused: Option<Tick>,
    /// What came meanwhile.
    pub(super) backlog: Vec<Input>,
    /// Brokers have cut it meanwhile.
    pub(super) is_dropped: bool,
    /// Until when it hears no other node's signs of life.
    pub(super) deaf: Tick,
    /// When it last came back from a pause.
    pub(super) woke: Tick,
    pub(super) life: Option<Life>,
}

impl Node {
    pub(super) fn new(number: usize) -> Self {
        Self {
            name: format!("node-{number}"),
            link: Link::default(),
            skew: 0,
            paused: None,
            backlog: Vec::new(),
            is_dropped: false,
            deaf: Tick::default(),
            woke: Tick::default(),
            life: None,
        }
    }

    /// Reads its clocks.
    pub(super) fn read(&self, now: Now) -> Now {
        let unix = now.unix.nanos().saturating_add_signed(self.skew);
        Now {
            tick: now.tick,
            unix: UnixTime::from_nanos(unix),
        }
    }

    pub(super) fn is(&self, life: u64) -> bool {
        self.life.as_ref().is_some_and(|own| own.id == life)
    }

    pub(super) fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("it runs")
    }
}

impl Shard {
    /// Writes the frame of a request, and gives it a time behind all in its room.
    pub(super) fn author(&mut self, authoring: &Authoring, now: UnixTime) -> Entry {
        let Authoring { key, ask } = authoring;
        let last = self.sent.entry(ask.room).or_default();
        *last = now.max(last.after(NANO)).max(key.not_before.after(NANO));
        Entry {
            origin: key.origin,
            number: key.number,
            room: ask.room,
            sent: *last,
            is_urgent: matches!(ask.kind, AskKind::DeleteMessage | AskKind::DisconnectUser),
            eviction: None,
            frame: frame(ask),
        }
    }

    /// Takes over the times of what is delivered.
    pub(super) fn adopt(&mut self, entries: Vec<(RoomId, UnixTime)>) {
        for (room, sent) in entries {
            let last = self.sent.entry(room).or_default();
            *last = sent.max(*last);
        }
    }
}

/// A frame begins with its id; the text is as long as that of the request.
fn frame(ask: &Ask) -> Bytes {
    let [content, ..] = ask.texts.get();
    let mut frame = ask.id.as_bytes().to_vec();
    frame.extend_from_slice(content.as_bytes());
    frame.into()
}
