//! The shard's machine: completions, commands and time in; submissions and commands out.
//!
//! Owns: connections, rooms, timers, used tokens, the sending ends of the mailboxes.
//! Never: clocks, descriptors, threads. [`Core::settle`] ends a turn: newcomers are admitted, due
//! rooms flushed, members served.

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
use super::command::{Command, Departures, Newcomer, Request, Turned};
use super::connection::{Connection, Phase};
use super::ended::{Ended, HowToClose};
use super::handover::{Entry, Handover};
use super::journal::Record;
use super::local::Local;
use super::mailbox::{Full, Post};
use super::metrics::ShardMetrics;
use super::pace::Pace;
use super::review::{Docket, ReviewRequest};
use super::settings::{ShardId, ShardSettings, SharedBudgets};
use super::tokens::UsedTokens;
use crate::base::clock::{Now, Tick};
use crate::base::id::{FrameIds, RoomId};
use crate::base::limits::{CHECK_GRANULE, CLOSE_TIMEOUT, RESUMES_PER_TURN_MAX, SEND_STALL_MAX};
use crate::base::table::{Slot, Table};
use crate::base::wheel::Wheel;
use crate::logging::{Kind, Limiter, Overdue};
use crate::net::wire::{Queued, Shutdown, Wire};
use crate::protocol::ws::{self, Deflater};
use crate::room::RoomSettings;
use crate::session::{Desk, Due, Ending};

/// What a core is made with.
pub struct Parts<W: Wire> {
    /// This shard's number.
    pub id: ShardId,
    /// Settings of all shards.
    pub settings: ShardSettings,
    /// The kernel, or its stand-in.
    pub wire: W,
    /// Mailboxes to the shards, in order; the one to itself is never used.
    pub posts: Vec<Post<Command<W::Socket>>>,
    /// The same, for requests.
    pub requests: Vec<Post<Request<W::Socket>>>,
    /// Mailbox to the control thread: messages to be reviewed.
    pub reviews: Post<ReviewRequest>,
    /// The mailbox to the archive, if rooms are logged.
    pub archive: Option<Post<Entry>>,
    /// Where token uses are written down before a connection is admitted.
    pub record: Box<dyn Record + Send>,
    /// Tokens used before, as read back.
    pub used: UsedTokens,
    /// This shard's counters.
    pub metrics: Arc<ShardMetrics>,
    /// What all shards charge together; one for all of them.
    pub budgets: SharedBudgets,
    /// Seed of frame ids.
    pub seed: u64,
}

/// When the shard's loop should come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// At once: members wait to be served.
    Now,
    /// At this instant, or earlier if something happens.
    Wait(Tick),
}

/// One shard.
pub struct Core<W: Wire> {
    id: ShardId,
    settings: ShardSettings,
    /// The kernel, or its stand-in.
    pub wire: W,
    posts: Vec<Post<Command<W::Socket>>>,
    requests: Vec<Post<Request<W::Socket>>>,
    // Members that left while the mailbox to their room's home was full; one entry a room bounds it.
    departed: HashMap<RoomId, Departures>,
    docket: Docket,
    handover: Handover<archive::Delivery>,
    record: Box<dyn Record + Send>,
    used: UsedTokens,
    metrics: Arc<ShardMetrics>,
    budgets: SharedBudgets,

    now: Now,
    ids: FrameIds,
    desk: Desk,
    deflater: Deflater,
    connections: Table<Connection<W::Seat>>,
    locals: Table<Local>,
    rooms: HashMap<RoomId, Slot<Local>>,
    wheel: Wheel<Slot<Connection<W::Seat>>>,

    // Newcomers of this turn, to be decided together.
    joins: Vec<Box<Newcomer<W::Socket>>>,
    turned: Vec<(Box<Newcomer<W::Socket>>, Turned)>,
    // Rooms with something to flush; rooms being served; rooms whose log must be aged.
    speaking: Vec<Slot<Local>>,
    walking: VecDeque<Slot<Local>>,
    // Connections whose sends go on in their turn, first come, first served; each at most once.
    resumed: VecDeque<Resumed<W::Seat>>,
    // How many of them this turn still serves.
    resumes_left: usize,
    logged: Vec<Slot<Local>>,
    next_aging: Tick,
    pace: Pace,
    lines: Limiter,
    stopping: bool,

