//! A bounded number of places. When all are taken, a new connection displaces the one that has
//! waited longest.

use std::collections::{BTreeMap, BTreeSet};

use super::Holder;

/// One connection's place; identifies it until it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u64);

/// The result of a connection's entry.
#[derive(Debug)]
#[must_use]
pub enum Entered<T> {
    /// It got a free place.
    Placed(Place),
    /// It got the place of another connection, which must be closed.
    Displaced(Place, T),
    /// All others are busy: the connection is refused.
    Full,
}

/// The order in which connections are displaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It has not sent a request.
    HalfOpen,
    /// It was served, and may send more.
    Idle,
}

type Since = (Standing, u64);

struct Held<T> {
    holder: Option<Holder>,
    // `None`: busy, never displaced.
    since: Option<Since>,
    handle: T,
}

/// The places of one listener, or of one shard's part of it. Each operation costs a few lookups in
/// trees; nothing is allocated for all places at once.
///
/// A connection without a holder counts for no share: a trusted proxy's, until it names its client.
pub struct Places<T> {
    // Number of places; above zero.
    held_max: usize,
    // Places of one holder beyond which it is displaced first; above zero.
    share_max: usize,
    // Number of entries and changes of standing so far; each takes the next one as its age.
    next: u64,
    // The places taken; at most `held_max`.
    held: BTreeMap<Place, Held<T>>,
    // Invariant: the connections that are not busy, in the order of displacement.
    by_age: BTreeMap<Since, Place>,
    // Invariant: those of `by_age` that have a holder.
    by_holder: BTreeSet<(Holder, Since, Place)>,
    // Invariant: of all connections, busy or not; none is zero.
    counts: BTreeMap<Holder, usize>,
    // Invariant: those with more than `share_max`, hence fewer than `held_max / share_max`.
    heavy: Vec<Holder>,
}

impl<T> Places<T> {
    /// When all places are taken, a holder with more than `share_max` of them is displaced first.
    ///
    /// # Panics
    ///
    /// If either is zero.
    pub fn new(places_max: usize, share_max: usize) -> Self {
        assert!(places_max > 0 && share_max > 0, "a place and a share");
        Self {
            held_max: places_max,
            share_max,
            next: 0,
            held: BTreeMap::new(),
            by_age: BTreeMap::new(),
            by_holder: BTreeSet::new(),
            counts: BTreeMap::new(),
            heavy: Vec::new(),
        }
    }

    /// Changes the share. Nobody is displaced before all places are taken.
    ///
    /// # Panics
    ///
    /// If it is zero.
    pub fn set_share_max(&mut self, share_max: usize) {
        assert!(share_max > 0, "a share");
        self.share_max = share_max;
        let heavy = self.counts.iter().filter(|(_, count)| **count > share_max);
        self.heavy = heavy.map(|(holder, _)| *holder).collect();
    }

    /// Places taken.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether no place is taken.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Admits a connection. If all places are taken, the oldest connection that is not busy loses
    /// its own: that of the holder with the most, if any has more than its share; else of all.
    /// Half-open ones go before idle ones.
    pub fn enter(&mut self, holder: Option<Holder>, handle: T) -> Entered<T> {
        let displaced = if self.held.len() < self.held_max {
            None
        } else if let Some(displaced) = self.displace_next() {
            Some(displaced)
        } else {
            return Entered::Full;
        };
        let place = Place(self.tick());
        let held = Held {
            holder: None,
            since: None,
            handle,
        };
        self.held.insert(place, held);
        self.wait(place, Standing::HalfOpen);
        if let Some(holder) = holder {
            self.identify(place, holder);
        }
        match displaced {
            Some(displaced) => Entered::Displaced(place, displaced),
            None => Entered::Placed(place),
        }
    }

    /// Sets a connection's holder, now that it is known.
    pub fn identify(&mut self, place: Place, holder: Holder) {
        self.count_out(place);
        let Some(held) = self.held.get_mut(&place) else {
            return;
        };
        held.holder = Some(holder);
        if let Some(since) = held.since {
            self.by_holder.insert((holder, since, place));
        }
        let count = self.counts.entry(holder).or_default();
        *count += 1;
        if *count == self.share_max + 1 {
            self.heavy.push(holder);
        }
    }

    /// From now on the connection is not displaced.
    pub fn busy(&mut self, place: Place) {
        let Some(held) = self.held.get_mut(&place) else {
            return;
        };
        let (holder, since) = (held.holder, held.since.take());
        if let Some(since) = since {
            self.by_age.remove(&since);
            if let Some(holder) = holder {
                self.by_holder.remove(&(holder, since, place));
            }
        }
    }

    /// The connection was served and may be displaced, after all half-open ones.
    pub fn idle(&mut self, place: Place) {
        self.busy(place);
        self.wait(place, Standing::Idle);
    }

    /// Removes a connection that is admitted, or gone. `false`: it was displaced before.
    pub fn leave(&mut self, place: Place) -> bool {
        self.busy(place);
        self.count_out(place);
        self.held.remove(&place).is_some()
    }

    /// Removes the connection that is displaced first, if any is not busy.
    pub fn displace_next(&mut self) -> Option<T> {
        let heaviest = self
            .heavy
            .iter()
            .filter_map(|holder| Some((self.counts.get(holder)?, self.oldest_of(*holder)?)))
            .max_by_key(|(count, _)| **count)
            .map(|(_, place)| place);
        let place = heaviest.or_else(|| self.by_age.values().next().copied())?;
        self.busy(place);
        self.count_out(place);
        self.held.remove(&place).map(|held| held.handle)
    }

    fn oldest_of(&self, holder: Holder) -> Option<Place> {
        let from = (holder, (Standing::HalfOpen, 0), Place(0));
        let (found, _, place) = self.by_holder.range(from..).next()?;
        (*found == holder).then_some(*place)
    }

    fn wait(&mut self, place: Place, standing: Standing) {
        let since = (standing, self.tick());
        let Some(held) = self.held.get_mut(&place) else {
            return;
        };
        held.since = Some(since);
        self.by_age.insert(since, place);
        if let Some(holder) = held.holder {
            self.by_holder.insert((holder, since, place));
        }
    }

    /// Removes a connection from its holder's share, if it has one.
    fn count_out(&mut self, place: Place) {
        let Some(held) = self.held.get_mut(&place) else {
            return;
        };
        let Some(holder) = held.holder.take() else {
            return;
        };
        if let Some(since) = held.since {
            self.by_holder.remove(&(holder, since, place));
        }
        let count = self.counts.get_mut(&holder).expect("counted in before");
        *count -= 1;
        if *count == self.share_max {
            self.heavy.retain(|heavy| *heavy != holder);
        }
        if *count == 0 {
            self.counts.remove(&holder);
        }
    }

    fn tick(&mut self) -> u64 {
        debug_assert!(self.held.len() <= self.held_max, "a place for each");
        debug_assert!(
            self.by_holder.len() <= self.by_age.len() && self.by_age.len() <= self.held.len(),
            "busy ones are in no order, strangers not in that of holders"
        );
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
