//! Waits for descriptors, above all eventfds, in this thread's runtime.
#![expect(unsafe_code, reason = "the runtime watches a descriptor")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `owner`'s descriptor with the runtime, to wait until it is readable.
pub(super) fn watch<T: AsRawFd + Into<OwnedFd>>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the descriptor moves into the `AsyncFd`, which alone closes it, after it has
    // deregistered it.
    let registered = unsafe { AsyncFd::register_with_interest(owner, Interest::READABLE) };
    Ok(registered?)
}

/// An eventfd to wait for.
#[derive(Debug)]
pub(crate) struct Event(AsyncFd<OwnedFd>);

impl Event {
    /// Watches a duplicate of `event`.
    pub(crate) fn new(event: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(watch(event.try_clone_to_owned()?)?))
    }

    /// Waits until it is readable and empties it.
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
}
