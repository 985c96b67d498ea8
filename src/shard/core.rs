//! The shard's state machine: completions, requests, commands and time in; submissions, commands
//! and answers out.
//!
//! It knows no descriptor, no thread and no clock. It is made of parts that are borrowed
//! separately; each uses only those above it:
//!
//! | part | owns |
//! |---|---|
//! | `env` | the shard's number, settings, time and counters; `outbox`, its mailboxes to others |
//! | `rooms` | rooms: order, members, logs, which of them have work |
//! | `connections` | connections and their deadlines; `inbound`, what comes in; `outbound`, what goes out |
//! | `admission` | connections that ask to be admitted, used tokens |
//!
//! # The grammar of calls
//!
//! ```text
//! core  = new load? turn*
//! turn  = begin+ event* settle submit flush_mailboxes next_order* next_rejected*
//! event = received | sent | writable | request | command
//! ```
//!
//! - [`Core::begin`] says what time it is: whatever follows happens at that instant. It may be
//!   repeated before [`Core::settle`], which moves the time on. [`Core::new`] begins the first
//!   turn.
//! - Completions ([`Core::received`], [`Core::sent`], [`Core::writable`]), [`Core::request`] and
//!   [`Core::command`] come in any order and number. They answer what can be answered at once, and
//!   note which rooms have work; messages of one turn become one batch.
//! - [`Core::settle`] ends the turn: deadlines, admissions, flushes, sends. It returns when the
//!   next one is due. If it is left out, nothing is flushed, admitted or timed out. A turn without
//!   events is fine.
//! - The driver submits what [`Core::io_mut`] has queued, with one system call for each ring that
//!   has any, and may report the cost with [`Core::note_cost`]. If it is left out, no completion
//!   comes.
//! - [`Core::flush_mailboxes`] wakes the threads that were sent something, and returns whether some
//!   of it found no room, so that the next turn is due at once. If it is left out, they sleep on.
//! - [`Core::next_order`] returns what a hand-over asks of the driver. If it is left out, the hand-over waits.
//! - [`Core::next_rejected`] returns the connections that were not admitted, until there are none;
//!   the driver answers them. If it is left out, they wait unanswered.
//!
//! [`Core::enter`] and all questions may come at any time. A debug build asserts that events and
//! `settle` come within a turn, and `flush_mailboxes` after it.

mod admission;
mod asides;
mod bans;
mod cluster;
mod commands;
mod connections;
mod drain;
mod env;
mod estate;
mod freeze;
mod held;
mod inbound;
mod log_lines;
mod member_commands;
mod outbound;
mod outbox;
mod refusal;
mod rooms;
mod sealing;
mod settle;
mod stage;
mod survey;
mod taken_over;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use self::admission::{Admission, Rejected};
use self::connections::Connections;
use self::connections::receive::Received;
use self::drain::Drain;
use self::env::Env;
use self::outbox::Outbox;
use self::rooms::Rooms;
use self::stage::{Freeze, Stage};
use self::taken_over::TakenOver;
use super::cluster::ClusterLink;
use super::command::{
    AdmitError, ChangedSettings, Command, Doors, MemberOrder, PendingConnection, Request,
};
use super::durability::LoggedFrames;
use super::estate::Order;
use super::handshake::HandshakeSettings;
use super::journal::Record;
use super::mailbox::MailboxSender;
use super::metrics::ShardMetrics;
use super::review::ReviewRequest;
use super::settings::{ShardId, ShardSettings, SharedBudgets};
use super::survey::{Search, UserSearch};
use super::tokens::UsedTokens;
use crate::logging::{Kind, Limiter};
use crate::net::io::{Io, Key, Queued, SendBuffer};
use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::base::id::{FrameIds, RoomId};
use uproar_proto::room::RoomSettings;
use uproar_proto::ws::Deflater;

/// The parts a core is made of.
pub struct Parts<W: Io> {
    /// This shard's number.
    pub id: ShardId,
    /// Settings of all shards.
    pub settings: ShardSettings,
    /// The kernel's rings, or their stand-in.
    pub io: W,
    /// Mailboxes for commands to the shards, in order; the one to itself is never used.
    pub mailboxes: Vec<MailboxSender<Command<W::Socket>>>,
    /// Mailboxes for requests to the shards, in order.
    pub requests: Vec<MailboxSender<Request<W::Socket>>>,
    /// Mailbox for review requests to the control thread.
    pub reviews: MailboxSender<ReviewRequest>,
    /// Mailbox to the archive, if rooms are logged.
    pub archive: Option<MailboxSender<LoggedFrames>>,
    /// What leads to the cluster, on a node of one.
    pub cluster: Option<ClusterLink>,
    /// Records a token's use before its connection is admitted.
    pub record: Box<dyn Record + Send>,
    /// Used tokens, as read from the journal.
    pub used: UsedTokens,
    /// This shard's counters.
    pub metrics: Arc<ShardMetrics>,
    /// The account's budgets, shared by all shards.
    pub budgets: SharedBudgets,
    /// Seed of frame ids.
    pub seed: u64,
}

