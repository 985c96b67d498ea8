//! Connections of a shard that freezes: no receive, then no send.

use std::time::Duration;

use super::{Connections, schedule};
use crate::net::io::Io;
use crate::shard::close_reason::CloseReason;
use crate::shard::connection::{Phase, Receiving, Sending};
use crate::shard::core::env::Env;
use crate::shard::core::rooms::Rooms;
use uproar_proto::base::clock::Tick;

impl<W: Io> Connections<W> {
    /// Cancels every receive and arms none until [`Connections::wake`]. Connections of TLS 1.2 are
    /// cut: rustls keeps what they are sealed with.
    pub(in crate::shard::core) fn quieten(&mut self, rooms: &mut Rooms, env: &mut Env<W::Socket>) {
        self.is_quiet = true;
        self.receives_left = 0;
        let all: Vec<_> = self.table.slots().collect();
        for slot in &all {
            let connection = self.table.get(*slot);
            let tls = connection.and_then(|connection| connection.tls.as_ref());
            if tls.is_some_and(|tls| !tls.is_carried()) {
                self.cut(*slot, CloseReason::Drain, rooms, env);
            }
        }
        for slot in all {
            let Some(connection) = self.table.get_mut(slot) else {
                continue;
            };
            if connection.receiving == Receiving::Ended {
                continue;
            }
            let io = &mut self.outbound.io;
            io.cancel_receive(&connection.file, slot.to_bits());
            self.receives_left += 1;
        }
    }

    /// Whether no receive is left in the kernel, and none is armed.
    pub(in crate::shard::core) fn is_quiet(&self) -> bool {
        self.is_quiet && self.receives_left == 0
    }

    /// Begins no send any more until [`Connections::wake`]: what is due, and what sends could not send, waits in
    /// the queue of continuations.
    pub(in crate::shard::core) fn park(&mut self) {
        self.outbound.is_parked = true;
        let _unused = self.outbound.take_budget();
        self.outbound.io.cancel_waits();
    }

    /// Whether the kernel has a send that no wait for a writable socket delays. It costs a pass over all connections.
    pub(in crate::shard::core) fn has_sends_in_kernel(&self) -> bool {
        self.any(|sending| sending == Sending::InKernel)
    }

    /// Whether the kernel has no send and no wait for a writable socket. It costs a pass over all connections.
    pub(in crate::shard::core) fn is_parked(&self) -> bool {
        let in_kernel = |sending| matches!(sending, Sending::InKernel | Sending::WaitsWritable);
        self.outbound.is_parked && !self.any(in_kernel)
    }

    fn any(&self, is_it: impl Fn(Sending) -> bool) -> bool {
        let mut all = self.table.slots().filter_map(|slot| self.table.get(slot));
        all.any(|connection| is_it(connection.sending))
    }

    /// Receives and sends again, after a pause that counts for no deadline.
    pub(in crate::shard::core) fn wake(&mut self, pause: Duration, now: Tick) {
        (self.is_quiet, self.outbound.is_parked) = (false, false);
        let all: Vec<_> = self.table.slots().collect();
        for slot in all {
            let Some(connection) = self.table.get_mut(slot) else {
                continue;
            };
            if connection.phase == Phase::Dead {
                continue;
            }
            connection.postpone(pause, now);
            let next_check = connection.next_check.after(pause);
            let next_check = next_check.min(connection.session.ends());
            connection.next_check = Tick::from_nanos(u64::MAX);
            schedule(&mut self.wheel, slot, connection, next_check);
            if connection.receiving == Receiving::Ended {
                connection.receiving = Receiving::Armed;
                self.outbound.io.receive(&connection.file, slot.to_bits());
            }
            if connection.lane.is_some() && !connection.is_sending() {
                self.outbound.queue_more(slot, connection);
            }
        }
    }

    /// Begins as the shard of a process that takes over: frozen, without connections.
    pub(in crate::shard::core) fn begin_frozen(&mut self) {
        (self.is_quiet, self.outbound.is_parked) = (true, true);
        self.receives_left = 0;
    }

    /// Asserts that the kernel has nothing but shutdowns, for tests.
    ///
    /// # Panics
    ///
    /// If it has.
    pub(in crate::shard::core) fn check_frozen(&self) {
        assert!(self.is_quiet() && self.is_parked(), "nothing is pending");
        let mut all = self.table.slots().filter_map(|slot| self.table.get(slot));
        assert!(
            all.all(|connection| connection.receiving == Receiving::Ended),
            "no receive is left"
        );
    }
}
