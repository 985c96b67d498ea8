//! What ends by time in rooms' records: values that moderators laid over tags, and pins. One timer keeps all of it.
//!
//! Records have the ends by the wall clock. They count by the monotonic clock from when this process has learnt of them, so that
//! a wall clock that steps ends nothing early and keeps nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::record::{Record, RoomRecord, tick_at};
use super::state::Control;
use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{OVERRIDES_LOOK, OVERRIDES_LOOK_MIN};

/// The ends that rooms' records have.
#[derive(Debug, Default)]
pub(super) struct Ends {
    // Of each room that has some those of its record, in milliseconds since the epoch, and when they come.
    by_room: RefCell<HashMap<RoomId, Vec<(u64, Tick)>>>,
    changed: Notify,
}

impl Ends {
    /// Notes the ends that a room's record has now, in place of those before. One that was known comes when it was to come.
    fn note(&self, id: RoomId, ends: &[u64], now: Now) {
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
    fn next(&self) -> Option<Tick> {
        let by_room = self.by_room.borrow();
        by_room.values().flatten().map(|(_, tick)| *tick).min()
    }

    /// Those of a room that have come.
    fn come(&self, id: RoomId, now: Tick) -> Vec<u64> {
        let by_room = self.by_room.borrow();
        let ends = by_room.get(&id).into_iter().flatten();
        let come = ends.filter(|(_, tick)| *tick <= now);
        come.map(|(end, _)| *end).collect()
    }

    /// The rooms that have ends.
    fn rooms(&self) -> Vec<RoomId> {
        self.by_room.borrow().keys().copied().collect()
    }
}

impl Control {
    /// Takes back what ends by time, as long as the server runs. In a cluster each node does; the first one has done it.
    pub(super) async fn keep_ends(self: &Rc<Self>) -> Infallible {
        // The first look is at what has ended while no process looked.
        let (mut look, mut lifted) = (Instant::now(), None);
        loop {
            let next = self.ends.next().map(|tick| self.clock.instant(tick).into());
            // One that is to be tried again, or comes soon behind another one, waits a little.
            let soon = lifted.map(|lifted: Instant| lifted + OVERRIDES_LOOK_MIN);
            let wake = next.max(next.and(soon)).map_or(look, |next| next.min(look));
            tokio::select! {
                () = sleep_until(wake) => {
                    if Instant::now() >= look {
                        self.note_all_ends();
                        self.remove_old_bans().await;
                        look = Instant::now() + OVERRIDES_LOOK;
                    }
                    self.lift_ended().await;
                    lifted = Some(Instant::now());
                }
                () = self.look_now.notified() => look = Instant::now(),
                () = self.ends.changed.notified() => {}
            }
        }
    }

    /// Notes what ends in a room by time, as its record is now. Call it when that has changed.
    pub(super) fn note_ends(&self, id: RoomId) {
        let room = self.registry.rooms.get(id);
        let ends: Vec<u64> = room.iter().flat_map(RoomRecord::ends).collect();
        self.ends.note(id, &ends, self.clock.now());
    }

    /// Notes it of all rooms: other nodes have changed them, or another process.
    fn note_all_ends(&self) {
        let known = self.ends.rooms();
        let ending = |room: &RoomRecord| room.ends().next().map(|_| room.id());
        let ending = self.registry.rooms.each(ending);
        for id in ending.into_iter().flatten().chain(known) {
            self.note_ends(id);
        }
    }

    /// Takes back what has ended. While the disk refuses, it is tried again.
    async fn lift_ended(&self) {
        for id in self.ends.rooms() {
            let now = self.clock.now();
            let ended = self.ends.come(id, now.tick);
            if !ended.is_empty() {
                self.lift(id, &ended, now).await;
            }
        }
    }

    async fn lift(&self, id: RoomId, ended: &[u64], now: Now) {
        let _open = Rc::clone(&self.open_calls);
        if self.phase.is_ending() {
            return;
        }
        let room = self.registry.rooms.get(id);
        let mut ends = room.iter().flat_map(RoomRecord::ends);
        if ends.any(|end| ended.contains(&end)) {
            let edited = self.registry.edit(id, |room: &mut RoomRecord| {
                room.lift(ended, now.unix.millis());
                Ok(())
            });
            match edited.await {
                Ok(Some(room)) => drop(self.put_room(&room).await),
                Ok(None) => {}
                Err(_logged) => return,
            }
        }
        self.note_ends(id);
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