/// When the next turn is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// At once: members wait to be served.
    Now,
    /// At this instant, or earlier if something happens.
    Wait(Tick),
}

/// One shard. The [module's documentation](self) says how to drive it.
pub struct Core<W: Io> {
    env: Env<W::Socket>,
    rooms: Rooms,
    connections: Connections<W>,
    admission: Admission<W::Socket>,
    // Orders about accepting, for the driver.
    doors: Vec<Doors>,
    // For the driver: settings that the acceptor takes over.
    adopted: Option<HandshakeSettings>,
    // When room logs and used tokens are aged next.
    next_aging: Tick,
    // The drain that was begun and not cancelled.
    drain: Option<Drain>,
    // The shard was told to stop: connections that still arrive are cut at once.
    stopping: bool,
    // How far it is frozen, for a hand-over of its connections.
    freeze: Freeze<W::Socket>,
    // The estate of another process that this shard takes over, until it serves.
    taken_over: Option<TakenOver>,
    // What the driver is to do, in order; few at a time, since a hand-over waits for each.
    orders: VecDeque<Order<W::Socket>>,
    // Searches through all rooms, oldest first: at most one for each connection of the admin socket.
    searches: VecDeque<Search>,
    // And those for users.
    user_searches: VecDeque<UserSearch>,
    // Where the driver is in its turn; only debug builds look.
    turn: Turn,
}

/// Where the driver is in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Events may come.
    Begun,
    /// It is settled.
    Settled,
}

impl<W: Io> Core<W> {
    /// Makes a shard without rooms and connections, and begins its first turn.
    pub fn new(parts: Parts<W>, now: Now) -> Self {
        let settings = &parts.settings;
        let freeze = Freeze::none(settings.shard_count);
        let (parked_max, to_cluster) = match parts.cluster {
            Some(link) => (Some(link.joins_parked_max), Some(link.mailbox)),
            None => (None, None),
        };
        Self {
            rooms: Rooms::new(settings, parts.reviews, parts.archive, to_cluster.is_some()),
            connections: Connections::new(parts.io, settings, now.tick),
            admission: Admission::new(parts.used, parts.record, parked_max),
            env: Env {
                id: parts.id,
                settings: parts.settings,
                metrics: parts.metrics,
                budgets: parts.budgets,
                now,
                ids: FrameIds::seeded(parts.seed),
                deflater: Deflater::default(),
                lines: Limiter::default(),
                outbox: Outbox::new(parts.id, parts.mailboxes, parts.requests, to_cluster),
                asides: Vec::new(),
                orders: None,
            },
            doors: Vec::new(),
            adopted: None,
            next_aging: now.tick,
            drain: None,
            stopping: false,
            freeze,
            taken_over: None,
            orders: VecDeque::new(),
            searches: VecDeque::new(),
            user_searches: VecDeque::new(),
            turn: Turn::Begun,
        }
    }

    /// Sets where members' commands go that the control thread carries out.
    pub fn set_orders(&mut self, orders: mpsc::Sender<MemberOrder>) {
        self.env.orders = Some(orders);
    }

    /// Adds the rooms whose home this shard is, before any request for them can arrive.
    pub fn load(&mut self, rooms: Vec<(RoomId, RoomSettings)>) {
        self.rooms.reserve(rooms.len());
        for (room, settings) in rooms {
            let flushed = self.rooms.load(room, settings, &mut self.env);
            debug_assert!(flushed, "each room is loaded once");
        }
    }

    /// Begins a turn: everything until the next call happens at `now`.
    pub fn begin(&mut self, now: Now) {
        debug_assert!(now.tick >= self.env.now.tick, "ticks never go back");
        self.turn = Turn::Begun;
        self.env.now = now;
        self.connections.begin();
        self.env.metrics.turns.inc();
    }

    /// Handles a completed receive: `bytes` holds `len` received bytes and the padding after them.
    /// `more`: the receive goes on.
    pub fn received(
        &mut self,
        key: Key,
        bytes: Option<(&mut [u8], usize)>,
        result: &io::Result<usize>,
        more: bool,
    ) {
        self.expect_turn();
        let received = Received {
            bytes,
            result,
            more,
        };
        let (rooms, env) = (&mut self.rooms, &mut self.env);
        self.connections.received(key, received, rooms, env);
    }

    /// Handles a completed send, perhaps a partial one.
    pub fn sent(&mut self, key: Key, outgoing: SendBuffer, result: &io::Result<usize>) {
        self.expect_turn();
        let (rooms, env) = (&mut self.rooms, &mut self.env);
        self.connections.sent(key, outgoing, result, rooms, env);
    }

    /// Notes that a socket has become writable: the waiting rest is sent in its turn.
    pub fn writable(&mut self, key: Key, outgoing: SendBuffer) {
        self.expect_turn();
        self.connections.writable(key, outgoing);
    }

