//! Handshake I/O on tokio-uring; no other module uses that crate.
//!
//! Dropping an operation of this runtime does not cancel it: never race one against a timer and drop
//! the loser. Deadlines [`Stream::abort`] the connection, and the operation completes.
#![expect(
    unsafe_code,
    reason = "a descriptor is taken out of the runtime's socket type"
)]

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::socket;

/// This thread's tokio-uring runtime.
pub(crate) struct Runtime(tokio_uring::Runtime);

impl Runtime {
    /// Sets up its ring.
    ///
    /// # Errors
    ///
    /// As `Ring::new` of the shard's own ring.
    pub(crate) fn new() -> io::Result<Self> {
        let mut builder = tokio_uring::builder();
        let mut ring = tokio_uring::uring_builder();
        // Completions wait for the thread's next system call instead of interrupting it: the peer's processor sends
        // each interrupt, and in a rush of handshakes there are thousands.
        ring.setup_coop_taskrun();
        builder.uring_builder(&ring);
        tokio_uring::Runtime::new(&builder).map(Self)
    }

    /// Runs `future` to its end.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(future)
    }
}

/// Runs `task` concurrently with the other tasks of this thread.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(tokio_uring::spawn(task));
}

/// A connection during its handshake.
pub(crate) struct Stream(tokio_uring::net::TcpStream);

impl Stream {
    /// Reads into `buffer` after its content; returns the count, 0 at the end of the stream.
    ///
    /// # Cancel safety
    ///
    /// None: the buffer and the bytes are lost.
    pub(crate) async fn read(
        &self,
        mut buffer: Vec<u8>,
        bytes_max: usize,
    ) -> (io::Result<usize>, Vec<u8>) {
        use tokio_uring::buf::BoundedBuf;
        let start = buffer.len();
        buffer.reserve(bytes_max);
        let (result, slice) = self.0.read(buffer.slice(start..start + bytes_max)).await;
        (result, slice.into_inner())
    }

    /// Writes all of `buffer`.
    ///
    /// # Cancel safety
    ///
    /// None: an unknown part was written.
    pub(crate) async fn write_all(&self, buffer: Vec<u8>) -> io::Result<()> {
        self.0.write_all(buffer).await.0
    }

    /// Takes over a connection.
    pub(crate) fn from_fd(socket: OwnedFd) -> Self {
        Self(tokio_uring::net::TcpStream::from_std(
            std::net::TcpStream::from(socket),
        ))
    }

    /// Ends our direction: sends FIN after the written bytes.
    pub(crate) fn shutdown_write(&self) {
        // A failure means that the peer closed first.
        let _gone = self.0.shutdown(Shutdown::Write);
    }

    /// Ends both directions; pending operations complete. At the close the kernel drops the bytes that the peer has
    /// not read, and sends RST.
    pub(crate) fn abort(&self) {
        // Failures mean that the peer closed first.
        let _gone = socket::reset_at_close(self.borrow());
        let _gone = self.0.shutdown(Shutdown::Both);
    }

    /// Duplicates the connection's descriptor, for use outside the runtime.
    pub(crate) fn to_fd(&self) -> io::Result<OwnedFd> {
        self.borrow().try_clone_to_owned()
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: `self` keeps the descriptor open while it is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
