//! Handshakes on tokio's own epoll.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::LocalSet;

use super::{Hosted, Runtime, Stream};
use crate::net::epoll::Epoll;
use crate::net::event::{self, Event};
use crate::net::socket;

impl Hosted for Epoll {
    type Runtime = TokioRuntime;
    type Stream = TokioStream;

    async fn woken(event: &Event) -> io::Result<()> {
        event.ready().await
    }
}

/// This thread's tokio runtime.
pub(crate) struct TokioRuntime {
    // Dropped first: its tasks have descriptors of the runtime.
    tasks: LocalSet,
    runtime: tokio::runtime::Runtime,
}

impl Runtime for TokioRuntime {
    fn new() -> io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Ok(Self {
            tasks: LocalSet::new(),
            runtime: builder.enable_io().enable_time().build()?,
        })
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(self.tasks.run_until(future))
    }
}

/// A connection of this thread's runtime. The socket stays in blocking mode, in which it may be handed to a process
/// with rings; each call says that it does not wait.
pub(crate) struct TokioStream(AsyncFd<OwnedFd>);

impl Stream for TokioStream {
    fn from_fd(socket: OwnedFd) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Self(event::watch(socket, interest)?))
    }

    async fn read(&self, mut buffer: Vec<u8>, bytes_max: usize) -> (io::Result<usize>, Vec<u8>) {
        let start = buffer.len();
        buffer.resize(start + bytes_max, 0);
        let result = loop {
            let mut guard = match self.0.readable().await {
                Ok(guard) => guard,
                Err(error) => break Err(error),
            };
            match socket::receive_now(guard.get_inner(), &mut buffer[start..]) {
                Ok(None) => guard.clear_ready(),
                Ok(Some(len)) => break Ok(len),
                Err(error) => break Err(error),
            }
        };
        buffer.truncate(start + *result.as_ref().unwrap_or(&0));
        (result, buffer)
    }

    async fn write_all(&self, buffer: Vec<u8>) -> io::Result<()> {
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let mut guard = self.0.writable().await?;
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(guard.get_inner(), rest, flags) {
                Ok(len) => rest = &rest[len..],
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn shutdown_write(&self) {
        // A failure means that the peer closed first.
        let _gone = socket::end_writing(&self.0);
    }

    fn abort(&self) {
        // Failures mean that the peer closed first.
        let _gone = socket::reset_at_close(&self.0);
        let _gone = shutdown(&self.0, Shutdown::Both);
    }

    fn to_fd(&self) -> io::Result<OwnedFd> {
        self.0.get_ref().try_clone()
    }
}
