//! One timer takes back what ends by time in rooms' records.

use std::convert::Infallible;
use std::rc::Rc;

use tokio::time::{Instant, sleep_until};

use super::record::{Record, RoomRecord};
use super::state::Control;
use uproar_proto::base::clock::Now;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{OVERRIDES_LOOK, OVERRIDES_LOOK_MIN};

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
