//! Wakes a sleeping thread once, and costs nothing while it is awake.
//!
//! The receiver announces sleep, then checks its queues again; the sender pushes, then checks whether the
//! receiver sleeps. A sequentially consistent fence between the two steps on both sides makes at least
//! one of them see the other. `tests/loom` checks every interleaving.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// The flag and its two protocols, without the means of waking.
#[derive(Debug)]
pub struct Sleep {
    asleep: AtomicBool,
}

impl Default for Sleep {
    fn default() -> Self {
        Self {
            asleep: AtomicBool::new(false),
        }
    }
}

impl Sleep {
    /// Receiver: announces sleep. Check the queues once more afterwards, then sleep or call
    /// [`Sleep::awake`].
    pub fn announce(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Receiver: runs again.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Sender, after a push: whether the receiver must be woken, by this sender.
    #[must_use]
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }
}

#[cfg(not(loom))]
pub use bell::Doorbell;

#[cfg(not(loom))]
mod bell {
    use super::Sleep;
    use rustix::event::{EventfdFlags, eventfd};
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

    /// [`Sleep`] with an eventfd.
    #[derive(Debug)]
    pub struct Doorbell {
        sleep: Sleep,
        event: OwnedFd,
    }

    impl Doorbell {
        /// Makes a bell that has not been rung.
        pub fn new() -> io::Result<Self> {
            let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
            Ok(Self {
                sleep: Sleep::default(),
                event,
            })
        }

        /// Sender: wakes the receiver if it sleeps.
        pub fn ring(&self) {
            if self.sleep.must_wake() {
                self.press();
            }
        }

        /// Makes the event readable, asleep or not.
        pub fn press(&self) {
            // Fails only when the counter is full, and then it is readable.
            let _readable = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }

        /// Receiver: the sleep protocol.
        pub fn sleep(&self) -> &Sleep {
            &self.sleep
        }

        /// Returns the eventfd, which is readable once the bell was rung.
        pub fn event(&self) -> BorrowedFd<'_> {
            self.event.as_fd()
        }
    }
}
