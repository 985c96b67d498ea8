//! The shard's state machine: completions, commands and time in; submissions and commands out.
//!
//! Owns: connections, rooms, timers, used tokens, the sending ends of the mailboxes.
//! Never: clocks, descriptors, threads. [`Core::settle`] ends a turn: it admits pending connections, flushes
//! due rooms and serves members.

mod admit;
mod archive;
mod deliver;
mod flush;
mod moderate;
mod receive;
mod refused;
mod resume;
mod review;

pub use moderate::user_hash;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;

use self::resume::Resumed;
use super::close_reason::{CloseReason, HowToClose};
use super::command::{AdmitError, Command, Departures, PendingConnection, Request};
use super::connection::{Connection, PeerClose, Phase};
use super::durability::{DurabilityGate, Entry};
use super::journal::Record;
use super::mailbox::{Full, MailboxSender};
use super::metrics::ShardMetrics;
use super::pace::Pace;
use super::review::{ReviewQueue, ReviewRequest};
use super::settings::{ShardId, ShardSettings, SharedBudgets};
use super::shard_room::ShardRoom;
use super::tokens::UsedTokens;
use crate::logging::{Kind, Limiter, Overdue};
use crate::net::io::{Io, Queued, Shutdown};
use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::base::id::{FrameIds, RoomId};
use uproar_proto::base::limits::{
    CHECK_GRANULE, CLOSE_TIMEOUT, RESUMES_PER_TURN_MAX, SEND_STALL_MAX,
};
use uproar_proto::base::table::{Slot, Table};
use uproar_proto::base::wheel::Wheel;
use uproar_proto::chat;
use uproar_proto::room::RoomSettings;
use uproar_proto::session::{Due, Ending, SessionContext};
use uproar_proto::ws::{self, Deflater};

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
    pub archive: Option<MailboxSender<Entry>>,
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

/// One shard.
pub struct Core<W: Io> {
    id: ShardId,
    settings: ShardSettings,
    /// The kernel's rings, or their stand-in.
    pub io: W,
    mailboxes: Vec<MailboxSender<Command<W::Socket>>>,
    requests: Vec<MailboxSender<Request<W::Socket>>>,
    // Members that left while the mailbox to their room's home was full; one entry a room bounds it.
    departed: HashMap<RoomId, Departures>,
    review_queue: ReviewQueue,
    durability: DurabilityGate<archive::Delivery>,
    record: Box<dyn Record + Send>,
    used: UsedTokens,
    metrics: Arc<ShardMetrics>,
    budgets: SharedBudgets,

    now: Now,
    ids: FrameIds,
    session_context: SessionContext,
    deflater: Deflater,
    connections: Table<Connection<W::FixedFile>>,
    shard_rooms: Table<ShardRoom>,
    rooms: HashMap<RoomId, Slot<ShardRoom>>,
    wheel: Wheel<Slot<Connection<W::FixedFile>>>,

    // Pending connections of this turn, judged together.
    joins: Vec<Box<PendingConnection<W::Socket>>>,
    rejected: Vec<(Box<PendingConnection<W::Socket>>, AdmitError)>,
    // Rooms with something to flush; rooms being served.
    unflushed: Vec<Slot<ShardRoom>>,
    walking: VecDeque<Slot<ShardRoom>>,
    // Connections whose sends continue when their turn comes, in order of arrival: each with at most one entry
    // without bytes, as its `continues` says, and at most one with the rest of its send.
    resumed: VecDeque<Resumed<W::FixedFile>>,
    // How many of them this turn still serves.
    resumes_left: usize,
    // Rooms whose log must be aged.
    aging: Vec<Slot<ShardRoom>>,
    next_aging: Tick,
    pace: Pace,
    lines: Limiter,
    stopping: bool,

    // Reused buffers.
    due: Vec<Slot<Connection<W::FixedFile>>>,
    request_buffer: BytesMut,
    plain: Vec<u8>,
    sealed: Vec<Vec<u8>>,
}

