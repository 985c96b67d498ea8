//! The listening socket of a shard, awaited in this thread's runtime.
//!
//! Accepting is a system call each and no operation of a ring: a loop of them empties the kernel's queue
//! in one wake-up and stops where the shard says, so that newcomers beyond that wait in the kernel.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

use super::event;

/// A bound and listening socket.
#[derive(Debug)]
pub struct Listener(AsyncFd<TcpListener>);

impl Listener {
    /// Takes it over.
    ///
    /// # Errors
    ///
    /// The kernel's: no memory or descriptor to watch it with.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(event::watch(listener)?))
    }

    /// Waits for connections and hands on those that are there, at most `most`.
    ///
    /// # Errors
    ///
    /// The kernel's: no descriptors left, above all. The connections stay in its queue.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is accepted before the wait is over.
    pub async fn accept(
        &self,
        most: usize,
        mut each: impl FnMut(OwnedFd, SocketAddr),
    ) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        for _ in 0..most {
            match guard.get_inner().accept() {
                Ok((stream, peer)) => each(stream.into(), peer),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        guard.clear_ready();
                        return Ok(());
                    }
                    // Gone while it waited.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}
