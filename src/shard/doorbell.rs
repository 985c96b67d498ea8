//! Wakes a sleeping thread once, and costs nothing while it is awake.
//!
//! The receiver announces sleep, then checks its queues again; a sender pushes, then checks whether the
//! receiver sleeps. A sequentially consistent fence between the two steps on both sides makes at least
//! one of them see the other. `tests/loom` runs this file in every interleaving.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

#[cfg(not(loom))]
pub use eventfd::EventFd;

/// The means of waking a thread that waits.
pub trait Wake {
    /// Ends the receiver's present wait; if there is none, the next one ends at once.
    fn wake(&self);
}

/// One thread's bell. Its senders ring it after a push; the thread itself sleeps with [`Doorbell::sleep`].
#[cfg(not(loom))]
#[derive(Debug)]
pub struct Doorbell<W = EventFd> {
    // Set by the receiver alone. Reset by the receiver when it runs again, or by the one sender that wakes it.
    asleep: AtomicBool,
    waker: W,
}

/// One thread's bell, for the model checker.
#[cfg(loom)]
#[derive(Debug)]
pub struct Doorbell<W> {
    asleep: AtomicBool,
    waker: W,
}

impl<W: Wake> Doorbell<W> {
    /// A bell that wakes its receiver by `waker`.
    pub fn with(waker: W) -> Self {
        Self {
            asleep: AtomicBool::new(false),
            waker,
        }
    }

    /// Sender, after a push: wakes the receiver if it sleeps.
    pub fn ring(&self) {
        if self.must_wake() {
            self.waker.wake();
        }
    }

    /// Sender on the receiver's own thread, after a push: [`Doorbell::ring`] with a wake-up that needs no system
    /// call. `wake` must end the receiver's wait.
    pub fn ring_by(&self, wake: impl FnOnce()) {
        if self.must_wake() {
            wake();
        }
    }

    /// Wakes the receiver, asleep or not.
    pub fn press(&self) {
        self.waker.wake();
    }

    /// Receiver: sleeps until `woken` completes; `woken` must complete when the bell's waker wakes. `has_items`
    /// looks whether an item has arrived; if so the sleep ends at once.
    ///
    /// # Cancel safety
    ///
    /// Safe: the receiver counts as awake again.
    pub async fn sleep<T>(
        &self,
        has_items: impl FnOnce() -> bool,
        woken: impl Future<Output = T>,
    ) -> T {
        let _asleep = Asleep::announce(&self.asleep);
        if has_items() {
            self.press();
        }
        woken.await
    }

    /// Whether the receiver sleeps and no other sender wakes it.
    fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }
}

/// The receiver's announcement that it sleeps; it runs again when this is dropped. Both are exchanges, as the
/// senders' are: so each of them reads the one before, and no store is overtaken by an older exchange.
struct Asleep<'a>(&'a AtomicBool);

impl<'a> Asleep<'a> {
    fn announce(asleep: &'a AtomicBool) -> Self {
        asleep.swap(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Self(asleep)
    }
}

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.swap(false, Ordering::Relaxed);
    }
}

#[cfg(not(loom))]
mod eventfd {
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    use rustix::event::EventfdFlags;

    use super::{Doorbell, Wake};

    /// Wakes by making an eventfd readable.
    #[derive(Debug)]
    pub struct EventFd(OwnedFd);

    impl Wake for EventFd {
        fn wake(&self) {
            // Fails only when the counter is full, and then it is readable.
            let _readable = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }
    }

    impl Doorbell {
        /// A bell with an eventfd of its own.
        ///
        /// # Errors
        ///
        /// No descriptor or memory is available.
        pub fn new() -> io::Result<Self> {
            let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
            Ok(Self::with(EventFd(rustix::event::eventfd(0, flags)?)))
        }

        /// Returns the eventfd, which is readable once the bell was rung.
        pub fn event(&self) -> BorrowedFd<'_> {
            self.waker.0.as_fd()
        }
    }
}
