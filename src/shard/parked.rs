//! Connections that wait until the cluster has said whether their token was used before.

use std::collections::VecDeque;

use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::JOIN_PARKED_MAX;
use uproar_proto::base::table::{Slot, Table};

/// Those of one shard, each with its deadline. `T` is what waits.
#[derive(Debug)]
pub(super) struct Parked<T> {
    waiting: Table<T>,
    // Most that wait.
    most: usize,
    // The deadline of each that waits, oldest first, because all have the same time; the oldest one
    // waits, later ones may have been taken.
    deadlines: VecDeque<(Tick, Slot<T>)>,
}

impl<T> Parked<T> {
    /// Nothing waits; `most` may.
    pub(super) fn new(most: usize) -> Self {
        Self {
            waiting: Table::default(),
            most,
            deadlines: VecDeque::new(),
        }
    }

    /// Number of those that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is no place for one that comes after `coming` others.
    pub(super) fn is_full(&self, coming: usize) -> bool {
        self.len() + coming >= self.most
    }

    /// Lets `one` wait; returns the number that finds it.
    pub(super) fn park(&mut self, one: T, now: Tick) -> u64 {
        debug_assert!(!self.is_full(0), "the caller asks before");
        let slot = self.waiting.insert(one);
        self.deadlines.push_back((now.after(JOIN_PARKED_MAX), slot));
        slot.to_bits()
    }

    /// Takes the one of this number, unless it is gone.
    pub(super) fn take(&mut self, number: u64) -> Option<T> {
        let taken = self.waiting.remove(Slot::from_bits(number));
        self.forget_taken();
        taken
    }

    /// Takes one whose deadline has passed.
    pub(super) fn overdue(&mut self, now: Tick) -> Option<T> {
        let (deadline, slot) = *self.deadlines.front()?;
        if deadline > now {
            return None;
        }
        self.take(slot.to_bits())
    }

    /// When the first of them has waited for too long.
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.front().map(|(deadline, _)| *deadline)
    }

    /// Drops the deadlines in front of the oldest that waits.
    fn forget_taken(&mut self) {
        while let Some((_, slot)) = self.deadlines.front()
            && self.waiting.get(*slot).is_none()
        {
            self.deadlines.pop_front();
        }
    }

    /// Asserts the invariants above.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    pub(super) fn check(&self) {
        assert!(self.len() <= self.most, "no more wait than may");
        let waiting = |(_, slot): &&(Tick, Slot<T>)| self.waiting.get(*slot).is_some();
        let timed = self.deadlines.iter().filter(waiting).count();
        assert_eq!(timed, self.len(), "what waits has a deadline");
        assert!(
            self.deadlines.front().as_ref().is_none_or(waiting),
            "the oldest deadline is that of one that waits"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Goal: each that waits leaves once, by its answer or at its deadline; the place of one that
    /// left is free, and its number finds nobody else. Method: answers out of order and twice.
    #[test]
    fn each_leaves_once() {
        let mut parked = Parked::new(3);
        let start = Tick::from_nanos(5);
        let later = start.after(Duration::from_secs(1));
        let [a, b] = ['a', 'b'].map(|one| parked.park(one, start));
        let c = parked.park('c', later);
        assert!(parked.is_full(0));
        assert_eq!(parked.take(b), Some('b'));
        assert_eq!(parked.take(b), None, "twice");
        parked.check();
        assert!(!parked.is_full(0) && parked.is_full(1));
        let d = parked.park('d', later);
        assert_ne!(b, d);
        assert_eq!(parked.take(b), None, "the place has another one");
        assert_eq!(parked.next_deadline(), Some(start.after(JOIN_PARKED_MAX)));
        assert_eq!(parked.overdue(later), None);
        assert_eq!(parked.take(a), Some('a'));
        let end = later.after(JOIN_PARKED_MAX);
        assert_eq!(parked.next_deadline(), Some(end));
        let overdue: Vec<char> = std::iter::from_fn(|| parked.overdue(end)).collect();
        assert_eq!(overdue, ['c', 'd']);
        assert_eq!((parked.take(c), parked.take(d)), (None, None), "late");
        assert_eq!(parked.next_deadline(), None);
        parked.check();
    }
}
