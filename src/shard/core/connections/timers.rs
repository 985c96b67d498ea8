//! Deadlines of connections: pings, silence, stalled sends, ends of sessions and of closing
//! handshakes.

use super::{Connections, schedule};
use crate::net::io::Io;
use crate::shard::close_reason::CloseReason;
use crate::shard::connection::{Connection, Phase};
use crate::shard::core::env::Env;
use crate::shard::core::outbound::ConnectionSlot;
use crate::shard::core::rooms::Rooms;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::SEND_STALL_MAX;
use uproar_proto::session::Due;
use uproar_proto::ws;

/// What a connection's deadlines require now.
enum Check {
    /// Nothing any more.
    Over,
    /// Another check at this instant.
    Again(Tick),
    /// A ping, and another check at this instant.
    Ping(Tick),
    /// The end of the session.
    EndSession,
    /// The end of a released viewer's time.
    EndReleased,
    /// To be cut.
    Cut(CloseReason),
}

impl<W: Io> Connections<W> {
    /// When to call [`Connections::check_deadlines`] next.
    pub(in crate::shard::core) fn next_deadline(&self) -> Tick {
        self.wheel.next_turn()
    }

    /// Checks the connections whose deadline has come.
    pub(in crate::shard::core) fn check_deadlines(
        &mut self,
        rooms: &mut Rooms,
        env: &mut Env<W::Socket>,
    ) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(env.now.tick, &mut due);
        for slot in due.drain(..) {
            self.check_one(slot, rooms, env);
        }
        self.due = due;
    }

    fn check_one(&mut self, slot: ConnectionSlot<W>, rooms: &mut Rooms, env: &mut Env<W::Socket>) {
        let now = env.now.tick;
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        if now < connection.next_check {
            return;
        }
        connection.next_check = Tick::from_nanos(u64::MAX);
        match required(connection, now) {
            Check::Over => {}
            Check::Again(next) => schedule(&mut self.wheel, slot, connection, next),
            Check::Ping(next) => {
                if connection.lane().push(ws::ping).is_err() {
                    return self.cut(slot, CloseReason::Slow, rooms, env);
                }
                schedule(&mut self.wheel, slot, connection, next);
                self.deliver_own(slot, rooms, env);
            }
            Check::EndSession => self.end_session(slot, rooms, env),
            Check::EndReleased => self.end_released(slot, rooms, env),
            Check::Cut(reason) => self.cut(slot, reason, rooms, env),
        }
    }
}

fn required<F>(connection: &mut Connection<F>, now: Tick) -> Check {
    match connection.phase {
        Phase::Dead => return Check::Over,
        // The reason was counted when the handshake began; the client did not end it in time.
        Phase::Closing { deadline, .. } if now >= deadline => {
            return Check::Cut(CloseReason::Client);
        }
        Phase::Released { deadline } if now >= deadline => return Check::EndReleased,
        // It was counted when our FIN was sent.
        Phase::HalfClosed { deadline } if now >= deadline => {
            return Check::Cut(CloseReason::Drain);
        }
        Phase::Closing { deadline, .. }
        | Phase::Released { deadline }
        | Phase::HalfClosed { deadline } => return Check::Again(deadline),
        Phase::Open => {}
    }
    if connection.is_queued() {
        // The server's own backlog does not count as a stall of the client.
        connection.progress = now;
    }
    let stall = connection.progress.after(SEND_STALL_MAX);
    let stall = connection.is_sending().then_some(stall);
    if stall.is_some_and(|stall| now >= stall) {
        return Check::Cut(CloseReason::Slow);
    }
    let or_stall = |next: Tick| stall.map_or(next, |stall| stall.min(next));
    match connection.session.due(now) {
        Due::Later(next) => Check::Again(or_stall(next)),
        Due::Ping(next) => Check::Ping(or_stall(next)),
        Due::Idle => Check::Cut(CloseReason::Idle),
        Due::SessionEnd => Check::EndSession,
    }
}
