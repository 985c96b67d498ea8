//! A thread's liveness: a count of turns that the thread alone writes, and a way to request a turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// A thread's count of turns.
pub struct Pulse {
    name: String,
    turns: AtomicU64,
    // A caller waits for the next turn.
    asked: AtomicBool,
    turned: Arc<Notify>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Pulse {
    /// `turned` is notified of the first turn after each [`Pulse::ask`].
    pub(super) fn new(
        name: &str,
        turned: Arc<Notify>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.to_owned(),
            turns: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            turned,
            wake: Box::new(wake),
        }
    }

    /// A turn begins. Called by the thread itself; costs two loads and a store, since it is the only writer.
    pub fn beat(&self) {
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns.wrapping_add(1), Ordering::Release);
        if self.asked.load(Ordering::Relaxed) {
            self.asked.store(false, Ordering::Relaxed);
            self.turned.notify_waiters();
        }
    }

    /// Requests a turn from the thread; returns how many it had taken before.
    pub(super) fn ask(&self) -> u64 {
        let turns = self.turns();
        self.asked.store(true, Ordering::SeqCst);
        (self.wake)();
        turns
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }
}
