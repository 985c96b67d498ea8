//! The listening socket of a shard, watched by this thread's runtime.
//!
//! Each accept is a system call, not an operation of a ring: a loop empties the kernel's queue in one wake-up
//! and stops at the shard's bound; further connections wait in the kernel.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::event;

/// A bound and listening socket.
#[derive(Debug)]
pub(crate) struct Listener(AsyncFd<TcpListener>);

impl Listener {
    /// Watches `listener`.
    ///
    /// # Errors
    ///
    /// The kernel's errors: no memory or descriptor to watch it with.
    pub(crate) fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(event::watch(listener, Interest::READABLE)?))
    }

    /// Waits for connections and accepts those that have arrived, at most `most`.
    ///
    /// # Errors
    ///
    /// The kernel's errors, above all that no descriptor is free. The connections stay in its queue.
    ///
    /// # Cancel safety
    ///
    /// Safe: no connection is accepted before the wait is over.
    pub(crate) async fn accept(
        &self,
        most: usize,
        mut each: impl FnMut(OwnedFd, SocketAddr),
    ) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        for _ in 0..most {
            match guard.get_inner().accept() {
                Ok((stream, peer)) => each(stream.into(), peer),
                #[expect(
                    clippy::wildcard_enum_match_arm,
                    reason = "the kernel's errors, an open set"
                )]
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        guard.clear_ready();
                        return Ok(());
                    }
                    // The client went away while it waited.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _other => return Err(error),
                },
            }
        }
        Ok(())
    }
}
