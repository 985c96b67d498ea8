//! Admission of pending connections: bans, limits, single use of tokens, the choice of a shard.

use std::net::IpAddr;

use super::env::Env;
use super::rooms::Rooms;
use crate::logging::Kind;
use crate::shard::cluster::{Search, ToCluster, TokenOutcome};
use crate::shard::command::{AdmitError, Command, PendingConnection, Request};
use crate::shard::early::Early;
use crate::shard::journal::beside::Tail;
use crate::shard::journal::{Record, TokenUse};
use crate::shard::mailbox::Full;
use crate::shard::parked::Parked;
use crate::shard::settings::Reservation;
use crate::shard::tokens::{Redeemed, UsedTokens};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::UNKNOWN_ROOM_WAIT;
use uproar_proto::chat::encode;
use uproar_proto::room::RoomSettings;
use uproar_proto::token::TokenId;

/// Pending connections and used tokens of one shard.
pub(super) struct Admission<S> {
    // Connections to rooms at home here, judged together when the turn is settled.
    pending: Vec<Box<PendingConnection<S>>>,
    // Those that were rejected, until the driver takes and answers them.
    rejected: Vec<Rejected<S>>,
    // Used tokens of all rooms at home here. A token is in it before its connection is placed.
    used: UsedTokens,
    // Writes a token's use down before its connection is placed.
    record: Box<dyn Record + Send>,
    // On a node of a cluster: those whose token's use is written down here, until the cluster has said
    // whether it is the first one.
    parked: Option<Box<Parked<Admitted<S>>>>,
    // On a node of a cluster: those whose room is not known here.
    early: Early<Box<PendingConnection<S>>>,
}

/// A connection that was not admitted, and why.
pub(super) type Rejected<S> = (Box<PendingConnection<S>>, AdmitError);

/// A connection that may join its room, whose token's use is written down.
pub(super) struct Admitted<S> {
    /// The connection.
    pub(super) pending: Box<PendingConnection<S>>,
    /// Its share of the limit on connections.
    pub(super) reservation: Reservation,
}

impl<S> Admission<S> {
    /// Makes an admission without pending connections; `used` are the tokens that the journal
    /// tells. In a cluster `parked_max` connections may wait for it.
    pub(super) fn new(
        used: UsedTokens,
        record: Box<dyn Record + Send>,
        parked_max: Option<usize>,
    ) -> Self {
        Self {
            pending: Vec::new(),
            rejected: Vec::new(),
            used,
            record,
            parked: parked_max.map(|most| Box::new(Parked::new(most))),
            early: Early::default(),
        }
    }

    /// Takes a connection to a room at home here.
    pub(super) fn push(&mut self, pending: Box<PendingConnection<S>>) {
        self.pending.push(pending);
    }

    /// Hands a connection to its room's home: this shard or another.
    pub(super) fn enter(&mut self, pending: Box<PendingConnection<S>>, env: &mut Env<S>) {
        let home = env.settings.home(pending.room);
        if home == env.id {
            self.pending.push(pending);
        } else if let Err(Full(Request::Join(pending))) =
            env.outbox.request(home, Request::Join(pending))
        {
            env.metrics.mailbox_full.inc();
            self.reject(pending, AdmitError::Busy, env);
        }
    }

    /// Takes a rejected connection, if there is one.
    pub(super) fn next_rejected(&mut self) -> Option<Rejected<S>> {
        self.rejected.pop()
    }

    /// Judges the pending connections together, with one write of the journal for all. Each
    /// admitted one must be placed now; in a cluster none is, they are parked until it has told of their tokens.
    pub(super) fn judge_all(&mut self, rooms: &Rooms, env: &mut Env<S>) -> Vec<Admitted<S>> {
        if self.pending.is_empty() {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.pending);
        let mut admitted = Vec::with_capacity(all.len());
        let mut uses = Vec::with_capacity(all.len());
        for mut pending in all {
            pending.arrival.reopens |= self.reopens(&pending.token, env);
            match self.judge(&pending, admitted.len(), rooms, env) {
                Ok(reservation) => {
                    uses.push(TokenUse {
                        token: pending.token,
                        room: pending.room,
                        expires: pending.token_expires,
                    });
                    admitted.push(Admitted {
                        pending,
                        reservation,
                    });
                }
                Err(AdmitError::NoSuchRoom) if self.may_be_early() => {
                    let deadline = env.now.tick.after(UNKNOWN_ROOM_WAIT);
                    self.early.push(pending.room, deadline, pending);
                }
                Err(error) => self.reject(pending, error, env),
            }
        }
        self.search(env);
        if let Err(error) = self.record.record(&uses) {
            env.metrics.journal_errors.inc();
            if let Some(suppressed) = env.lines.admit(Kind::Journal, env.now.tick) {
                tracing::error!(%error, suppressed, "token uses cannot be written down: refusing connections");
            }
            for Admitted { pending, .. } in admitted.drain(..) {
                // No use took effect: once the disk works again, the token still opens a
                // connection.
                self.used.take_back(pending.token, pending.token_expires);
                self.reject(pending, AdmitError::NotRecorded, env);
            }
        }
        if let Some(parked) = &mut self.parked {
            for admitted in admitted.drain(..) {
                let PendingConnection {
                    token,
                    token_expires: expires,
                    ..
                } = *admitted.pending;
                let claim = parked.park(admitted, env.now.tick);
                let item = ToCluster::UseToken {
                    claim,
                    token,
                    expires,
                };
                env.outbox.tell_cluster(item);
            }
        }
        admitted
    }

