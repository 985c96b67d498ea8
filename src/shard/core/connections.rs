//! The established connections of one shard.
//!
//! Owns: their table, their deadlines, what comes in and what goes out. Rooms are lent to it; it
//! tells them who leaves.

mod answer;
mod end;
mod estate;
mod freeze;
pub(super) mod receive;
mod refuse;
mod release;
mod replace;
mod send;
mod spread;
mod timers;
mod user;

use std::collections::HashMap;
use std::net::IpAddr;

use self::spread::Spreads;
use super::env::Env;
use super::inbound::Inbound;
use super::log_lines::log_began;
use super::outbound::{ConnectionSlot, Delivered, Outbound};
use super::rooms::Rooms;
use crate::logging::Kind;
use crate::net::io::{Io, Key};
use crate::shard::command::PendingConnection;
use crate::shard::connection::{Connection, Lane, Phase, Receiving, Sending};
use crate::shard::settings::{Reservation, ShardSettings};
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{CHECK_GRANULE, PARSE_PADDING_BYTES, PING_INTERVAL};
use uproar_proto::base::rate::Rate;
use uproar_proto::base::table::{Slot, Table};
use uproar_proto::base::wheel::Wheel;
use uproar_proto::chat::encode;
use uproar_proto::extension::{Extension, Speaker};
use uproar_proto::room::RoomSettings;
use uproar_proto::room::memory::Replay;
use uproar_proto::session::Session;
use uproar_proto::token::TokenId;

/// The connections of one shard.
pub(super) struct Connections<W: Io> {
    // Every connection that has an operation in the kernel, or may get one. An entry's slot is its
    // key in the rings and in its room's audience.
    table: Table<Connection<W::FixedFile>>,
    // Deadlines. A connection has one valid entry, at its `next_check`; others are stale, and so
    // are those of removed connections.
    wheel: Wheel<ConnectionSlot<W>>,
    // Connections whose deadline has come; empty between calls, kept for its capacity.
    due: Vec<ConnectionSlot<W>>,
    // Number of connections whose session goes on.
    open: usize,
    // What sessions share while they read.
    inbound: Inbound,
    // Sends, and the rings.
    outbound: Outbound<W>,
    // Walks whose times are measured.
    spreads: Spreads<W>,
    // The connection that each token has opened last, where tokens open several. Entries of connections that are gone find
    // nothing.
    by_token: HashMap<TokenId, ConnectionSlot<W>>,
    // No receive is armed: the shard freezes, or is frozen.
    is_quiet: bool,
    // Receives that the kernel still has, while `is_quiet`.
    receives_left: usize,
}

/// A connection, as a list of users shows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// `Sender`, as JSON.
    pub(super) sender_json: &'a str,
    /// When it was admitted.
    pub(super) began: Tick,
}

impl<W: Io> Connections<W> {
    /// Makes a shard without connections.
    pub(super) fn new(io: W, settings: &ShardSettings, now: Tick) -> Self {
        Self {
            table: Table::default(),
            wheel: Wheel::new(CHECK_GRANULE, now),
            due: Vec::new(),
            open: 0,
            inbound: Inbound::new(settings),
            outbound: Outbound::new(io),
            spreads: Spreads::default(),
            by_token: HashMap::new(),
            is_quiet: false,
            receives_left: 0,
        }
    }

    /// The kernel's rings, or their stand-in.
    pub(super) fn io(&self) -> &W {
        &self.outbound.io
    }

    /// The kernel's rings, or their stand-in.
    pub(super) fn io_mut(&mut self) -> &mut W {
        &mut self.outbound.io
    }

    /// Number of connections.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Number of connections whose session goes on: neither closing, nor cut.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// `Sender` of a connection, as JSON.
    pub(super) fn sender(&self, slot: ConnectionSlot<W>) -> Option<&str> {
        Some(self.table.get(slot)?.session.sender_json())
    }

    /// What a list of users shows of a connection.
    pub(super) fn look(&self, slot: ConnectionSlot<W>) -> Option<Seen<'_>> {
        let connection = self.table.get(slot)?;
        Some(Seen {
            sender_json: connection.session.sender_json(),
            began: connection.began,
        })
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Changes the rate of requests of one connection.
    pub(super) fn set_connection_rate(&mut self, rate: Option<Rate>) {
        self.inbound.session_context().set_connection_rate(rate);
    }

    /// Begins a turn.
    pub(super) fn begin(&mut self) {
        self.outbound.begin();
        self.spreads.begin();
    }

