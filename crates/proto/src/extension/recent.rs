//! What was said of late: when each user, or each text, was accepted last, for as long as that counts.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::speech::Key;
use crate::base::clock::Tick;

/// Places that a quiet room keeps.
const KEPT: usize = 64;

/// A key, and when it was noted.
pub type Note = (Tick, Key);

/// Keys and when each was noted last.
#[derive(Debug, Default)]
pub struct Recent {
    // Invariant: each time in it is the newest of its key in `order`.
    last: HashMap<Key, Tick>,
    // Every note that still counts, oldest first; those of one key are of different times.
    order: VecDeque<Note>,
}

impl Recent {
    /// How long a key has to wait until its last note is this old; `None`: not at all.
    pub fn wait(&self, key: Key, age: Duration, now: Tick) -> Option<Duration> {
        let free = self.last.get(&key)?.after(age);
        Some(free.since(now)).filter(|wait| !wait.is_zero())
    }

    /// Notes a key; it may be noted again.
    pub fn note(&mut self, key: Key, now: Tick) {
        // Times of another process may be ahead.
        let now = self
            .order
            .back()
            .map_or(now, |(newest, _)| now.max(*newest));
        if self.last.insert(key, now) != Some(now) {
            self.order.push_back((now, key));
        }
    }

    /// Forgets the oldest note; `false`: there is none.
    pub fn forget_oldest(&mut self) -> bool {
        let Some((noted, key)) = self.order.pop_front() else {
            return false;
        };
        if self.last.get(&key) == Some(&noted) {
            self.last.remove(&key);
        }
        true
    }

    /// Forgets notes of this age, and gives back memory that a quieter time does not need.
    pub fn expire(&mut self, age: Duration, now: Tick) {
        let is_old = |(noted, _): &Note| noted.after(age) <= now;
        while self.order.front().is_some_and(is_old) {
            self.forget_oldest();
        }
        if self.order.capacity() > KEPT && self.order.len() < self.order.capacity() / 4 {
            self.order.shrink_to(2 * self.order.len());
            self.last.shrink_to(2 * self.last.len());
        }
    }

    /// Number of notes.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Every note, oldest first.
    pub fn notes(&self) -> impl Iterator<Item = Note> {
        self.order.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: a key waits as long as its newest note is young, whatever happened between, and nothing stays behind.
        /// Oracle: a list of all notes.
        #[test]
        fn notes_count_for_their_time(steps in proptest::collection::vec((0..5_u64, 0..4_u64, 1..6_u64), 0..60)) {
            let mut recent = Recent::default();
            let mut noted: Vec<(u64, u64)> = Vec::new();
            let mut now = 0;
            for (pause, key, age) in steps {
                now += pause;
                let (tick, age_time) = (Tick::from_nanos(now), Duration::from_nanos(age));
                let newest = noted.iter().filter(|(_, of)| *of == key).map(|(at, _)| *at).max();
                let wanted = newest.and_then(|at| (at + age).checked_sub(now)).filter(|wait| *wait > 0);
                let wait = recent.wait(Key::from_bits(key), age_time, tick);
                prop_assert_eq!(wait, wanted.map(Duration::from_nanos));
                recent.note(Key::from_bits(key), tick);
                noted.retain(|note| *note != (now, key));
                noted.push((now, key));
                recent.expire(Duration::from_nanos(8), tick);
                noted.retain(|(at, _)| at + 8 > now);
                prop_assert_eq!(recent.len(), noted.len());
            }
            recent.expire(Duration::from_nanos(8), Tick::from_nanos(now + 8));
            prop_assert!(recent.is_empty() && recent.last.is_empty());
        }
    }

    /// Goal: the oldest note goes first, and a newer one of its key stays; two of one instant are one.
    #[test]
    fn the_oldest_is_forgotten_first() {
        let [a, b] = [Key::from_bits(1), Key::from_bits(2)];
        let (at, age) = (Tick::from_nanos, Duration::from_nanos(100));
        let mut recent = Recent::default();
        for (time, key) in [(1, a), (1, a), (2, b), (3, a)] {
            recent.note(key, at(time));
        }
        assert_eq!(recent.len(), 3);
        assert!(recent.forget_oldest());
        assert!(recent.wait(b, age, at(5)).is_some());
        assert!(recent.forget_oldest());
        assert_eq!(recent.wait(b, age, at(5)), None);
        assert!(recent.wait(a, age, at(5)).is_some());
        assert!(recent.forget_oldest() && !recent.forget_oldest());
        assert_eq!(recent.wait(a, age, at(5)), None);
    }
}