    // Reused buffers.
    due: Vec<Slot<Connection<W::Seat>>>,
    posting: BytesMut,
    plain: Vec<u8>,
    sealed: Vec<Vec<u8>>,
}

impl<W: Wire> Core<W> {
    /// A shard without rooms and connections.
    pub fn new(parts: Parts<W>, now: Now) -> Self {
        let desk = if parts.settings.echo {
            Desk::echo()
        } else {
            Desk::chat(parts.settings.connection_rate)
        };
        Self {
            id: parts.id,
            pace: Pace::new(parts.settings.pace_ceiling),
            settings: parts.settings,
            wire: parts.wire,
            posts: parts.posts,
            requests: parts.requests,
            departed: HashMap::new(),
            docket: Docket::new(parts.reviews),
            handover: Handover::new(parts.archive),
            record: parts.record,
            used: parts.used,
            metrics: parts.metrics,
            budgets: parts.budgets,
            now,
            ids: FrameIds::seeded(parts.seed),
            desk,
            deflater: Deflater::default(),
            connections: Table::default(),
            locals: Table::default(),
            rooms: HashMap::new(),
            wheel: Wheel::new(CHECK_GRANULE, now.tick),
            joins: Vec::new(),
            turned: Vec::new(),
            speaking: Vec::new(),
            walking: VecDeque::new(),
            resumed: VecDeque::new(),
            resumes_left: RESUMES_PER_TURN_MAX,
            logged: Vec::new(),
            next_aging: now.tick,
            lines: Limiter::default(),
            stopping: false,
            due: Vec::new(),
            posting: BytesMut::new(),
            plain: Vec::new(),
            sealed: Vec::new(),
        }
    }

    /// Makes known the rooms whose home this shard is, before anybody can ask for them.
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