    /// Makes a pending connection a member of its room here: it gets the greeting, then every
    /// message from now on. Returns nothing if the kernel has no place for it.
    pub(super) fn install(
        &mut self,
        pending: PendingConnection<W::Socket>,
        (settings, reservation): (RoomSettings, Reservation),
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) -> Option<ConnectionSlot<W>> {
        let (ip, room, deflated) = (pending.ip, pending.room, pending.agreement.is_some());
        let counts = pending.counts();
        let Some(file) = self.install_file(pending.socket, (ip, room), env) else {
            rooms.absent(room, counts, env);
            return None;
        };
        let first_check = pending.grant.ends.min(env.now.tick.after(PING_INTERVAL));
        let extension = settings.extension.clone();
        let room_slot = rooms.enter(room, settings);
        let slot = self.table.insert(Connection {
            file,
            reservation,
            ip,
            share: pending.share,
            shard_room: room_slot,
            member: None,
            session: Session::new(pending.grant, pending.agreement, env.now.tick),
            lane: None,
            tls: pending.tls,
            traits: pending.traits,
            receiving: Receiving::Ended,
            sending: Sending::Idle,
            continues: false,
            phase: Phase::Open,
            began: env.now.tick,
            progress: env.now.tick,
            next_check: Tick::from_nanos(u64::MAX),
        });
        let connection = self.table.get_mut(slot).expect("just inserted");
        let lane = connection.lane();
        let greeted = lane.push(|out| out.extend_from_slice(&pending.greeting));
        debug_assert!(greeted.is_ok(), "a greeting fits an empty lane");
        if let Some(shard_room) = rooms.get_mut(room_slot) {
            greet(lane, extension.as_deref());
            replay(lane, pending.arrival.replay, env);
            shard_room.heard = pending.arrival.heard;
            let member = (slot.to_bits(), pending.user_hash);
            join(connection, member, shard_room, env);
        }
        if !self.is_quiet {
            connection.receiving = Receiving::Armed;
            self.outbound.io.receive(&connection.file, slot.to_bits());
        }
        log_began(&connection.session, room, ip);
        let token = connection.traits.as_ref().and_then(|traits| traits.token);
        self.open += 1;
        count_opened(pending.accepted, deflated, env);
        schedule(&mut self.wheel, slot, connection, first_check);
        self.note_token(token, slot);
        self.deliver_own(slot, rooms, env);
        self.take_leftover(slot, pending.leftover, rooms, env);
        Some(slot)
    }

    /// Takes what came behind the handshake.
    fn take_leftover(
        &mut self,
        slot: ConnectionSlot<W>,
        mut leftover: Vec<u8>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        if !leftover.is_empty() {
            let len = leftover.len();
            leftover.resize(len + PARSE_PADDING_BYTES, 0);
            self.take_plain(slot, &mut leftover, len, rooms, env);
        }
    }

    /// Installs a socket in the rings; `None`: the kernel has no place for it.
    fn install_file(
        &mut self,
        socket: W::Socket,
        (ip, room): (IpAddr, RoomId),
        env: &mut Env<W::Socket>,
    ) -> Option<W::FixedFile> {
        let installed = self.outbound.io.install(socket);
        if let Err(error) = &installed {
            if let Some(suppressed) = env.lines.admit(Kind::HandshakeLimit, env.now.tick) {
                tracing::error!(%ip, %room, %error, suppressed, "the kernel has no place for a connection");
            }
            env.metrics.rejected_limit.inc();
        }
        installed.ok()
    }

    /// Sends what is due to a connection, unless a send is pending.
    fn deliver(&mut self, slot: ConnectionSlot<W>, rooms: &mut Rooms, env: &mut Env<W::Socket>) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        let membership = membership(connection, rooms);
        let delivered = self.outbound.deliver(slot, connection, membership, env);
        self.follow(slot, delivered, rooms, env);
    }

    /// As [`Connections::deliver`], for frames of this connection alone. While no send begins, they wait for
    /// [`Connections::wake`].
    fn deliver_own(
        &mut self,
        slot: ConnectionSlot<W>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        if !self.outbound.is_parked {
            self.deliver(slot, rooms, env);
        }
    }

    /// Does what a delivery leaves to be done.
    #[inline]
    fn follow(
        &mut self,
        slot: ConnectionSlot<W>,
        delivered: Delivered,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        match delivered {
            Delivered::Done => {}
            // What is being sent is our Close frame, behind all that was sent before.
            Delivered::Finished => self.leave_at(slot, true, rooms, env),
            Delivered::Cut(reason) => self.cut(slot, reason, rooms, env),
        }
    }

    /// Takes a connection out of its room's audience.
    fn leave(&mut self, slot: ConnectionSlot<W>, rooms: &mut Rooms, env: &mut Env<W::Socket>) {
        // How much of a send that has begun the kernel took is not known.
        let is_sure = self.table.get(slot).is_some_and(|left| !left.has_send());
        self.leave_at(slot, is_sure, rooms, env);
    }

    /// The same where it is known whether the kernel took all frames of the room that were given to it.
    fn leave_at(
        &mut self,
        slot: ConnectionSlot<W>,
        is_sure: bool,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        rooms.note_departure((connection, is_sure), env);
        let Some(member) = connection.member.take() else {
            return;
        };
        let counts = connection.counts();
        let moved = rooms.leave(connection.shard_room, member, counts, env);
        if let Some(key) = moved
            && let Some(other) = self.table.get_mut(Slot::from_bits(key))
        {
            other.member = Some(member);
        }
    }

    /// Asserts the invariants above, each connection's own, and those between connections and
    /// rooms. It costs a pass over all connections and all members.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    pub(super) fn check(&self, rooms: &Rooms) {
        let mut members = 0;
        for slot in self.table.slots() {
            let connection = self.table.get(slot).expect("a living slot");
            connection.check(self.is_quiet);
            if let Some(member) = connection.member {
                let room = rooms
                    .get(connection.shard_room)
                    .expect("a member's room is here");
                assert_eq!(room.audience.key(member), slot.to_bits(), "it points back");
                let is_sending = room.audience.is_sending(member);
                assert_eq!(is_sending, connection.is_sending(), "both know of the send");
                members += 1;
            }
            let queued = self
                .outbound
                .continuations()
                .filter(|queued| queued.slot == slot);
            let (rests, without) =
                queued.fold((0, 0), |(rests, without), queued| match queued.rest {
                    Some(_) => (rests + 1, without),
                    None => (rests, without + 1),
                });
            assert_eq!(
                rests,
                usize::from(connection.sending == Sending::Queued),
                "its rest is queued once"
            );
            assert_eq!(
                without,
                usize::from(connection.continues),
                "it is queued once"
            );
        }
        assert_eq!(rooms.members(), members, "every member has a connection");
        let connections = self.table.slots().filter_map(|slot| self.table.get(slot));
        let open = connections
            .filter(|connection| connection.is_open())
            .count();
        assert_eq!(self.open, open, "sessions that go on are counted");
    }
}

