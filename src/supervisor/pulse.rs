//! Whether a thread turns: a count that it alone writes, and a way to have it take a turn.

use std::sync::atomic::{AtomicU64, Ordering};

/// A thread's count of turns.
pub struct Pulse {
    name: String,
    turns: AtomicU64,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Pulse {
    pub(super) fn new(name: &str, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            name: name.to_owned(),
            turns: AtomicU64::new(0),
            wake: Box::new(wake),
        }
    }

    /// A turn begins. Called by the thread itself; costs a load and a store, since nobody else writes.
    pub fn beat(&self) {
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns.wrapping_add(1), Ordering::Relaxed);
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub(super) fn wake(&self) {
        (self.wake)();
    }
}
