//! Waits for descriptors, above all eventfds, in this thread's runtime.
#![expect(unsafe_code, reason = "the runtime watches a descriptor")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `owner`'s descriptor with the runtime, to wait until it is ready for `interest`.
pub(super) fn watch<T: AsRawFd + Into<OwnedFd>>(
    owner: T,
    interest: Interest,
) -> io::Result<AsyncFd<T>> {
    // SAFETY: the descriptor moves into the `AsyncFd`, which alone closes it, after it has
    // deregistered it.
    let registered = unsafe { AsyncFd::register_with_interest(owner, interest) };
    Ok(registered?)
}

/// An eventfd, or an epoll, to wait for.
#[derive(Debug)]
pub(crate) struct Event(AsyncFd<OwnedFd>);

impl Event {
    /// Watches a duplicate of `event`.
    pub(crate) fn new(event: BorrowedFd<'_>) -> io::Result<Self> {
        let event = event.try_clone_to_owned()?;
        Ok(Self(watch(event, Interest::READABLE)?))
    }

    /// Waits until an eventfd is readable and empties it.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is read before the wait is over.
    pub(crate) async fn wait(&self) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        let mut count = [0; 8];
        // Fails only when another wake-up was read together with this one.
        let _empty = rustix::io::read(self.0.get_ref(), &mut count);
        guard.clear_ready();
        Ok(())
    }

    /// Waits until an epoll is readable, which its owner empties.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is taken.
    pub(crate) async fn ready(&self) -> io::Result<()> {
        self.0.readable().await?.clear_ready();
        Ok(())
    }
}