/// A connection's place in its room, while it is a member.
fn membership<'a, F>(
    connection: &Connection<F>,
    rooms: &'a mut Rooms,
) -> super::outbound::Membership<'a> {
    let member = connection.member?;
    let shard_room = rooms.get_mut(connection.shard_room);
    debug_assert!(shard_room.is_some(), "a member's room is here");
    Some((member, &mut shard_room?.audience))
}

/// Checks a connection at `due`, if no earlier check is scheduled.
fn schedule<F>(
    wheel: &mut Wheel<Slot<Connection<F>>>,
    slot: Slot<Connection<F>>,
    connection: &mut Connection<F>,
    due: Tick,
) {
    if due < connection.next_check {
        connection.next_check = due;
        wheel.insert(due, slot);
    }
}

/// Makes a connection with this key a member of its room.
fn join<F, S>(
    connection: &mut Connection<F>,
    (key, user_hash): (Key, u32),
    shard_room: &mut ShardRoom,
    env: &Env<S>,
) {
    let deflated = connection.session.window_bits().is_some();
    let member = shard_room.audience.join(key, user_hash, deflated);
    connection.member = Some(member);
    mark(connection, shard_room, env);
    note_replay(connection, shard_room);
}

/// Puts what the room remembers behind the greeting.
fn replay<S>(lane: &mut Lane, replay: Option<Box<Replay>>, env: &mut Env<S>) {
    if let Some(replay) = replay {
        let told = lane.push(|out| replay.announce(out, env.ids.next_id(), env.now.unix));
        debug_assert!(told.is_ok(), "an event fits behind a greeting");
        lane.set_replay(replay.frames);
    }
}

/// Notes that remembered frames wait for a member, if they do: what is taken back meanwhile is cut out of them.
fn note_replay<F>(connection: &Connection<F>, shard_room: &mut ShardRoom) {
    let waits = connection
        .lane
        .as_ref()
        .is_some_and(|lane| lane.has_replay());
    if let (Some(member), true) = (connection.member, waits) {
        shard_room.audience.replay_waits(member);
    }
}

/// Notes what is known of a new member's user.
fn mark<F, S>(connection: &mut Connection<F>, shard_room: &mut ShardRoom, env: &Env<S>) {
    let Some(member) = connection.member else {
        return;
    };
    if connection.counts().hidden > 0 {
        shard_room.audience.hide(member);
    }
    if Speaker::of(connection.session.capabilities(), None).is_crew() {
        shard_room.audience.note_crew(member);
    }
    let bans = &env.budgets.bans;
    if !bans.is_empty() {
        let user = encode::sender_name(connection.session.sender_json());
        if bans.of_user(shard_room.id, &user, env.now.tick).is_some() {
            connection.hold();
        }
    }
}

/// Tells who joins of the room's state, the first frame behind the `101`, and of its open tallies.
fn greet(lane: &mut Lane, extension: Option<&Extension>) {
    if let Some(state) = extension.and_then(Extension::state) {
        let told = lane.push(|out| out.extend_from_slice(state));
        debug_assert!(told.is_ok(), "a state fits behind a greeting");
    }
    let tallies = extension
        .map(Extension::tallies)
        .filter(|frames| !frames.is_empty());
    if let Some(tallies) = tallies {
        let told = lane.push(|out| out.extend_from_slice(tallies));
        debug_assert!(told.is_ok(), "a few tallies fit behind a state");
    }
}

/// Counts a connection that is admitted.
fn count_opened<S>(accepted: Tick, deflated: bool, env: &Env<S>) {
    let metrics = &env.metrics;
    metrics.opened.inc();
    metrics.handshake.observe(env.now.tick.since(accepted));
    metrics.opened_deflated.add(deflated.into());
}