    /// Why a connection to an unknown room is not judged: on a node with too many that wait, nobody knows about the room.
    fn unknown_room(&self) -> AdmitError {
        if self.parked.is_some() && !self.may_be_early() {
            AdmitError::Busy
        } else {
            AdmitError::NoSuchRoom
        }
    }

    /// Whether a connection to an unknown room may wait for it.
    fn may_be_early(&self) -> bool {
        let parked = self.parked.as_ref();
        parked.is_some_and(|parked| !parked.is_full(self.early.len()))
    }

    /// Lets the connections in that waited for this room; call it when the room is known. They are judged with
    /// the turn's others.
    pub(super) fn enter_early(&mut self, room: RoomId) {
        self.pending.extend(self.early.take(room));
    }

    /// Asks for the rooms that others wait for, if they do and nobody has asked.
    fn search(&mut self, env: &mut Env<S>) {
        if let Some(search) = self.early.search() {
            env.outbox.tell_cluster(ToCluster::Search(search));
        }
    }

    /// Every room is known that existed when this was asked.
    pub(super) fn searched(&mut self, search: Search, env: &mut Env<S>) {
        for pending in self.early.searched(search) {
            self.reject(pending, AdmitError::NoSuchRoom, env);
        }
        self.search(env);
    }

    /// Takes the cluster's word on a token; returns the connection if it may be placed now.
    pub(super) fn confirm(
        &mut self,
        claim: u64,
        outcome: TokenOutcome,
        env: &mut Env<S>,
    ) -> Option<Admitted<S>> {
        // It may have waited for too long.
        let admitted = self.parked.as_mut()?.take(claim)?;
        match outcome {
            TokenOutcome::First => return Some(admitted),
            TokenOutcome::Again if env.settings.tokens_reopen => {
                // Another node may have the connection before.
                let token = admitted.pending.token;
                env.outbox.tell_cluster(ToCluster::Replace(token));
                return Some(admitted);
            }
            TokenOutcome::Again => self.reject(admitted.pending, AdmitError::TokenUsed, env),
            TokenOutcome::Unknown => self.give_up(admitted, env),
        }
        None
    }

    /// Rejects connections on whose tokens or rooms the cluster said nothing; returns when to call it again.
    pub(super) fn expire_parked(&mut self, env: &Env<S>) -> Option<Tick> {
        while let Some(admitted) = self.parked.as_mut()?.overdue(env.now.tick) {
            self.give_up(admitted, env);
        }
        while let Some(pending) = self.early.overdue(env.now.tick) {
            self.reject(pending, AdmitError::Unconfirmed, env);
        }
        let parked = self.parked.as_ref()?;
        env.metrics.cluster_parked.set_len(self.parked());
        let early = self.early.next_deadline();
        [parked.next_deadline(), early].into_iter().flatten().min()
    }

    /// Rejects a connection whose token's use may be in the cluster's log or not. Only the log knows, so that the token
    /// is not used as far as this node is concerned.
    fn give_up(&mut self, Admitted { pending, .. }: Admitted<S>, env: &Env<S>) {
        self.used.take_back(pending.token, pending.token_expires);
        self.reject(pending, AdmitError::Unconfirmed, env);
    }

    /// Number of connections that wait for the cluster.
    pub(super) fn parked(&self) -> usize {
        self.parked.as_ref().map_or(0, |parked| parked.len()) + self.early.len()
    }

