//! Receives that are being cancelled.
//!
//! A cancel that finds nothing says little: the receive may have ended by itself, or the kernel may be about to
//! restart it. So a cancel that found nothing is repeated until the receive's final completion has come.

use std::collections::HashSet;

use slab::Slab;

use crate::net::io::Key;

/// The cancels of one ring.
#[derive(Debug, Default)]
pub(super) struct Cancels {
    // Connections whose receive was cancelled and has not ended.
    receiving: HashSet<Key>,
    // Cancels in the kernel: each completes once.
    pending: Slab<Key>,
}

impl Cancels {
    /// Notes a cancel of the receive of `key`; returns the number that its completion brings back.
    pub(super) fn begin(&mut self, key: Key) -> u32 {
        self.receiving.insert(key);
        u32::try_from(self.pending.insert(key)).expect("one for each of 2^16 connections")
    }

    /// Handles the completion of cancel `number`. Returns the connection if it found nothing and the receive goes
    /// on: its cancel must be repeated.
    pub(super) fn completed(&mut self, number: u32, found: bool) -> Option<Key> {
        let key = self
            .pending
            .remove(usize::try_from(number).expect("32 bits"));
        (!found && self.receiving.contains(&key)).then_some(key)
    }

    /// Notes that the receive of `key` has ended; returns whether it was cancelled.
    pub(super) fn ended(&mut self, key: Key) -> bool {
        !self.receiving.is_empty() && self.receiving.remove(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a cancel is repeated only while its receive goes on. Method: all orders of its completion and the
    /// receive's end.
    #[test]
    fn a_cancel_is_repeated_until_the_receive_ends() {
        let mut cancels = Cancels::default();
        let first = cancels.begin(7);
        assert_eq!(cancels.completed(first, false), Some(7), "it was restarted");
        let second = cancels.begin(7);
        assert_eq!(cancels.completed(second, true), None, "its end will come");
        assert!(cancels.ended(7));
        let third = cancels.begin(8);
        assert!(cancels.ended(8), "it ended before the cancel");
        assert_eq!(cancels.completed(third, false), None);
        assert!(!cancels.ended(8) && !cancels.ended(9), "not cancelled");
    }
}