    /// Ends a turn: timers, newcomers, flushes, sends. Afterwards the caller submits what the wire
    /// has queued and calls [`Core::post`].
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
        for due in [review_due, self.handover.deadline()] {
            wake = due.map_or(wake, |due| wake.min(due));
        }
        Plan::Wait(wake)
    }

    /// Delivers what this turn posted to other shards. Returns whether some of it still waits.
    pub fn post(&mut self) -> bool {
        if !self.departed.is_empty() {
            self.report_departed();
        }
        let mut waits = self.handover.flush();
        waits |= self.docket.flush();
        for (shard, requests) in self.requests.iter_mut().enumerate() {
            if shard != self.id {
                requests.flush();
            }
        }
        let mut kept = 0;
        for (shard, post) in self.posts.iter_mut().enumerate() {
            if shard != self.id && post.flush() {
                kept += post.kept() as u64;
            }
        }
        self.metrics.mailbox_kept.set(kept);
        waits || kept > 0 || !self.departed.is_empty()
    }

    /// Whether answers to requests from `shard` would be on their way at once. While they would not, its
    /// requests are not taken, its mailbox for them fills, and it refuses its clients itself.
    pub fn can_answer(&self, shard: ShardId) -> bool {
        self.posts.get(shard).is_none_or(Post::has_room)
    }

    /// The same for every shard.
    pub fn can_tell_all(&self) -> bool {
        self.posts.iter().all(Post::has_room)
    }

    /// A room's members here, and as its home counts them on every shard if this is it.
    pub fn census(&self, room: RoomId) -> (usize, Option<&[u32]>) {
        let local = self.rooms.get(&room);
        let local = local.and_then(|slot| self.locals.get(*slot));
        local.map_or((0, None), |local| {
            let counted = local.home.as_ref().map(|home| &home.members[..]);
            (local.audience.len(), counted)
        })
    }

    /// [`Limiter::admit`] for a line that this shard's entrance would write.
    pub fn admit_line(&mut self, kind: Kind, now: Tick) -> Option<u64> {
        self.lines.admit(kind, now)
    }

    /// Takes a newcomer that was turned away; the caller answers it.
    pub fn next_turned(&mut self) -> Option<(Box<Newcomer<W::Socket>>, Turned)> {
        self.turned.pop()
    }

    /// Connections here.
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

    /// Tells the core that submitting `queued` took `elapsed`, for the pace.
    pub fn note_cost(&mut self, queued: Queued, elapsed: Duration) {
        if let Some(cost) = self.pace.note(queued, elapsed) {
            let nanos = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
            self.metrics.send_cost_nanos.set(nanos);
        }
    }

    /// Tells the core how its rings are, for the metrics.
    pub fn note_rings(&mut self, rings: usize, overflows: u32) {
        self.metrics.rings.set(rings as u64);
        self.metrics.cq_overflow.set(overflows.into());
    }

    /// Brings a newcomer to its room's home shard.
    pub fn enter(&mut self, newcomer: Box<Newcomer<W::Socket>>) {
        let home = self.settings.home(newcomer.room);
        if home == self.id {
            self.joins.push(newcomer);
        } else {
            let requests = self.requests.get_mut(home);
            let offered = requests.map(|post| post.offer(Request::Join(newcomer)));
            if let Some(Err(Full(Request::Join(newcomer)))) = offered {
                self.metrics.mailbox_full.inc();
                self.turn_away(newcomer, Turned::Busy);
            }
        }
    }

    /// Does what a client on another shard asks, or tells it why not.
    pub fn request(&mut self, request: Request<W::Socket>) {
        match request {
            Request::Join(newcomer) => self.joins.push(newcomer),
            Request::Post(room, posted) => self.take_post(room, &posted),
        }
    }

    /// Does what another shard or the control thread asks.
    pub fn command(&mut self, command: Command<W::Socket>) {
        match command {
            Command::Install(newcomer, settings, reservation) => {
                self.install(*newcomer, settings, reservation);
            }
            Command::Batch(room, batch) => self.take_batch(room, batch),
            Command::Tell(connection, refusal) => self.tell(Slot::from_bits(connection), &refusal),
            Command::Evict(room, user_id, reason) => self.evict(room, &user_id, &reason),
            Command::Left(room, shard, departures) => self.members_left(room, shard, departures),
            Command::PutRoom(room, settings, answer) => {
                self.put_room(room, settings);
                let _nobody_waits = answer.send(Ok(()));
            }
            Command::Adopt(room, settings) => self.adopt(room, settings),
            Command::DeleteRoom(room, answer) => {
                let _nobody_waits = answer.send(self.delete_room(room));
            }
            Command::Vanish(room) => self.vanish(room),
            Command::SendEvent(room, name, attributes_json, answer) => {
                let outcome = self.send_event(room, &name, &attributes_json);
                self.answer(room, answer, outcome);
            }
            Command::DeleteMessage(room, id, reason, answer) => {
                let action = super::command::Action::Delete;
                let outcome = self.moderate(room, action, &id, &reason);
                self.answer(room, answer, outcome);
            }
            Command::DisconnectUser(room, user_id, reason, answer) => {
                let action = super::command::Action::Disconnect;
                let outcome = self.moderate(room, action, &user_id, &reason);
                self.answer(room, answer, outcome);
            }
            Command::Verdict(room, ticket, verdict) => self.take_verdict(room, ticket, verdict),
            Command::Spooled(count) => self.take_spooled(count),
            Command::Stop => self.stop(),
        }
    }

    /// Tells another shard. Whoever calls this is bounded, or has looked for room first.
    fn send_to(&mut self, shard: ShardId, command: Command<W::Socket>) {
        if let Some(post) = self.posts.get_mut(shard) {
            post.deliver(command);
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
            self.lines.overdue(self.now.tick).for_each(Overdue::say);
        }
    }

    /// Looks at one connection's deadlines.
    fn check(&mut self, slot: Slot<Connection<W::Seat>>) {
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
            Phase::Closing(deadline) if now.tick >= deadline => {
                self.kill(slot, Ended::Unanswered);
                return;
            }
            Phase::Closing(deadline) => {
                self.schedule(slot, deadline);
                return;
            }
            Phase::Open => {}
        }
        if connection.resumed {
            // The server's own backlog is nobody's stall.
            connection.progress = now.tick;
        }
        if connection.sending && now.tick.since(connection.progress) >= SEND_STALL_MAX {
            self.kill(slot, Ended::Slow);
            return;
        }
        let stalls = connection
            .sending
            .then(|| connection.progress.after(SEND_STALL_MAX));
        match connection.session.due(now.tick) {
            Due::Later(next) => self.schedule(slot, stalls.map_or(next, |stall| stall.min(next))),
            Due::Ping(next) => {
                let pushed = connection.lane().push(ws::ping);
                if pushed.is_err() {
                    self.kill(slot, Ended::Slow);
                    return;
                }
                self.schedule(slot, stalls.map_or(next, |stall| stall.min(next)));
                self.deliver(slot);
            }
            Due::Idle => self.kill(slot, Ended::Idle),
            Due::SessionEnd => self.end_session(slot),
        }
    }

    fn schedule(&mut self, slot: Slot<Connection<W::Seat>>, due: Tick) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if due < connection.next_check {
            connection.next_check = due;
            self.wheel.insert(due, slot);
        }
    }

    /// Begins the closing handshake: the Close frame goes out behind the room log as it stands.
    fn finish(&mut self, slot: Slot<Connection<W::Seat>>, ending: &Ending<'_>, ended: Ended) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.phase != Phase::Open {
            return;
        }
        let local = self.locals.get(connection.local);
        let after = local.map_or_else(Default::default, |local| local.audience.log().head());
        let room = local.map(|local| local.id);
        refused::say_ended(&connection.session, room, connection.ip, ended);
        connection.session.begin_close();
        connection.peer_done |= matches!(ending, Ending::Answer { .. } | Ending::Violation(_));
        connection.lane().finish(after, |out| ending.encode(out));
        let deadline = self.now.tick.after(CLOSE_TIMEOUT);
        connection.phase = Phase::Closing(deadline);
        ended.figure(&self.metrics).inc();
        self.schedule(slot, deadline);
        self.deliver(slot);
    }

    /// Cuts a connection: no Close frame, everything under way completes, then the entry goes.
    fn kill(&mut self, slot: Slot<Connection<W::Seat>>, ended: Ended) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.phase == Phase::Dead {
            return;
        }
        let was_open = connection.phase == Phase::Open;
        if was_open {
            ended.figure(&self.metrics).inc();
            let room = self.locals.get(connection.local).map(|local| local.id);
            refused::say_ended(&connection.session, room, connection.ip, ended);
        }
        connection.phase = Phase::Dead;
        match ended.how_to_close(was_open, connection.sending) {
            HowToClose::Abortive => self.wire.shutdown(&connection.seat, Shutdown::Abort),
            HowToClose::Graceful if connection.receiving || connection.sending => {
                self.wire.shutdown(&connection.seat, Shutdown::Both);
            }
            // With nothing under way there is nothing to end, and closing does the rest.
            HowToClose::Graceful => {}
        }
        self.leave(slot);
        self.bury(slot);
    }

    /// Removes and closes a dead connection once nothing of it is under way.
    fn bury(&mut self, slot: Slot<Connection<W::Seat>>) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        if connection.phase == Phase::Dead
            && !connection.receiving
            && !connection.sending
            && let Some(connection) = self.connections.remove(slot)
        {
            self.wire.close(connection.seat);
        }
    }

    /// Takes a connection out of its room's audience.
    fn leave(&mut self, slot: Slot<Connection<W::Seat>>) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(member) = connection.member.take() else {
            return;
        };
        let deflated = connection.session.window_bits().is_some();
        let local_slot = connection.local;
        let Some(local) = self.locals.get_mut(local_slot) else {
            return;
        };
        let room = local.id;
        let moved = local.audience.leave(member);
        let emptied = local.audience.is_empty() && local.home.is_none();
        let away = local.home.is_none();
        if let Some(home) = &mut local.home {
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
            self.locals.remove(local_slot);
            self.rooms.remove(&room);
        }
    }

    /// Tells a room's home on another shard who left here: at once, or together with others when its
    /// mailbox has room.
    fn report_departure(&mut self, room: RoomId, departures: Departures) {
        let home = self.settings.home(room);
        if self.can_answer(home) {
            self.send_to(home, Command::Left(room, self.id, departures));
        } else {
            *self.departed.entry(room).or_default() += departures;
        }
    }

    fn report_departed(&mut self) {
        let (here, settings, posts) = (self.id, &self.settings, &mut self.posts);
        self.departed.retain(|room, departures| {
            let Some(post) = posts.get_mut(settings.home(*room)) else {
                return false;
            };
            post.flush();
            if post.has_room() {
                post.deliver(Command::Left(*room, here, *departures));
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
            && let Some(Local {
                home: Some(home), ..
            }) = self.locals.get_mut(*slot)
        {
            home.departs(shard, departures);
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        let all: Vec<_> = self.connections.slots().collect();
        for slot in all {
            self.kill(slot, Ended::Drain);
        }
    }
}

/// How often logs and used tokens are aged.
const AGING_INTERVAL: Duration = Duration::from_secs(1);
