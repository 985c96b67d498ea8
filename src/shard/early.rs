//! Connections to rooms that this shard does not know, on a node of a cluster: another node may have made the room a moment
//! ago. They wait until the shard has every room that existed when they came.

use std::collections::VecDeque;

use super::cluster::Search;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;

/// Those of one shard. `T` is what waits.
#[derive(Debug)]
pub(super) struct Early<T> {
    // Each with its room, its deadline and the search that decides, in order.
    waiting: VecDeque<(RoomId, Tick, Search, T)>,
    // The newest search.
    newest: Search,
    // Whether it goes on.
    is_searching: bool,
}

impl<T> Default for Early<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            newest: 0,
            is_searching: false,
        }
    }
}

impl<T> Early<T> {
    /// Number of those that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Lets `one` wait. A search that began before it came says nothing about it: the next one does, which all share that
    /// come until then.
    pub(super) fn push(&mut self, room: RoomId, deadline: Tick, one: T) {
        let search = self.newest + 1;
        self.waiting.push_back((room, deadline, search, one));
    }

    /// Begins the next search, if one is wanted and none goes on.
    pub(super) fn search(&mut self) -> Option<Search> {
        let is_wanted = (self.waiting.back()).is_some_and(|(.., search, _)| *search > self.newest);
        if self.is_searching || !is_wanted {
            return None;
        }
        self.is_searching = true;
        self.newest += 1;
        Some(self.newest)
    }

    /// Takes those whose room is known now.
    pub(super) fn take(&mut self, room: RoomId) -> Vec<T> {
        let is_it = |(known, ..): &mut (RoomId, Tick, Search, T)| *known == room;
        let mut taken = Vec::new();
        if self.waiting.iter_mut().any(&is_it) {
            let all = std::mem::take(&mut self.waiting).into_iter();
            for mut one in all {
                if is_it(&mut one) {
                    taken.push(one.3);
                } else {
                    self.waiting.push_back(one);
                }
            }
        }
        taken
    }

    /// A search has ended: takes those whose room does not exist.
    pub(super) fn searched(&mut self, search: Search) -> Vec<T> {
        self.is_searching &= search < self.newest;
        let mut without = Vec::new();
        while let Some((.., one)) = self.waiting.pop_front_if(|(.., by, _)| *by <= search) {
            without.push(one);
        }
        without
    }

    /// Takes one that has waited for too long.
    pub(super) fn overdue(&mut self, now: Tick) -> Option<T> {
        let (.., one) = (self.waiting).pop_front_if(|(_, deadline, ..)| *deadline <= now)?;
        Some(one)
    }

    /// When the first of them has.
    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.waiting.front().map(|(_, deadline, ..)| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Goal: one search at a time, shared by all that came before it began; those that came later wait for the next. Each
    /// leaves once: by its room, by the search, or at its deadline.
    #[test]
    fn a_search_decides_what_came_before_it() {
        let (mut early, start) = (Early::default(), Tick::from_nanos(5));
        let room = |number| RoomId::from_random(number);
        let later = start.after(Duration::from_secs(2));
        assert_eq!(early.search(), None, "nobody waits");
        early.push(room(1), later, 'a');
        early.push(room(2), later, 'b');
        assert_eq!(early.search(), Some(1));
        early.push(room(2), later, 'c');
        early.push(room(3), later, 'd');
        assert_eq!(early.search(), None, "one goes on");
        assert_eq!(early.take(room(1)), ['a']);
        assert!(early.searched(0).is_empty(), "an old answer");
        assert_eq!(early.search(), None);
        assert_eq!(early.searched(1), ['b']);
        assert_eq!(early.search(), Some(2));
        assert_eq!(early.search(), None);
        assert_eq!(early.take(room(2)), ['c']);
        assert_eq!(early.overdue(start), None);
        assert_eq!(early.next_deadline(), Some(later));
        assert_eq!(early.overdue(later), Some('d'));
        assert!(early.searched(2).is_empty());
        assert_eq!((early.search(), early.len()), (None, 0));
    }
}