impl<W: Io> Core<W> {
    /// A shard without rooms and connections.
    pub fn new(parts: Parts<W>, now: Now) -> Self {
        let session_context = if parts.settings.echo {
            SessionContext::echo()
        } else {
            SessionContext::chat(parts.settings.connection_rate)
        };
        Self {
            id: parts.id,
            pace: Pace::new(parts.settings.pace_ceiling),
            settings: parts.settings,
            io: parts.io,
            mailboxes: parts.mailboxes,
            requests: parts.requests,
            departed: HashMap::new(),
            review_queue: ReviewQueue::new(parts.reviews),
            durability: DurabilityGate::new(parts.archive),
            record: parts.record,
            used: parts.used,
            metrics: parts.metrics,
            budgets: parts.budgets,
            now,
            ids: FrameIds::seeded(parts.seed),
            session_context,
            deflater: Deflater::default(),
            connections: Table::default(),
            shard_rooms: Table::default(),
            rooms: HashMap::new(),
            wheel: Wheel::new(CHECK_GRANULE, now.tick),
            joins: Vec::new(),
            rejected: Vec::new(),
            unflushed: Vec::new(),
            walking: VecDeque::new(),
            resumed: VecDeque::new(),
            resumes_left: RESUMES_PER_TURN_MAX,
            aging: Vec::new(),
            next_aging: now.tick,
            lines: Limiter::default(),
            stopping: false,
            due: Vec::new(),
            request_buffer: BytesMut::new(),
            plain: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// Adds the rooms whose home this shard is, before any request for them can arrive.
    pub fn load(&mut self, rooms: Vec<(RoomId, RoomSettings)>) {
        self.rooms.reserve(rooms.len());
        for (room, settings) in rooms {
            self.put_room(room, settings);
        }
    }

    /// Begins a turn: everything until the next call happens at `now`.
    pub fn begin(&mut self, now: Now) {
        self.now = now;
        self.resumes_left = RESUMES_PER_TURN_MAX;
        self.metrics.turns.inc();
    }

    /// Ends a turn: timers, admissions, flushes, sends. Afterwards the caller submits what `io` has queued
    /// and calls [`Core::flush_mailboxes`].
    pub fn settle(&mut self) -> Plan {
        self.fire_timers();
        self.admit_all();
        let review_due = self.release_reviewed();
        self.release_overdue();
        let flushing = self.flush_rooms();
        self.serve();
        self.metrics.connections.set(self.connections.len() as u64);
        self.metrics.deflated.set(self.deflater.messages());
        let Plan::Wait(flush_due) = flushing else {
            return Plan::Now;
        };
        if !self.walking.is_empty() || !self.resumed.is_empty() {
            return Plan::Now;
        }
        let mut wake = self.wheel.next_turn().min(flush_due);
        for due in [review_due, self.durability.deadline()] {
            wake = due.map_or(wake, |due| wake.min(due));
        }
        Plan::Wait(wake)
    }

    /// Sends this turn's items to other threads. Returns whether some of them still wait.
    pub fn flush_mailboxes(&mut self) -> bool {
        if !self.departed.is_empty() {
            self.report_departed();
        }
        let mut waits = self.durability.flush();
        waits |= self.review_queue.flush();
        for (shard, requests) in self.requests.iter_mut().enumerate() {
            if shard != self.id {
                requests.flush();
            }
        }
        let mut kept = 0;
        for (shard, mailbox) in self.mailboxes.iter_mut().enumerate() {
            if shard != self.id && mailbox.flush() {
                kept += mailbox.kept() as u64;
            }
        }
        self.metrics.mailbox_kept.set(kept);
        waits || kept > 0 || !self.departed.is_empty()
    }

    /// Whether the mailbox to `shard` has room for answers. While it has none, requests from `shard` are not
    /// taken, their mailbox fills, and `shard` refuses its clients itself.
    pub fn can_answer(&self, shard: ShardId) -> bool {
        self.mailboxes
            .get(shard)
            .is_none_or(MailboxSender::has_room)
    }

    /// Whether the mailboxes to all shards have room.
    pub fn can_tell_all(&self) -> bool {
        self.mailboxes.iter().all(MailboxSender::has_room)
    }

    /// Returns a room's members here and, if this is its home, the home's count of members on each shard.
    pub fn census(&self, room: RoomId) -> (usize, Option<&[u32]>) {
        let shard_room = self.rooms.get(&room);
        let shard_room = shard_room.and_then(|slot| self.shard_rooms.get(*slot));
        shard_room.map_or((0, None), |shard_room| {
            let counted = shard_room.home.as_ref().map(|home| &home.members[..]);
            (shard_room.audience.len(), counted)
        })
    }

    /// Calls [`Limiter::admit`] for a log line of this shard's acceptor.
    pub fn admit_line(&mut self, kind: Kind, now: Tick) -> Option<u64> {
        self.lines.admit(kind, now)
    }

    /// Takes a connection that was not admitted; the caller answers it.
    pub fn next_rejected(&mut self) -> Option<(Box<PendingConnection<W::Socket>>, AdmitError)> {
        self.rejected.pop()
    }

    /// Number of connections on this shard.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// Whether the shard was told to stop and holds no connection any more.
    pub fn is_stopped(&self) -> bool {
        self.stopping && self.connections.is_empty()
    }

    /// Whether the shard was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Notes for the pace that submitting `queued` took `elapsed`.
    pub fn note_cost(&mut self, queued: Queued, elapsed: Duration) {
        if let Some(cost) = self.pace.note(queued, elapsed) {
            let nanos = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
            self.metrics.send_cost_nanos.set(nanos);
        }
    }

    /// Notes the number of rings and of their overflows for the metrics.
    pub fn note_rings(&mut self, rings: usize, overflows: u32) {
        self.metrics.rings.set(rings as u64);
        self.metrics.cq_overflow.set(overflows.into());
    }

    /// Hands a pending connection to its room's home shard.
    pub fn enter(&mut self, pending: Box<PendingConnection<W::Socket>>) {
        let home = self.settings.home(pending.room);
        if home == self.id {
            self.joins.push(pending);
        } else {
            let requests = self.requests.get_mut(home);
            let offered = requests.map(|mailbox| mailbox.offer(Request::Join(pending)));
            if let Some(Err(Full(Request::Join(pending)))) = offered {
                self.metrics.mailbox_full.inc();
                self.reject(pending, AdmitError::Busy);
            }
        }
    }

    /// Serves a request of a client on another shard.
    pub fn request(&mut self, request: Request<W::Socket>) {
        match request {
            Request::Join(pending) => self.joins.push(pending),
            Request::Publish(room, publish_request) => self.take_publish(room, &publish_request),
        }
    }

    /// Executes a command of another shard or the control thread.
    pub fn command(&mut self, command: Command<W::Socket>) {
        match command {
            Command::Install(pending, settings, reservation) => {
                self.install(*pending, settings, reservation);
            }
            Command::Batch(room, batch) => self.take_batch(room, batch),
            Command::RefuseRequest(connection, refusal) => {
                self.tell(Slot::from_bits(connection), &refusal);
            }
            Command::Evict(room, eviction) => self.evict(room, &eviction),
            Command::MembersLeft(room, shard, departures) => {
                self.members_left(room, shard, departures);
            }
            Command::PutRoom(room, settings, answer) => {
                self.put_room(room, settings);
                let _caller_gone = answer.send(Ok(()));
            }
            Command::SettingsChanged(room, settings) => self.adopt(room, settings),
            Command::DeleteRoom(room, answer) => {
                let _caller_gone = answer.send(self.delete_room(room));
            }
            Command::RoomDeleted(room) => self.vanish(room),
            Command::SendEvent {
                room,
                name,
                attributes_json,
                answer,
            } => {
                let outcome = self.send_event(room, &name, &attributes_json);
                self.answer(room, answer, outcome);
            }
            Command::DeleteMessage {
                room,
                id,
                reason,
                answer,
            } => {
                let request = chat::Request::DeleteMessage {
                    id: &id,
                    reason: &reason,
                    request_id: "",
                };
                let outcome = self.moderate(room, &request);
                self.answer(room, answer, outcome);
            }
            Command::DisconnectUser {
                room,
                eviction,
                answer,
            } => {
                let request = chat::Request::DisconnectUser {
                    user_id: &eviction.user_id,
                    reason: &eviction.reason,
                    request_id: "",
                };
                let outcome = self.moderate(room, &request);
                self.answer(room, answer, outcome);
            }
            Command::Verdict(room, ticket, verdict) => self.take_verdict(room, ticket, verdict),
            Command::Spooled(count) => self.take_spooled(count),
            Command::Stop => self.stop(),
        }
    }

    /// Sends a command to another shard. Each caller is bounded, or has checked for room first.
    fn send_to(&mut self, shard: ShardId, command: Command<W::Socket>) {
        if let Some(mailbox) = self.mailboxes.get_mut(shard) {
            mailbox.deliver(command);
        }
    }

    fn send_to_others(&mut self, command: impl Fn() -> Command<W::Socket>) {
        for shard in 0..self.settings.shard_count {
            if shard != self.id {
                self.send_to(shard, command());
            }
        }
    }

    fn fire_timers(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(self.now.tick, &mut due);
        for slot in due.drain(..) {
            self.check(slot);
        }
        self.due = due;
        if self.now.tick >= self.next_aging {
            self.next_aging = self.now.tick.after(AGING_INTERVAL);
            self.used.expire(self.now);
            let (forgotten, oldest) = (self.used.forgotten(), self.used.oldest());
            let journal_bytes = self.record.forgot(forgotten, oldest);
            self.metrics.journal_bytes.set(journal_bytes);
            self.metrics.tokens_remembered.set(self.used.len() as u64);
            self.age_logs();
            self.lines.overdue(self.now.tick).for_each(Overdue::log);
        }
    }

    /// Checks one connection's deadlines.
    fn check(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if now.tick < connection.next_check {
            return;
        }
        connection.next_check = Tick::from_nanos(u64::MAX);
        match connection.phase {
            Phase::Dead => return,
            Phase::Closing { deadline, .. } if now.tick >= deadline => {
                // The reason was counted when the handshake began; the client did not end it in time.
                self.kill(slot, CloseReason::Client);
                return;
            }
            Phase::Closing { deadline, .. } => {
                self.schedule(slot, deadline);
                return;
            }
            Phase::Open => {}
        }
        if connection.is_queued() {
            // The server's own backlog does not count as a stall of the client.
            connection.progress = now.tick;
        }
        if connection.is_sending() && now.tick.since(connection.progress) >= SEND_STALL_MAX {
            self.kill(slot, CloseReason::Slow);
            return;
        }
        let stalls = connection
            .is_sending()
            .then(|| connection.progress.after(SEND_STALL_MAX));
        match connection.session.due(now.tick) {
            Due::Later(next) => self.schedule(slot, stalls.map_or(next, |stall| stall.min(next))),
            Due::Ping(next) => {
                let pushed = connection.lane().push(ws::ping);
                if pushed.is_err() {
                    self.kill(slot, CloseReason::Slow);
                    return;
                }
                self.schedule(slot, stalls.map_or(next, |stall| stall.min(next)));
                self.deliver(slot);
            }
            Due::Idle => self.kill(slot, CloseReason::Idle),
            Due::SessionEnd => self.end_session(slot),
        }
    }

    fn schedule(&mut self, slot: Slot<Connection<W::FixedFile>>, due: Tick) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if due < connection.next_check {
            connection.next_check = due;
            self.wheel.insert(due, slot);
        }
    }

    /// Begins the closing handshake: the Close frame follows the room log's current end.
    fn finish(&mut self, slot: Slot<Connection<W::FixedFile>>, ending: &Ending<'_>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        let reason = CloseReason::from(ending);
        let shard_room = self.shard_rooms.get(connection.shard_room);
        let after = shard_room.map_or_else(Default::default, |shard_room| {
            shard_room.audience.log().head()
        });
        let room = shard_room.map(|shard_room| shard_room.id);
        refused::log_ended(&connection.session, room, connection.ip, reason);
        connection.session.begin_close();
        connection.lane().finish(after, |out| ending.encode(out));
        let deadline = self.now.tick.after(CLOSE_TIMEOUT);
        let peer = match ending {
            Ending::Answer { .. } | Ending::Violation(_) => PeerClose::Done,
            Ending::Disconnected { .. } | Ending::SessionOver | Ending::RoomDeleted => {
                PeerClose::Awaited
            }
        };
        connection.phase = Phase::Closing { deadline, peer };
        self.metrics.closed(reason).inc();
        self.schedule(slot, deadline);
        self.deliver(slot);
    }

    /// Cuts a connection without a Close frame; its entry is removed when its pending operations have completed.
    fn kill(&mut self, slot: Slot<Connection<W::FixedFile>>, reason: CloseReason) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.phase == Phase::Dead {
            return;
        }
        let was_open = connection.phase == Phase::Open;
        if was_open {
            self.metrics.closed(reason).inc();
            let room = self
                .shard_rooms
                .get(connection.shard_room)
                .map(|shard_room| shard_room.id);
            refused::log_ended(&connection.session, room, connection.ip, reason);
        }
        connection.phase = Phase::Dead;
        match reason.how_to_close(was_open, connection.is_sending()) {
            HowToClose::Abortive => self.io.shutdown(&connection.file, Shutdown::Abort),
            // No operation is pending, so closing is enough.
            HowToClose::Graceful if connection.is_over() => {}
            HowToClose::Graceful => self.io.shutdown(&connection.file, Shutdown::Both),
        }
        self.leave(slot);
        self.reap(slot);
    }