    /// Asserts the invariants of what is parked.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    pub(super) fn check(&self) {
        if let Some(parked) = &self.parked {
            parked.check();
        }
    }

    /// Whether a used token may open a connection again.
    fn reopens(&self, token: &TokenId, env: &Env<S>) -> bool {
        env.settings.tokens_reopen && self.used.remembers(token)
    }

    fn judge(
        &mut self,
        pending: &PendingConnection<S>,
        before: usize,
        rooms: &Rooms,
        env: &Env<S>,
    ) -> Result<Reservation, AdmitError> {
        if rooms.find(pending.room).is_none() {
            return Err(self.unknown_room());
        }
        let sender_json = &pending.grant.sender_json;
        if is_banned(pending.room, sender_json, pending.ip, env) {
            return Err(AdmitError::Banned);
        }
        let parked = self.parked.as_ref();
        if parked.is_some_and(|parked| parked.is_full(before)) {
            return Err(AdmitError::Busy);
        }
        let reservation = Reservation::take(&env.budgets, env.settings.connections_max)
            .ok_or(AdmitError::TooManyConnections)?;
        let (token, expires) = (pending.token, pending.token_expires);
        match self.used.redeem(token, expires, env.now) {
            Redeemed::First => Ok(reservation),
            Redeemed::Again if self.reopens(&token, env) => Ok(reservation),
            Redeemed::Again => Err(AdmitError::TokenUsed),
            Redeemed::Full => Err(AdmitError::TooManyTokens),
        }
    }

    /// Chooses the shard of an admitted connection and sends it there; returns it, with its room's
    /// settings, if it is to be installed here.
    pub(super) fn place(
        &mut self,
        admitted: Admitted<S>,
        rooms: &mut Rooms,
        env: &mut Env<S>,
    ) -> Option<(Admitted<S>, RoomSettings)> {
        let Admitted {
            mut pending,
            reservation,
        } = admitted;
        if env.settings.tokens_reopen {
            pending.traits.get_or_insert_default().token = Some(pending.token);
        }
        let Some((shard, settings)) = rooms.place(&mut pending, env) else {
            // The room was deleted within this turn.
            self.reject(pending, AdmitError::NoSuchRoom, env);
            return None;
        };
        if shard == env.id {
            let admitted = Admitted {
                pending,
                reservation,
            };
            return Some((admitted, settings));
        }
        let install = Command::Install(pending, settings, reservation);
        env.outbox.send(shard, install);
        None
    }

    /// Rejects a pending connection: it is counted here and answered by the driver.
    pub(super) fn reject(
        &mut self,
        pending: Box<PendingConnection<S>>,
        error: AdmitError,
        env: &Env<S>,
    ) {
        let metrics = &env.metrics;
        let figure = match error {
            AdmitError::TokenUsed => &metrics.rejected_used,
            AdmitError::NoSuchRoom => &metrics.rejected_room,
            AdmitError::Banned => &metrics.rejected_banned,
            AdmitError::TooManyConnections
            | AdmitError::TooManyTokens
            | AdmitError::NotRecorded
            | AdmitError::Busy => &metrics.rejected_limit,
            AdmitError::TooManyOfAddress => &metrics.rejected_address,
            AdmitError::Unconfirmed => &metrics.rejected_unconfirmed,
        };
        figure.inc();
        self.rejected.push((pending, error));
    }

    /// Takes over what another process has recorded of tokens of rooms at home here.
    pub(super) fn take_journal(&mut self, tail: Tail, env: &Env<S>) {
        for mark in tail.marks {
            self.used.recover_mark(mark);
        }
        for TokenUse { token, expires, .. } in tail.uses {
            self.used.recover(token, expires, env.now);
        }
        self.record.adopt(tail.segments);
    }

    /// Forgets tokens that have expired, in the journal too. Call it once a second or so.
    pub(super) fn expire(&mut self, env: &Env<S>) {
        self.used.expire(env.now);
        let (forgotten, oldest) = (self.used.forgotten(), self.used.oldest());
        let journal_bytes = self.record.forgot(forgotten, oldest);
        env.metrics.journal_bytes.set(journal_bytes);
        env.metrics.tokens_remembered.set_len(self.used.len());
    }
}

/// Whether the user of a token, or the address, may not come to a room.
pub(super) fn is_banned<S>(room: RoomId, sender_json: &str, ip: IpAddr, env: &Env<S>) -> bool {
    let bans = &env.budgets.bans;
    !bans.is_empty() && bans.bars(room, &encode::sender_name(sender_json), ip, env.now.tick)
}
