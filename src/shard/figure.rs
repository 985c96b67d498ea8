//! Numbers that one thread writes and others read.

use std::sync::atomic::{AtomicU64, Ordering};

/// A length as a figure.
fn wide(len: usize) -> u64 {
    u64::try_from(len).expect("a usize has at most 64 bits")
}

/// A figure with one writer.
#[derive(Debug, Default)]
pub struct Figure(AtomicU64);

impl Figure {
    /// Adds `by`; one writer, so no locked instruction is needed.
    pub fn add(&self, by: u64) {
        self.0.store(self.get().wrapping_add(by), Ordering::Relaxed);
    }

    /// Adds a length.
    pub fn add_len(&self, len: usize) {
        self.add(wide(len));
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Sets a gauge to a length.
    pub fn set_len(&self, len: usize) {
        self.set(wide(len));
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the figure.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The greatest of some values. One thread raises it, another one takes it.
#[derive(Debug, Default)]
pub struct Peak(AtomicU64);

impl Peak {
    /// Notes a value.
    pub fn raise(&self, value: u64) {
        // If the reader takes it in between, this value counts for its next time.
        if value > self.get() {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// Returns the greatest value since this was last called; 0 if there was none.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }

    /// Returns the same, and leaves it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
