//! An `Io` without a kernel.

use std::collections::HashSet;

use uproar::net::io::{Io, Key, SendBuffer, Shutdown};

/// An `Io` whose owner completes what is pending.
#[derive(Debug, Default)]
pub struct FakeIo {
    /// Pending sends in their order.
    pub sends: Vec<(Key, SendBuffer)>,
    /// Connections that wait until they are writable.
    pub waits: Vec<(Key, SendBuffer)>,
    /// Connections in the order of their installation.
    pub receives: Vec<Key>,
    /// Connections whose sockets take few bytes a turn.
    pub slow: HashSet<Key>,
    /// Connections whose receive was cancelled: the owner completes it.
    pub cancelled: Vec<Key>,
    /// The shard has ended every wait: the owner completes them.
    pub waits_ended: bool,
    /// Number of connections that the shard has cut.
    pub cut: usize,
}

impl Io for FakeIo {
    type Socket = ();
    type FixedFile = ();

    fn install(&mut self, (): ()) -> std::io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, (): &(), key: Key) {
        self.receives.push(key);
    }

    fn send(&mut self, (): &(), key: Key, outgoing: SendBuffer) {
        self.sends.push((key, outgoing));
    }

    fn await_writable(&mut self, (): &(), key: Key, outgoing: SendBuffer) {
        self.waits.push((key, outgoing));
    }

    fn cancel_receive(&mut self, (): &(), key: Key) {
        self.cancelled.push(key);
    }

    fn cancel_waits(&mut self) {
        self.waits_ended = true;
    }

    fn shutdown(&mut self, (): &(), _: Shutdown) {
        self.cut += 1;
    }

    fn close(&mut self, (): ()) {}
}
