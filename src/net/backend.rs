//! What a shard's thread needs of the kernel beside [`Io`]: submission, completions, sleep, a hand-over.
//!
//! Two implementations: [`Rings`](super::rings::Rings) on io_uring, and [`Epoll`](super::epoll::Epoll) where that is
//! forbidden. The thread, the acceptor and the core are compiled for each, so neither pays for the other.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::io::{Io, Key, Queued, SendBuffer};

/// Which interface of the kernel moves the bytes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `io_uring`: one system call for all sends of a turn, and connections take no descriptor.
    IoUring,
    /// `epoll`: a system call for each send and receive, and a descriptor for each connection.
    Epoll,
}

impl Kind {
    /// The name in configuration, metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A completion that the kernel reported; `B` holds received bytes.
#[derive(Debug)]
pub enum Completion<B> {
    /// Bytes arrived, or the receive ended.
    Received {
        /// The connection.
        key: Key,
        /// The bytes; `None` at the end (`Ok(0)`) and on errors.
        buffer: Option<B>,
        /// Length, 0 at the end of the stream, or the error.
        result: io::Result<usize>,
        /// Whether the receive continues without a new submission.
        more: bool,
    },
    /// A send ended, perhaps short.
    Sent {
        /// The connection.
        key: Key,
        /// The sent bytes; not yet advanced.
        outgoing: SendBuffer,
        /// Bytes the kernel took.
        result: io::Result<usize>,
    },
    /// A socket is writable, or broken.
    Writable {
        /// The connection.
        key: Key,
        /// The bytes that waited.
        outgoing: SendBuffer,
    },
}

/// Received bytes, until they are given back with [`Backend::recycle`].
pub trait Received {
    /// Returns the whole buffer: received bytes, then at least `PARSE_PADDING_BYTES` that may be read.
    fn bytes(&mut self) -> &mut [u8];

    /// Number of received bytes.
    fn received(&self) -> usize;
}

/// An [`Io`] on the kernel, used only by the thread that made it.
pub trait Backend: Io<Socket = OwnedFd> + Sized + 'static {
    /// Which one it is.
    const KIND: Kind;

    /// Holds received bytes.
    type Buffer: Received;

    /// Where the kernel has a connection: a copy of its file that keeps nothing open, good until that is closed.
    type Place: Copy + fmt::Debug + 'static;

    /// Sets it up for this thread, as large as the limit on open files allows.
    ///
    /// # Errors
    ///
    /// The kernel's errors, above all that it is forbidden.
    fn set_up() -> io::Result<Self>;

    /// Returns a descriptor that is readable when completions wait.
    fn event(&self) -> BorrowedFd<'_>;

    /// Sets whether completions make [`Backend::event`] readable; off while the shard is awake. After switching it on,
    /// check for completions once more before sleeping.
    fn signal(&mut self, on: bool);

    /// Submits everything queued and looks for completions.
    ///
    /// # Errors
    ///
    /// It cannot be used any more.
    fn enter(&mut self) -> io::Result<()>;

    /// Takes the next completion, if any arrived.
    fn next_completion(&mut self) -> Option<Completion<Self::Buffer>>;

    /// Whether completions wait, or work that the next [`Backend::enter`] turns into completions.
    fn has_completions(&mut self) -> bool;

    /// Gives a receive buffer back.
    fn recycle(&mut self, buffer: Self::Buffer);

    /// Takes the count of sends queued since the last call.
    fn take_queued(&mut self) -> Queued;

    /// Number of rings.
    fn rings(&self) -> usize;

    /// Number of completions that did not fit into a queue and that the kernel kept.
    fn overflows(&mut self) -> u32;

    /// Returns where the kernel has a connection.
    fn place(file: &Self::FixedFile) -> Self::Place;

    /// Makes a plain descriptor beside each of `places`, in their order, close-on-exec. Both are valid and are closed
    /// apart: closing one keeps the connection. Completions that come meanwhile are put into `others`.
    ///
    /// # Errors
    ///
    /// `EMFILE` at the limit on open files; else that this kernel cannot. Nothing has changed then.
    ///
    /// # Panics
    ///
    /// If `places` are more than `DESCRIPTORS_A_MESSAGE_MAX`.
    fn detach(
        &mut self,
        places: &[Self::Place],
        others: &mut Vec<Completion<Self::Buffer>>,
    ) -> io::Result<Vec<OwnedFd>>;
}
