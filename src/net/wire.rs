//! What a shard's core asks of the kernel: the seam between the state machines and the ring.
//!
//! [`super::rings::Rings`] implements it with io_uring; the simulation implements it with queues and a
//! seed. The core never sees a descriptor.

#![expect(
    unsafe_code,
    reason = "a run reaches past the handle that keeps it alive"
)]

use std::io;

use crate::base::segment::Run;

/// Names a connection in completions: the bits of its slot, below 2^62.
pub type Key = u64;

/// Bytes under way to the kernel. Owned by the wire until the send completes.
#[derive(Debug)]
pub struct Outgoing {
    payload: Payload,
    done: usize,
}

#[derive(Debug)]
enum Payload {
    Shared(Run),
    Owned(Vec<u8>),
}

impl Outgoing {
    /// A stretch of a room log, shared with every other member: no copy.
    pub fn shared(run: Run) -> Self {
        Self {
            payload: Payload::Shared(run),
            done: 0,
        }
    }

    /// Bytes of this connection alone: private lane, TLS records.
    pub fn owned(bytes: Vec<u8>) -> Self {
        Self {
            payload: Payload::Owned(bytes),
            done: 0,
        }
    }

    /// First byte not yet sent. [`Outgoing::remaining`] bytes from here are initialised, immutable
    /// and alive while this value lives, wherever it is moved to.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        let start = match &self.payload {
            Payload::Shared(run) => run.as_ptr(),
            Payload::Owned(bytes) => bytes.as_ptr(),
        };
        start.wrapping_add(self.done)
    }

    /// Bytes not yet sent.
    pub fn remaining(&self) -> usize {
        let len = match &self.payload {
            Payload::Shared(run) => run.len(),
            Payload::Owned(bytes) => bytes.len(),
        };
        len - self.done
    }

    /// A copy of the first `bytes_max` bytes not yet sent: for wires that are not the kernel.
    pub fn copy(&self, bytes_max: usize) -> Vec<u8> {
        let len = self.remaining().min(bytes_max);
        // SAFETY: `as_ptr` promises that so many bytes are initialised and alive.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), len) }.to_vec()
    }

    /// Marks `sent` more bytes as sent.
    pub fn advance(&mut self, sent: usize) {
        debug_assert!(sent <= self.remaining(), "a send never exceeds its request");
        self.done += sent.min(self.remaining());
    }

    /// The buffer of an owned payload, to be used again.
    pub fn into_owned(self) -> Option<Vec<u8>> {
        match self.payload {
            Payload::Shared(_) => None,
            Payload::Owned(bytes) => Some(bytes),
        }
    }
}

/// Sends that were queued.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// How many.
    pub sends: u32,
    /// What they carry, all together.
    pub bytes: u64,
}

impl std::ops::AddAssign for Queued {
    fn add_assign(&mut self, other: Self) {
        self.sends += other.sends;
        self.bytes += other.bytes;
    }
}

/// Which directions of a connection to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// No more sends; what is queued in the kernel still goes out, then FIN.
    Write,
    /// Both directions; every operation under way completes. What is queued in the kernel still goes out.
    Both,
    /// Both directions, and what is queued in the kernel is dropped: the peer gets RST. For connections to
    /// which nothing more can be delivered, so that their kernel memory is free at once.
    Abort,
}

/// The kernel as the core sees it. All calls only queue, but for [`Wire::install`]; results arrive as
/// completions.
pub trait Wire {
    /// An established connection on its way to its place; dropping it closes it.
    type Socket;

    /// A connection in its place, until [`Wire::close`].
    type Seat;

    /// Takes a connection over: one system call, or two.
    ///
    /// # Errors
    ///
    /// The kernel's, above all memory; the connection is closed.
    fn install(&mut self, socket: Self::Socket) -> io::Result<Self::Seat>;

    /// Receives until an error or the end; each completion says whether more will come.
    fn receive(&mut self, seat: &Self::Seat, key: Key);

    /// Sends what the connection has room for; at most one at a time for each connection. The completion
    /// may be partial, or `WouldBlock`: a send never waits.
    fn send(&mut self, seat: &Self::Seat, key: Key, outgoing: Outgoing);

    /// Waits until the connection takes bytes again, or is broken; then `outgoing` comes back. In place of
    /// a send, for what one found no room for.
    fn await_room(&mut self, seat: &Self::Seat, key: Key, outgoing: Outgoing);

    /// Shuts down; operations under way complete with what they have.
    fn shutdown(&mut self, seat: &Self::Seat, how: Shutdown);

    /// Closes; only when neither a receive nor a send is under way.
    fn close(&mut self, seat: Self::Seat);
}
