//! Handshakes on tokio-uring; no other module uses that crate.
#![expect(
    unsafe_code,
    reason = "a descriptor is taken out of the runtime's socket type"
)]

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{Hosted, Runtime, Stream};
use crate::net::event::Event;
use crate::net::rings::Rings;
use crate::net::socket;

impl Hosted for Rings {
    type Runtime = UringRuntime;
    type Stream = UringStream;

    async fn woken(event: &Event) -> io::Result<()> {
        event.wait().await
    }
}

/// This thread's tokio-uring runtime.
pub(crate) struct UringRuntime(tokio_uring::Runtime);

impl Runtime for UringRuntime {
    fn new() -> io::Result<Self> {
        let mut builder = tokio_uring::builder();
        let mut ring = tokio_uring::uring_builder();
        // Completions wait for the thread's next system call instead of interrupting it: the peer's processor sends
        // each interrupt, and in a rush of handshakes there are thousands.
        ring.setup_coop_taskrun();
        builder.uring_builder(&ring);
        tokio_uring::Runtime::new(&builder).map(Self)
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(future)
    }
}

/// A connection of this thread's ring for handshakes.
pub(crate) struct UringStream(tokio_uring::net::TcpStream);

impl Stream for UringStream {
    fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        let stream = std::net::TcpStream::from(socket);
        Ok(Self(tokio_uring::net::TcpStream::from_std(stream)))
    }

    async fn read(&self, mut buffer: Vec<u8>, bytes_max: usize) -> (io::Result<usize>, Vec<u8>) {
        use tokio_uring::buf::BoundedBuf;
        let start = buffer.len();
        buffer.reserve(bytes_max);
        let (result, slice) = self.0.read(buffer.slice(start..start + bytes_max)).await;
        (result, slice.into_inner())
    }

    async fn write_all(&self, buffer: Vec<u8>) -> io::Result<()> {
        self.0.write_all(buffer).await.0
    }

    fn shutdown_write(&self) {
        // A failure means that the peer closed first.
        let _gone = self.0.shutdown(Shutdown::Write);
    }

    fn abort(&self) {
        // Failures mean that the peer closed first.
        let _gone = socket::reset_at_close(self.borrow());
        let _gone = self.0.shutdown(Shutdown::Both);
    }

    fn to_fd(&self) -> io::Result<OwnedFd> {
        self.borrow().try_clone_to_owned()
    }
}

impl UringStream {
    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: `self` keeps the descriptor open while it is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
