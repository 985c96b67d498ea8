//! How a drain lets viewers go: FIN behind the last whole frame once they have everything that was said,
//! and requests are taken until they have answered it.
//!
//! IVS Chat's clients take any Close frame as final, and reconnect after a lost connection.

use super::{Connections, schedule};
use crate::net::io::{Io, Shutdown};
use crate::shard::close_reason::CloseReason;
use crate::shard::connection::{Phase, Sending};
use crate::shard::core::drain::Drain;
use crate::shard::core::env::Env;
use crate::shard::core::log_lines::log_ended;
use crate::shard::core::outbound::ConnectionSlot;
use crate::shard::core::rooms::Rooms;
use uproar_proto::base::limits::{CUT_LINGER, CUT_WAIT_MAX, DRAIN_LOOKS_PER_TURN_MAX};

impl<W: Io> Connections<W> {
    /// Takes the turns that are due in a drain; returns whether some are left for the next turn of the
    /// shard, because the positions that one turn looks at are limited.
    pub(in crate::shard::core) fn drain(
        &mut self,
        drain: &mut Drain,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) -> bool {
        let now = env.now.tick;
        let positions = self.table.positions();
        for _ in 0..DRAIN_LOOKS_PER_TURN_MAX {
            if drain.due(now) == 0 {
                return false;
            }
            let slot = self.table.at(drain.position(positions));
            if slot.is_some_and(|slot| self.release(slot, rooms, env)) {
                drain.released();
            } else if drain.looked_in_vain(positions) {
                return false;
            }
        }
        true
    }

    /// A viewer's turn in a drain has come; returns `false` if its session does not go on anyway.
    fn release(
        &mut self,
        slot: ConnectionSlot<W>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) -> bool {
        let Some(connection) = self.table.get_mut(slot) else {
            return false;
        };
        if connection.phase != Phase::Open {
            return false;
        }
        let deadline = env.now.tick.after(CUT_WAIT_MAX);
        connection.phase = Phase::Released { deadline };
        schedule(&mut self.wheel, slot, connection, deadline);
        self.end_or_remove(slot, rooms, env);
        true
    }

    /// Lets the session of every viewer go on whose turn has come and who was not cut yet.
    pub(in crate::shard::core) fn keep_released(&mut self) {
        let all: Vec<_> = self.table.slots().collect();
        for slot in all {
            if let Some(connection) = self.table.get_mut(slot)
                && matches!(connection.phase, Phase::Released { .. })
            {
                connection.phase = Phase::Open;
            }
        }
    }

    /// Whether a released viewer has everything that was said.
    pub(super) fn has_everything(&self, slot: ConnectionSlot<W>, rooms: &Rooms) -> bool {
        let Some(connection) = self.table.get(slot) else {
            return false;
        };
        let is_behind = || {
            let room = rooms.get(connection.shard_room).zip(connection.member);
            room.is_some_and(|(room, member)| {
                room.audience.cursor(member) < room.audience.log().head()
            })
        };
        let waits = connection.is_sending() || connection.continues || connection.lane.is_some();
        matches!(connection.phase, Phase::Released { .. }) && !waits && !is_behind()
    }

    /// Sends FIN to a released viewer. It stays a member until its entry is removed, so that the room of
    /// its last requests is found; its place there says that it is sending, so that nothing is sent to it.
    pub(super) fn end_writing(
        &mut self,
        slot: ConnectionSlot<W>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        let shard_room = rooms.get_mut(connection.shard_room);
        let room = shard_room.as_ref().map(|shard_room| shard_room.id);
        log_ended(&connection.session, room, connection.ip, CloseReason::Drain);
        env.metrics.closed(CloseReason::Drain).inc();
        self.open -= 1;
        self.outbound.io.shutdown(&connection.file, Shutdown::Write);
        connection.sending = Sending::Over;
        if let Some((shard_room, member)) = shard_room.zip(connection.member) {
            shard_room.audience.send_started(member);
        }
        let deadline = env.now.tick.after(CUT_LINGER);
        connection.phase = Phase::HalfClosed { deadline };
        schedule(&mut self.wheel, slot, connection, deadline);
    }

    /// A released viewer's time is over: FIN if it has everything, else it is cut.
    pub(super) fn end_released(
        &mut self,
        slot: ConnectionSlot<W>,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        if self.has_everything(slot, rooms) {
            self.end_writing(slot, rooms, env);
        } else {
            self.cut(slot, CloseReason::Drain, rooms, env);
        }
    }
}
