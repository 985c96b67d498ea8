//! Continuations of sends: the rest of a partial send, and the next send after a completed one.
//!
//! They have a bounded share of a turn, as walks have: many slow readers do not delay the other members. If
//! the kernel waited for writable sockets by itself, it would continue thousands of long sends before it
//! looks at what was received meanwhile.

use super::Core;
use crate::net::io::{Io, Key, SendBuffer};
use crate::shard::connection::{Connection, Sending};
use uproar_proto::base::table::Slot;

/// A connection whose sends continue in its turn.
pub(super) struct Resumed<S> {
    slot: Slot<Connection<S>>,
    // The rest of a partial send; `None`: the connection may have more to deliver.
    rest: Option<SendBuffer>,
}

impl<W: Io> Core<W> {
    /// A socket has become writable: the waiting rest is sent in its turn.
    pub fn writable(&mut self, key: Key, outgoing: SendBuffer) {
        let (slot, rest) = (Slot::from_bits(key), Some(outgoing));
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.sending = Sending::Queued;
        }
        self.resumed.push_back(Resumed { slot, rest });
    }

    /// Continues after a completed send that may leave more due: now, or in its turn if this turn's budget is
    /// used up.
    pub(super) fn continue_sends(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        if let Some(left) = self.resumes_left.checked_sub(1) {
            self.resumes_left = left;
            self.deliver_or_end(slot);
        } else if let Some(connection) = self.connections.get_mut(slot)
            && !connection.continues
        {
            connection.continues = true;
            self.resumed.push_back(Resumed { slot, rest: None });
        }
    }

    /// Serves the queue: the rest of this turn's `RESUMES_PER_TURN_MAX`, and `more` on top.
    pub(super) fn resume(&mut self, more: usize) {
        for _ in 0..std::mem::take(&mut self.resumes_left) + more {
            let Some(Resumed { slot, rest }) = self.resumed.pop_front() else {
                return;
            };
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            if let Some(outgoing) = rest {
                connection.sending = Sending::InKernel;
                // The stall timer starts anew: the client must read again.
                connection.progress = self.now.tick;
                self.io.send(&connection.file, slot.to_bits(), outgoing);
            } else {
                connection.continues = false;
                self.deliver_or_end(slot);
            }
        }
    }

    fn deliver_or_end(&mut self, slot: Slot<Connection<W::FixedFile>>) {
        self.deliver(slot);
        self.end_stream(slot);
        self.reap(slot);
    }
}
