//! Handshake I/O: one connection at a time, as async code in this thread's runtime.
//!
//! [`uring`] does it on tokio-uring, [`epoll`] on tokio alone. Dropping an operation of the first does not cancel it:
//! never race one against a timer and drop the loser. Deadlines [`Stream::abort`] the connection, and the operation
//! completes.

mod epoll;
mod uring;

use std::io;
use std::os::fd::OwnedFd;

use super::backend::Backend;
use super::event::Event;

/// A [`Backend`] with the runtime of its thread.
pub(crate) trait Hosted: Backend {
    /// The runtime of the thread.
    type Runtime: Runtime;
    /// A connection during its handshake.
    type Stream: Stream;

    /// Waits until [`Backend::event`], which `event` watches, is readable.
    ///
    /// # Cancel safety
    ///
    /// Safe: it takes no completion.
    async fn woken(event: &Event) -> io::Result<()>;
}

/// A runtime of one thread.
pub(crate) trait Runtime: Sized {
    /// Sets it up.
    ///
    /// # Errors
    ///
    /// The kernel's errors, as when the backend is set up.
    fn new() -> io::Result<Self>;

    /// Runs `future` to its end.
    fn block_on<F: Future>(&self, future: F) -> F::Output;
}

/// A connection during its handshake.
pub(crate) trait Stream: Sized + 'static {
    /// Takes over a connection.
    ///
    /// # Errors
    ///
    /// The kernel's errors, above all missing memory; the connection is closed.
    fn from_fd(socket: OwnedFd) -> io::Result<Self>;

    /// Reads into `buffer` after its content; returns the count, 0 at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// None: the buffer and the bytes are lost.
    async fn read(&self, buffer: Vec<u8>, bytes_max: usize) -> (io::Result<usize>, Vec<u8>);

    /// Writes all of `buffer`.
    ///
    /// # Cancel safety
    ///
    /// None: an unknown part was written.
    async fn write_all(&self, buffer: Vec<u8>) -> io::Result<()>;

    /// Ends our direction: sends FIN after the written bytes.
    fn shutdown_write(&self);

    /// Ends both directions; pending operations complete. At the close the kernel drops the bytes that the peer has
    /// not read, and sends RST.
    fn abort(&self);

    /// Duplicates the connection's descriptor, for use outside the runtime.
    fn to_fd(&self) -> io::Result<OwnedFd>;
}

/// Runs `task` concurrently with the other tasks of this thread.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(tokio::task::spawn_local(task));
}
