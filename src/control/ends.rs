//! When what is in rooms' records ends by time: values that moderators laid over tags, and pins.
//!
//! Records have the ends by the wall clock. They count by the monotonic clock from when this process has learnt of them, so that
//! a wall clock that steps ends nothing early and keeps nothing.

use std::cell::RefCell;
use std::collections::HashMap;

use tokio::sync::Notify;

use super::record::tick_at;
use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::base::id::RoomId;

/// The ends that rooms' records have.
#[derive(Debug, Default)]
pub(super) struct Ends {
    // Of each room that has some those of its record, in milliseconds since the epoch, and when they come.
    by_room: RefCell<HashMap<RoomId, Vec<(u64, Tick)>>>,
    // Notified at each note.
    pub(super) changed: Notify,
}

impl Ends {
    /// Notes the ends that a room's record has now, in place of those before. One that was known comes when it was to come.
    pub(super) fn note(&self, id: RoomId, ends: &[u64], now: Now) {
        let mut by_room = self.by_room.borrow_mut();
        let known = by_room.remove(&id).unwrap_or_default();
        let at = |end: &u64| {
            let known = known.iter().find(|(known, _)| known == end);
            known.map_or_else(|| tick_at(*end, now), |(_, tick)| *tick)
        };
        let noted: Vec<_> = ends.iter().map(|end| (*end, at(end))).collect();
        if !noted.is_empty() {
            by_room.insert(id, noted);
        }
        self.changed.notify_one();
    }

    /// When the next one comes.
    pub(super) fn next(&self) -> Option<Tick> {
        let by_room = self.by_room.borrow();
        by_room.values().flatten().map(|(_, tick)| *tick).min()
    }

    /// Those of a room that have come.
    pub(super) fn come(&self, id: RoomId, now: Tick) -> Vec<u64> {
        let by_room = self.by_room.borrow();
        let ends = by_room.get(&id).into_iter().flatten();
        let come = ends.filter(|(_, tick)| *tick <= now);
        come.map(|(end, _)| *end).collect()
    }

    /// The rooms that have ends.
    pub(super) fn rooms(&self) -> Vec<RoomId> {
        self.by_room.borrow().keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::base::clock::UnixTime;

    fn at(tick_s: u64, unix_s: u64) -> Now {
        Now {
            tick: Tick::from_nanos(tick_s * 1_000_000_000),
            unix: UnixTime::from_millis(unix_s * 1_000),
        }
    }

    /// Goal: an end comes when it was to come as it was noted, wherever the wall clock has stepped meanwhile, also when it is
    /// noted again.
    #[test]
    fn ends_count_by_the_monotonic_clock() {
        for step in [-3_600_i64, 0, 3_600] {
            let (ends, room) = (Ends::default(), RoomId::from_random(1));
            ends.note(room, &[100_600_000], at(50, 100_000));
            let wall = |second: u64| second.saturating_add_signed(step);
            ends.note(room, &[100_600_000], at(60, wall(100_010)));
            let second = |tick_s: u64| Tick::from_nanos(tick_s * 1_000_000_000);
            assert_eq!(ends.next(), Some(second(650)), "step {step}");
            assert_eq!(ends.come(room, second(649)), [0; 0], "step {step}");
            assert_eq!(ends.come(room, second(650)), [100_600_000]);
            let other = 1_000 * wall(100_020);
            ends.note(room, &[100_600_000, other], at(60, wall(100_010)));
            assert_eq!(
                ends.next(),
                Some(second(70)),
                "a new one has the clock of now"
            );
            assert_eq!(ends.come(room, second(649)), [other]);
        }
    }

    /// Goal: of one room there are as many as its record has, however often they are replaced.
    #[test]
    fn replaced_ends_are_forgotten() {
        let (ends, room) = (Ends::default(), RoomId::from_random(1));
        for end in 0..1_000 {
            ends.note(room, &[end], at(1, 0));
            assert_eq!(ends.by_room.borrow()[&room].len(), 1);
        }
        ends.note(room, &[], at(1, 0));
        assert!(ends.rooms().is_empty() && ends.next().is_none());
    }
}