    /// Hands a pending connection to its room's home shard, at any time.
    pub fn enter(&mut self, pending: Box<PendingConnection<W::Socket>>) {
        if self.freeze.stage == Stage::Serving {
            self.admission.enter(pending, &mut self.env);
        } else {
            // The acceptors are closed before; this one was late.
            self.admission.reject(pending, AdmitError::Busy, &self.env);
        }
    }

    /// Sends this turn's items to other threads. Returns whether some of them still wait.
    pub fn flush_mailboxes(&mut self) -> bool {
        debug_assert_eq!(
            self.turn,
            Turn::Settled,
            "mailboxes are flushed after a turn"
        );
        let waits = self.rooms.flush_mailboxes();
        let unsent = self.env.outbox.flush();
        self.env.metrics.mailbox_kept.set_len(unsent.commands);
        waits || unsent.commands > 0 || unsent.departures
    }

    /// Takes a connection that was not admitted; the caller answers it.
    pub fn next_rejected(&mut self) -> Option<Rejected<W::Socket>> {
        self.admission.next_rejected()
    }

    /// Takes the settings that the acceptor is to adopt, if there are any since the last call.
    pub fn take_adopted(&mut self) -> Option<HandshakeSettings> {
        self.adopted.take()
    }

    /// Takes changed settings over, from this turn on. The number of shards is the same. What is left of every
    /// budget stays.
    fn adopt(&mut self, changed: ChangedSettings) {
        let settings = changed.shard;
        debug_assert_eq!(settings.shard_count, self.env.settings.shard_count);
        self.rooms.set_pace_ceiling(settings.pace_ceiling);
        self.connections
            .set_connection_rate(settings.connection_rate);
        self.env.settings = settings;
        self.adopted = Some(changed.handshake);
    }

    /// Takes the orders to accept or not, oldest first; the driver carries them out.
    pub fn take_doors(&mut self) -> Vec<Doors> {
        std::mem::take(&mut self.doors)
    }

    /// Takes what the driver is to do next.
    pub fn next_order(&mut self) -> Option<Order<W::Socket>> {
        self.orders.pop_front()
    }

    /// The kernel's rings, or their stand-in.
    pub fn io(&self) -> &W {
        self.connections.io()
    }

    /// The kernel's rings, or their stand-in: for completions and submission.
    pub fn io_mut(&mut self) -> &mut W {
        self.connections.io_mut()
    }

    /// Whether the mailbox to `shard` has room for answers. While it has none, requests from
    /// `shard` are not taken, their mailbox fills, and `shard` refuses its clients itself. While this shard sends no
    /// command, because it freezes, there are none but those of a shard that serves again: they wait until this
    /// one does, so that they come after the messages under review.
    pub fn can_answer(&self, shard: ShardId) -> bool {
        !self.is_silent() && self.env.outbox.has_room(shard)
    }

    /// Whether the mailboxes to all shards have room.
    pub fn can_tell_all(&self) -> bool {
        self.env.outbox.has_room_everywhere()
    }

    /// Returns a room's members here and, if this is its home, the home's count of members on each
    /// shard.
    pub fn census(&self, room: RoomId) -> (usize, Option<&[u32]>) {
        self.rooms.census(room)
    }

    /// Calls [`Limiter::admit`] for a log line of this shard's acceptor.
    pub fn admit_line(&mut self, kind: Kind, now: Tick) -> Option<u64> {
        self.env.lines.admit(kind, now)
    }

    /// Number of connections on this shard.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Whether the shard was told to stop and holds no connection any more.
    pub fn is_stopped(&self) -> bool {
        self.stopping && self.connections.is_empty()
    }

    /// Notes for the pace that submitting `queued` took `elapsed`.
    pub fn note_cost(&mut self, queued: Queued, elapsed: Duration) {
        self.connections.count_spreads(elapsed, &self.env);
        if let Some(cost) = self.rooms.note_cost(queued, elapsed) {
            let nanos = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
            self.env.metrics.send_cost_nanos.set(nanos);
        }
    }

    /// The time of the latest turn.
    pub fn now(&self) -> Now {
        self.env.now
    }

    /// Notes the number of rings and of their overflows for the metrics.
    pub fn note_rings(&mut self, rings: usize, overflows: u32) {
        self.env.metrics.rings.set_len(rings);
        self.env.metrics.cq_overflow.set(overflows.into());
    }

    /// Asserts the invariants of all parts and those between them, for tests. It costs a pass over
    /// everything.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    pub fn check(&self) {
        self.rooms.check(self.env.id);
        self.connections.check(&self.rooms);
        self.admission.check();
        if self.is_silent() {
            assert!(self.rooms.gate_is_idle(), "the archive owes no delivery");
            assert!(
                self.rooms.cluster_is_idle() && self.admission.parked() == 0,
                "the cluster owes no answer"
            );
        }
        if self.is_frozen() {
            self.connections.check_frozen();
        }
    }

    /// Asserts that an event comes within a turn.
    fn expect_turn(&self) {
        debug_assert_eq!(
            self.turn,
            Turn::Begun,
            "events come after begin, before settle"
        );
    }
}
