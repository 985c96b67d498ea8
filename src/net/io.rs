//! The interface between a shard's core and the kernel: state machines on one side, rings or epoll on the other.
//!
//! [`super::rings::Rings`] implements it with io_uring, [`super::epoll::Epoll`] without; the simulation implements it with queues and a
//! seed. The core never sees a descriptor.

#![expect(
    unsafe_code,
    reason = "a run reaches past the handle that keeps it alive"
)]

use std::io;

use bytes::Bytes;
use uproar_proto::base::segment::Run;
use uproar_proto::room::redaction::{self, Redacted};

/// Identifies a connection in completions: the bits of its slot, below 2^62.
pub type Key = u64;

/// Bytes of a pending send. The `Io` owns them until the send completes.
#[derive(Debug)]
pub struct SendBuffer {
    payload: Payload,
    done: usize,
}

#[derive(Debug)]
enum Payload {
    Shared(Run),
    Owned(Vec<u8>),
}

impl SendBuffer {
    /// Wraps a run of a room log, which all members share: no copy.
    pub fn shared(run: Run) -> Self {
        Self {
            payload: Payload::Shared(run),
            done: 0,
        }
    }

    /// Wraps bytes for this connection alone: its lane, TLS records.
    pub fn owned(bytes: Vec<u8>) -> Self {
        Self {
            payload: Payload::Owned(bytes),
            done: 0,
        }
    }

    /// Points at the first byte not yet sent. [`SendBuffer::remaining`] bytes from here are initialised, immutable
    /// and alive while this value lives, wherever it is moved to.
    pub(crate) fn as_ptr(&self) -> *const u8 {
        let start = match &self.payload {
            Payload::Shared(run) => run.as_ptr(),
            Payload::Owned(bytes) => bytes.as_ptr(),
        };
        start.wrapping_add(self.done)
    }

    /// Number of bytes not yet sent.
    pub fn remaining(&self) -> usize {
        let len = match &self.payload {
            Payload::Shared(run) => run.len(),
            Payload::Owned(bytes) => bytes.len(),
        };
        len - self.done
    }

    /// Returns the bytes not yet sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `as_ptr` promises that this many bytes are initialised, immutable and alive.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.remaining()) }
    }

    /// Copies the first `bytes_max` bytes not yet sent, for an `Io` that is not the kernel.
    pub fn copy(&self, bytes_max: usize) -> Vec<u8> {
        let len = self.remaining().min(bytes_max);
        self.bytes()[..len].to_vec()
    }

    /// Wraps whole frames for this connection alone, of which `done` bytes are sent.
    pub fn frames(frames: Bytes, done: usize) -> Self {
        debug_assert!(done <= frames.len(), "a part of it");
        Self {
            payload: Payload::Shared(Run::of(&redaction::alone(frames))),
            done,
        }
    }

    /// What is left to send, without frames that were taken back since it began.
    #[must_use]
    pub fn without(self, redacted: &Redacted) -> Self {
        self.rest_without(redacted).unwrap_or(self)
    }

    /// Copies what is left to send without frames that were taken back since it began; `None`: there are none.
    pub fn rest_without(&self, redacted: &Redacted) -> Option<Self> {
        let Payload::Shared(run) = &self.payload else {
            return None;
        };
        let (rest, begun) = redacted.rest(run.number(), all(run), self.done)?;
        Some(Self::frames(rest, begun))
    }

    /// The number of the bytes not yet sent that end the frame which has begun; `None`: they are not known to be frames.
    pub fn begun_left(&self) -> Option<usize> {
        match &self.payload {
            Payload::Shared(run) => Some(redaction::begun_left(all(run), self.done)),
            Payload::Owned(_) => None,
        }
    }

    /// Marks `sent` more bytes as sent.
    pub fn advance(&mut self, sent: usize) {
        debug_assert!(sent <= self.remaining(), "a send never exceeds its request");
        self.done += sent.min(self.remaining());
    }

    /// Returns the buffer of an owned payload, for reuse.
    pub fn into_owned(self) -> Option<Vec<u8>> {
        match self.payload {
            Payload::Shared(_) => None,
            Payload::Owned(bytes) => Some(bytes),
        }
    }
}

/// All bytes of a run.
fn all(run: &Run) -> &[u8] {
    // SAFETY: as `Run::as_ptr` promises, that many bytes are initialised, immutable and alive while the run lives.
    unsafe { std::slice::from_raw_parts(run.as_ptr(), run.len()) }
}

/// Counts queued sends.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// Number of sends.
    pub sends: u32,
    /// Their bytes, summed.
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
    /// The sending direction; bytes queued in the kernel still go out, then FIN.
    Write,
    /// Both directions; every pending operation completes. Bytes queued in the kernel still go out.
    Both,
    /// Both directions, and bytes queued in the kernel are dropped: the peer gets RST. It frees the kernel memory
    /// of connections that cannot take more bytes.
    Abort,
}

/// The kernel as the core sees it. All calls except [`Io::install`] only queue; results arrive as
/// completions.
pub trait Io {
    /// An established connection before it is installed; dropping it closes it.
    type Socket;

    /// An installed connection, until [`Io::close`].
    type FixedFile;

    /// Installs a connection, with one or two system calls.
    ///
    /// # Errors
    ///
    /// The kernel's errors, above all missing memory; the connection is closed.
    fn install(&mut self, socket: Self::Socket) -> io::Result<Self::FixedFile>;

    /// Receives until an error or the end of the stream; each completion tells whether more will come.
    fn receive(&mut self, file: &Self::FixedFile, key: Key);

    /// Sends as many bytes as the socket takes now; at most one send at a time for each connection. The completion
    /// may be partial, or `WouldBlock`: a send never waits.
    fn send(&mut self, file: &Self::FixedFile, key: Key, outgoing: SendBuffer);

    /// Waits until the socket is writable or broken; then `outgoing` comes back. Call it after a partial send, or
    /// one that returned `WouldBlock`.
    fn await_writable(&mut self, file: &Self::FixedFile, key: Key, outgoing: SendBuffer);

    /// Cancels the pending receive. Its final completion comes as ever: with bytes, the end of the stream or an error of
    /// its own if these came first, else with `ECANCELED`. Bytes that no completion brings stay in the socket.
    fn cancel_receive(&mut self, file: &Self::FixedFile, key: Key);

    /// Ends every wait of [`Io::await_writable`] at once: each completes as ever, with its buffer, whether or not its
    /// socket is writable.
    fn cancel_waits(&mut self);

    /// Shuts down; pending operations complete with the bytes they have.
    fn shutdown(&mut self, file: &Self::FixedFile, how: Shutdown);

    /// Closes the connection; no receive or send may be pending.
    fn close(&mut self, file: Self::FixedFile);
}