    /// Removes and closes a dead connection once it has no pending operation.
    fn reap(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        if connection.is_over()
            && let Some(connection) = self.connections.remove(slot)
        {
            self.io.close(connection.file);
        }
    }

    /// Takes a connection out of its room's audience.
    fn leave(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(member) = connection.member.take() else {
            return;
        };
        let deflated = connection.session.window_bits().is_some();
        let room_slot = connection.shard_room;
        let Some(shard_room) = self.shard_rooms.get_mut(room_slot) else {
            return;
        };
        let room = shard_room.id;
        let moved = shard_room.audience.leave(member);
        let emptied = shard_room.audience.is_empty() && shard_room.home.is_none();
        let away = shard_room.home.is_none();
        if let Some(home) = &mut shard_room.home {
            home.departs(self.id, Departures::one(deflated));
        }
        if let Some(key) = moved
            && let Some(other) = self.connections.get_mut(Slot::from_bits(key))
        {
            other.member = Some(member);
        }
        if away {
            self.report_departure(room, Departures::one(deflated));
        }
        if emptied {
            self.shard_rooms.remove(room_slot);
            self.rooms.remove(&room);
        }
    }

    /// Reports departed members to a room's home on another shard: at once, or together with later ones when the
    /// mailbox has room.
    fn report_departure(&mut self, room: RoomId, departures: Departures) {
        let home = self.settings.home(room);
        if self.can_answer(home) {
            self.send_to(home, Command::MembersLeft(room, self.id, departures));
        } else {
            *self.departed.entry(room).or_default() += departures;
        }
    }

    fn report_departed(&mut self) {
        let (here, settings, mailboxes) = (self.id, &self.settings, &mut self.mailboxes);
        self.departed.retain(|room, departures| {
            let Some(mailbox) = mailboxes.get_mut(settings.home(*room)) else {
                return false;
            };
            mailbox.flush();
            if mailbox.has_room() {
                mailbox.deliver(Command::MembersLeft(*room, here, *departures));
                return false;
            }
            true
        });
        if self.departed.is_empty() {
            self.departed = HashMap::new();
        }
    }

    fn members_left(&mut self, room: RoomId, shard: ShardId, departures: Departures) {
        if let Some(slot) = self.rooms.get(&room)
            && let Some(ShardRoom {
                home: Some(home), ..
            }) = self.shard_rooms.get_mut(*slot)
        {
            home.departs(shard, departures);
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        let all: Vec<_> = self.connections.slots().collect();
        for slot in all {
            self.kill(slot, CloseReason::Drain);
        }
    }
}

/// Interval at which room logs and used tokens are aged.
const AGING_INTERVAL: Duration = Duration::from_secs(1);
