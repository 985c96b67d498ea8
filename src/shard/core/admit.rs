//! Admission of pending connections: single use, limits, placement, installation.

use super::refused::log_began;
use super::{Core, Tick};
use crate::logging::Kind;
use crate::net::io::Io;
use crate::shard::close_reason::CloseReason;
use crate::shard::command::{AdmitError, Command, Departures, PendingConnection};
use crate::shard::connection::{Connection, Phase, Receiving, Sending};
use crate::shard::journal::TokenUse;
use crate::shard::mailbox::MailboxSender;
use crate::shard::settings::Reservation;
use crate::shard::shard_room::ShardRoom;
use crate::shard::tokens::Redeemed;
use uproar_proto::base::id::RoomId;
use uproar_proto::room::RoomSettings;
use uproar_proto::session::Session;

impl<W: Io> Core<W> {
    /// Judges this turn's pending connections together: one write of the journal for all, before any `101`.
    pub(super) fn admit_all(&mut self) {
        if self.joins.is_empty() {
            return;
        }
        let joins = std::mem::take(&mut self.joins);
        let mut admitted = Vec::with_capacity(joins.len());
        let mut uses = Vec::with_capacity(joins.len());
        for pending in joins {
            match self.judge(&pending) {
                Ok(reservation) => {
                    let PendingConnection {
                        token,
                        room,
                        token_expires: expires,
                        ..
                    } = *pending;
                    uses.push(TokenUse {
                        token,
                        room,
                        expires,
                    });
                    admitted.push((pending, reservation));
                }
                Err(error) => self.reject(pending, error),
            }
        }
        if let Err(error) = self.record.record(&uses) {
            self.metrics.journal_errors.inc();
            if let Some(suppressed) = self.lines.admit(Kind::Journal, self.now.tick) {
                tracing::error!(%error, suppressed, "token uses cannot be written down: refusing connections");
            }
            for (pending, _reservation) in admitted {
                // No use took effect: once the disk works again, the token still opens a connection.
                self.used.take_back(pending.token, pending.token_expires);
                self.reject(pending, AdmitError::NotRecorded);
            }
            return;
        }
        for (pending, reservation) in admitted {
            self.place(pending, reservation);
        }
    }

    fn judge(&mut self, pending: &PendingConnection<W::Socket>) -> Result<Reservation, AdmitError> {
        if !self.rooms.contains_key(&pending.room) {
            return Err(AdmitError::NoSuchRoom);
        }
        let reservation = Reservation::take(&self.budgets, self.settings.connections_max)
            .ok_or(AdmitError::TooManyConnections)?;
        let (token, expires) = (pending.token, pending.token_expires);
        match self.used.redeem(token, expires, self.now) {
            Redeemed::First => Ok(reservation),
            Redeemed::Again => Err(AdmitError::TokenUsed),
            Redeemed::Full => Err(AdmitError::TooManyTokens),
        }
    }

    /// Rejects a pending connection: it is counted here and answered by the loop.
    pub(super) fn reject(&mut self, pending: Box<PendingConnection<W::Socket>>, error: AdmitError) {
        let figure = match error {
            AdmitError::TokenUsed => &self.metrics.rejected_used,
            AdmitError::NoSuchRoom => &self.metrics.rejected_room,
            AdmitError::TooManyConnections
            | AdmitError::TooManyTokens
            | AdmitError::NotRecorded
            | AdmitError::Busy => &self.metrics.rejected_limit,
            AdmitError::TooManyOfAddress => &self.metrics.rejected_address,
        };
        figure.inc();
        self.rejected.push((pending, error));
    }

    fn place(&mut self, pending: Box<PendingConnection<W::Socket>>, reservation: Reservation) {
        let slot = self.rooms.get(&pending.room);
        let shard_room = slot.and_then(|slot| self.shard_rooms.get_mut(*slot));
        let Some(ShardRoom {
            home: Some(home),
            settings,
            ..
        }) = shard_room
        else {
            // The room was deleted within this turn.
            self.reject(pending, AdmitError::NoSuchRoom);
            return;
        };
        // A shard that does not keep up gets no more members.
        let wanted = home.place(self.id, self.settings.stripe_members_min);
        let has_room = self
            .mailboxes
            .get(wanted)
            .is_some_and(MailboxSender::has_room);
        let shard = if has_room { wanted } else { self.id };
        let deflated = pending.agreement.is_some();
        home.arrives(shard, deflated);
        let settings = *settings;
        if shard == self.id {
            self.install(*pending, settings, reservation);
        } else {
            self.send_to(shard, Command::Install(pending, settings, reservation));
        }
    }

    /// Takes back the count of a member that could not be installed.
    fn absent(&mut self, room: RoomId, deflated: bool) {
        let home = self.settings.home(room);
        if home == self.id {
            self.members_left(room, home, Departures::one(deflated));
        } else {
            self.report_departure(room, Departures::one(deflated));
        }
    }

    /// Makes the connection a member here: it gets the greeting, then every message from now on.
    pub(super) fn install(
        &mut self,
        pending: PendingConnection<W::Socket>,
        settings: RoomSettings,
        reservation: Reservation,
    ) {
        let PendingConnection {
            socket,
            ip,
            tls,
            greeting,
            mut leftover,
            grant,
            room,
            user_hash,
            agreement,
            share,
            ..
        } = pending;
        let file = match self.io.install(socket) {
            Ok(file) => file,
            Err(error) => {
                if let Some(suppressed) = self.lines.admit(Kind::HandshakeLimit, self.now.tick) {
                    tracing::error!(%ip, %room, %error, suppressed, "the kernel has no place for a connection");
                }
                self.metrics.rejected_limit.inc();
                self.absent(room, agreement.is_some());
                return;
            }
        };
        let shard_rooms = &mut self.shard_rooms;
        let room_slot = *self
            .rooms
            .entry(room)
            .or_insert_with(|| shard_rooms.insert(ShardRoom::new(room, settings, None)));
        let ends = grant.ends;
        let mut connection = Connection {
            file,
            reservation,
            ip,
            share,
            shard_room: room_slot,
            member: None,
            session: Session::new(grant, agreement, self.now.tick),
            lane: None,
            tls,
            receiving: Receiving::Armed,
            sending: Sending::Idle,
            continues: false,
            phase: Phase::Open,
            progress: self.now.tick,
            next_check: Tick::from_nanos(u64::MAX),
        };
        let greeted = connection
            .lane()
            .push(|out| out.extend_from_slice(&greeting));
        debug_assert!(greeted.is_ok(), "a greeting fits an empty lane");
        let slot = self.connections.insert(connection);
        let connection = self.connections.get_mut(slot).expect("just inserted");
        if let Some(shard_room) = self.shard_rooms.get_mut(room_slot) {
            connection.member = Some(shard_room.audience.join(
                slot.to_bits(),
                user_hash,
                agreement.is_some(),
            ));
        }
        self.io.receive(&connection.file, slot.to_bits());
        log_began(&connection.session, room, ip);
        self.metrics.opened.inc();
        self.metrics.opened_deflated.add(agreement.is_some().into());
        let first = ends.min(
            self.now
                .tick
                .after(uproar_proto::base::limits::PING_INTERVAL),
        );
        self.schedule(slot, first);
        self.deliver(slot);
        if !leftover.is_empty() {
            let len = leftover.len();
            leftover.resize(len + uproar_proto::base::limits::PARSE_PADDING_BYTES, 0);
            self.take_plain(slot, &mut leftover, len);
        }
        if self.stopping {
            self.kill(slot, CloseReason::Drain);
        }
    }
}
