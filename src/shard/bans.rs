//! Bans that all shards look at: written by the control thread, before it tells the shards.
//!
//! Whoever is admitted is looked up in the turn that installs the connection. So a ban that is put before is seen there, and
//! one that is put after finds the connection when the shard is told: none slips through between.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::{BanId, RoomId};
use uproar_proto::extension::bans::{Ban, BanMode, Bans, InForce};

/// All bans in force, shared by all threads.
#[derive(Debug, Default)]
pub struct SharedBans {
    bans: RwLock<Bans>,
    // Number of them: without any nobody takes the lock.
    count: AtomicUsize,
}

impl SharedBans {
    /// Puts a ban in force.
    pub fn put(&self, id: BanId, ban: Ban) {
        self.change(|bans| bans.put(id, ban));
    }

    /// Lifts a ban; whether there was one.
    pub fn remove(&self, id: BanId) -> bool {
        self.change(|bans| bans.remove(id))
    }

    /// Lifts all.
    pub fn clear(&self) {
        self.change(|bans| *bans = Bans::default());
    }

    fn change<T>(&self, change: impl FnOnce(&mut Bans) -> T) -> T {
        // What panics here has not changed the table by halves: its own tests say so.
        let mut bans = self.bans.write().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut bans);
        self.count.store(bans.len(), Ordering::Release);
        done
    }

    /// Looks at all of them.
    pub fn look<T>(&self, look: impl FnOnce(&Bans) -> T) -> T {
        look(&self.bans.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// What keeps a user from something in a room.
    pub fn of_user(&self, room: RoomId, user_id: &str, now: Tick) -> Option<InForce> {
        if self.is_empty() {
            return None;
        }
        self.look(|bans| bans.of_user(room, user_id, now))
    }

    /// Whether a user may not come to a room from an address.
    pub fn bars(&self, room: RoomId, user_id: &str, ip: IpAddr, now: Tick) -> bool {
        !self.is_empty()
            && self.look(|bans| {
                let own = bans.of_user(room, user_id, now);
                own.is_some_and(|own| own.mode == BanMode::Ban) || bans.bars_address(room, ip, now)
            })
    }
}
