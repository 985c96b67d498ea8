//! Newcomers: single use, limits, placement, installation.

use super::refused::say_began;
use super::{Core, Tick};
use crate::base::id::RoomId;
use crate::logging::Kind;
use crate::net::wire::Wire;
use crate::room::RoomSettings;
use crate::session::Session;
use crate::shard::command::{Command, Departures, Newcomer, Turned};
use crate::shard::connection::{Connection, Phase};
use crate::shard::ended::Ended;
use crate::shard::journal::TokenUse;
use crate::shard::local::Local;
use crate::shard::mailbox::Post;
use crate::shard::settings::Reservation;
use crate::shard::tokens::Redeemed;

impl<W: Wire> Core<W> {
    /// Decides this turn's newcomers together: one write of the journal for all, before any `101`.
    pub(super) fn admit_all(&mut self) {
        if self.joins.is_empty() {
            return;
        }
        let joins = std::mem::take(&mut self.joins);
        let mut admitted = Vec::with_capacity(joins.len());
        let mut uses = Vec::with_capacity(joins.len());
        for newcomer in joins {
            match self.judge(&newcomer) {
                Ok(reservation) => {
                    let Newcomer {
                        token,
                        room,
                        token_expires: expires,
                        ..
                    } = *newcomer;
                    uses.push(TokenUse {
                        token,
                        room,
                        expires,
                    });
                    admitted.push((newcomer, reservation));
                }
                Err(turned) => self.turn_away(newcomer, turned),
            }
        }
        if let Err(error) = self.record.record(&uses) {
            self.metrics.journal_errors.inc();
            if let Some(suppressed) = self.lines.admit(Kind::Journal, self.now.tick) {
                tracing::error!(%error, suppressed, "token uses cannot be written down: refusing connections");
            }
            for (newcomer, _reservation) in admitted {
                // Nothing took effect: once the disk works again the token still opens a connection.
                self.used.take_back(newcomer.token, newcomer.token_expires);
                self.turn_away(newcomer, Turned::NotRecorded);
            }
            return;
        }
        for (newcomer, reservation) in admitted {
            self.place(newcomer, reservation);
        }
    }

    fn judge(&mut self, newcomer: &Newcomer<W::Socket>) -> Result<Reservation, Turned> {
        if !self.rooms.contains_key(&newcomer.room) {
            return Err(Turned::NoSuchRoom);
        }
        let reservation = Reservation::take(&self.budgets, self.settings.connections_max)
            .ok_or(Turned::TooManyConnections)?;
        let (token, expires) = (newcomer.token, newcomer.token_expires);
        match self.used.redeem(token, expires, self.now) {
            Redeemed::First => Ok(reservation),
            Redeemed::Again => Err(Turned::TokenUsed),
            Redeemed::Full => Err(Turned::TooManyTokens),
        }
    }

    /// Turns a newcomer away: counted here, answered by the loop.
    pub(super) fn turn_away(&mut self, newcomer: Box<Newcomer<W::Socket>>, turned: Turned) {
        let figure = match turned {
            Turned::TokenUsed => &self.metrics.rejected_used,
            Turned::NoSuchRoom => &self.metrics.rejected_room,
            Turned::TooManyConnections
            | Turned::TooManyTokens
            | Turned::NotRecorded
            | Turned::Busy => &self.metrics.rejected_limit,
            Turned::TooManyOfAddress => &self.metrics.rejected_address,
        };
        figure.inc();
        self.turned.push((newcomer, turned));
    }

    fn place(&mut self, newcomer: Box<Newcomer<W::Socket>>, reservation: Reservation) {
        let slot = self.rooms.get(&newcomer.room);
        let local = slot.and_then(|slot| self.locals.get_mut(*slot));
        let Some(Local {
            home: Some(home),
            settings,
            ..
        }) = local
        else {
            // Deleted within this turn.
            self.turn_away(newcomer, Turned::NoSuchRoom);
            return;
        };
        // A shard that does not keep up gets nobody more.
        let wanted = home.place(self.id, self.settings.stripe_members_min);
        let has_room = self.posts.get(wanted).is_some_and(Post::has_room);
        let shard = if has_room { wanted } else { self.id };
        let deflated = newcomer.agreement.is_some();
        home.arrives(shard, deflated);
        let settings = *settings;
        if shard == self.id {
            self.install(*newcomer, settings, reservation);
        } else {
            self.send_to(shard, Command::Install(newcomer, settings, reservation));
        }
    }

    /// Takes back a member that was counted and could not come.
    fn absent(&mut self, room: RoomId, deflated: bool) {
        let home = self.settings.home(room);
        if home == self.id {
            self.members_left(room, home, Departures::one(deflated));
        } else {
            self.report_departure(room, Departures::one(deflated));
        }
    }

    /// Makes the connection a member here: greeting first, then everything said from now on.
    pub(super) fn install(
        &mut self,
        newcomer: Newcomer<W::Socket>,
        settings: RoomSettings,
        reservation: Reservation,
    ) {
        let Newcomer {
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
        } = newcomer;
        let seat = match self.wire.install(socket) {
            Ok(seat) => seat,
            Err(error) => {
                if let Some(suppressed) = self.lines.admit(Kind::HandshakeLimit, self.now.tick) {
                    tracing::error!(%ip, %room, %error, suppressed, "the kernel has no place for a connection");
                }
                self.metrics.rejected_limit.inc();
                self.absent(room, agreement.is_some());
                return;
            }
        };
        let locals = &mut self.locals;
        let local_slot = *self
            .rooms
            .entry(room)
            .or_insert_with(|| locals.insert(Local::new(room, settings, None)));
        let ends = grant.ends;
        let mut connection = Connection {
            seat,
            reservation,
            ip,
            share,
            local: local_slot,
            member: None,
            session: Session::new(grant, agreement, self.now.tick),
            lane: None,
            tls,
            receiving: true,
            sending: false,
            resumed: false,
            phase: Phase::Open,
            peer_done: false,
            progress: self.now.tick,
            next_check: Tick::from_nanos(u64::MAX),
        };
        let greeted = connection
            .lane()
            .push(|out| out.extend_from_slice(&greeting));
        debug_assert!(greeted.is_ok(), "a greeting fits an empty lane");
        let slot = self.connections.insert(connection);
        let connection = self.connections.get_mut(slot).expect("just inserted");
        if let Some(local) = self.locals.get_mut(local_slot) {
            connection.member = Some(local.audience.join(
                slot.to_bits(),
                user_hash,
                agreement.is_some(),
            ));
        }
        self.wire.receive(&connection.seat, slot.to_bits());
        say_began(&connection.session, room, ip);
        self.metrics.opened.inc();
        self.metrics.opened_deflated.add(agreement.is_some().into());
        let first = ends.min(self.now.tick.after(crate::base::limits::PING_INTERVAL));
        self.schedule(slot, first);
        self.deliver(slot);
        if !leftover.is_empty() {
            let len = leftover.len();
            leftover.resize(len + crate::base::limits::PARSE_PADDING_BYTES, 0);
            self.take_plain(slot, &mut leftover, len);
        }
        if self.stopping {
            self.kill(slot, Ended::Drain);
        }
    }
}
