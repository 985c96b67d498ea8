//! Sends that go on: the rest of what a full socket took in part, and what a completed send left to do.
//!
//! They have their share of a turn, like the walks: whoever reads slowly, and however many do, the others
//! are served in between. The kernel, left to wait for room by itself, goes on with thousands of long
//! sends before it looks at what was received meanwhile.

use super::Core;
use crate::base::table::Slot;
use crate::net::wire::{Key, Outgoing, Wire};
use crate::shard::connection::Connection;

/// Who stands in line.
pub(super) struct Resumed<S> {
    slot: Slot<Connection<S>>,
    // What a full socket did not take; else there may be more to deliver.
    rest: Option<Outgoing>,
}

impl<W: Wire> Core<W> {
    /// A connection takes bytes again: what waited for that is sent in its turn.
    pub fn writable(&mut self, key: Key, outgoing: Outgoing) {
        let (slot, rest) = (Slot::from_bits(key), Some(outgoing));
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.resumed = true;
        }
        self.resumed.push_back(Resumed { slot, rest });
    }

    /// A send completed, and more may be due: now, or in its turn if this one has served enough of those.
    pub(super) fn go_on(&mut self, slot: Slot<Connection<W::Seat>>) {
        if let Some(left) = self.resumes_left.checked_sub(1) {
            self.resumes_left = left;
            self.deliver_or_end(slot);
        } else if let Some(connection) = self.connections.get_mut(slot)
            && !connection.resumed
        {
            connection.resumed = true;
            self.resumed.push_back(Resumed { slot, rest: None });
        }
    }

    /// Serves those in line: what is left of this turn's `RESUMES_PER_TURN_MAX`, and so many `more`.
    pub(super) fn resume(&mut self, more: usize) {
        for _ in 0..std::mem::take(&mut self.resumes_left) + more {
            let Some(Resumed { slot, rest }) = self.resumed.pop_front() else {
                return;
            };
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            connection.resumed = false;
            if let Some(outgoing) = rest {
                // From now on it is the client's turn again.
                connection.progress = self.now.tick;
                self.wire.send(&connection.seat, slot.to_bits(), outgoing);
            } else {
                self.deliver_or_end(slot);
            }
        }
    }

    fn deliver_or_end(&mut self, slot: Slot<Connection<W::Seat>>) {
        self.deliver(slot);
        self.end_stream(slot);
        self.bury(slot);
    }
}
