//! From a logged room to the archive: frames are handed over, and delivered once they are in the spool.
//!
//! What a viewer has seen is then in the log even if the process is killed at that instant. The shard
//! never waits: what it holds is a queue, released by the archive's answers, or by a deadline when the
//! archive's disk stalls.

use std::collections::VecDeque;

use bytes::Bytes;

use super::mailbox::{MustArrive, Post};
use crate::base::clock::Tick;
use crate::base::id::RoomId;
use crate::base::limits::{LOG_HANDED_BYTES_MAX, LOG_HOLD_MAX};
use crate::room::ArchiveTargets;

/// Frames for the archive.
#[derive(Debug)]
pub struct Entry {
    /// Their room.
    pub room: RoomId,
    /// Whose spools they go to.
    pub targets: ArchiveTargets,
    /// Whole server frames, one behind the other.
    pub frames: Bytes,
}

/// Bounded by [`LOG_HANDED_BYTES_MAX`] before it is sent.
impl MustArrive for Entry {}

/// What becomes of a delivery whose frames were offered.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered<H> {
    /// It is held until the frames are spooled.
    Held,
    /// The frames are handed over; deliver now, the archive is late.
    Late(H),
    /// The archive takes no more: deliver without a record, after what is held of the same room.
    Missed(H),
}

/// The queue of deliveries `H` that wait for the archive.
#[derive(Debug)]
pub struct Handover<H> {
    post: Option<Post<Entry>>,
    // What the archive has not answered yet, oldest first: bytes, and the delivery unless it went ahead.
    handed: VecDeque<(usize, Option<H>)>,
    handed_bytes: usize,
    // How many of these deliveries are held.
    held: usize,
    // When the oldest held delivery was offered. Invariant: `None` exactly when nothing is held.
    held_since: Option<Tick>,
    // The archive missed a deadline: nothing is held until it has answered everything.
    late: bool,
}

impl<H> Handover<H> {
    /// With the archive's mailbox; without one, nothing is logged.
    pub fn new(post: Option<Post<Entry>>) -> Self {
        Self {
            post,
            handed: VecDeque::new(),
            handed_bytes: 0,
            held: 0,
            held_since: None,
            late: false,
        }
    }

    /// Whether there is an archive.
    pub fn is_on(&self) -> bool {
        self.post.is_some()
    }

    /// Hands `entry` over; `delivery` is for when it is spooled.
    pub fn offer(&mut self, entry: Entry, delivery: H, now: Tick) -> Offered<H> {
        let bytes = entry.frames.len();
        let fits = self.handed_bytes + bytes <= LOG_HANDED_BYTES_MAX;
        let Some(post) = self.post.as_mut().filter(|_| fits) else {
            return Offered::Missed(delivery);
        };
        post.deliver(entry);
        self.handed_bytes += bytes;
        if self.late {
            self.handed.push_back((bytes, None));
            return Offered::Late(delivery);
        }
        self.handed.push_back((bytes, Some(delivery)));
        self.held += 1;
        self.held_since.get_or_insert(now);
        Offered::Held
    }

    /// The archive has spooled the oldest entry: its delivery, unless it went ahead.
    pub fn spooled(&mut self, now: Tick) -> Option<H> {
        let (bytes, delivery) = self.handed.pop_front()?;
        self.handed_bytes -= bytes;
        self.held -= usize::from(delivery.is_some());
        self.late &= !self.handed.is_empty();
        // Close enough: what follows was offered no earlier, and the archive is alive.
        self.held_since = self.held_since.filter(|_| self.held > 0).map(|_| now);
        delivery
    }

    /// When held deliveries must go ahead; `None` while nothing is held.
    pub fn deadline(&self) -> Option<Tick> {
        self.held_since.map(|since| since.after(LOG_HOLD_MAX))
    }

    /// Lets everything held go ahead, in order: the archive is late.
    pub fn release(&mut self) -> Vec<H> {
        self.late = !self.handed.is_empty();
        self.release_some(|_| true)
    }

    /// Lets some of what is held go ahead, in order. The rest stays held.
    pub fn release_some(&mut self, chosen: impl Fn(&H) -> bool) -> Vec<H> {
        let released: Vec<H> = self
            .handed
            .iter_mut()
            .filter_map(|(_, delivery)| delivery.take_if(|delivery| chosen(delivery)))
            .collect();
        self.held -= released.len();
        self.held_since = self.held_since.filter(|_| self.held > 0);
        released
    }

    /// Wakes the archive; returns whether something still waits to be sent.
    pub fn flush(&mut self) -> bool {
        self.post.as_mut().is_some_and(Post::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::super::doorbell::Doorbell;
    use super::super::mailbox::mailbox;
    use super::*;
    use std::sync::Arc;

    fn entry(bytes: usize) -> Entry {
        Entry {
            room: RoomId::from_random(1),
            targets: ArchiveTargets::default(),
            frames: Bytes::from(vec![0; bytes]),
        }
    }

    fn on() -> (Handover<u32>, rtrb::Consumer<Entry>) {
        let (post, consumer) = mailbox(&Arc::new(Doorbell::new().expect("an eventfd")));
        (Handover::new(Some(post)), consumer)
    }

    /// Goal: deliveries follow the archive's answers, in order.
    #[test]
    fn deliveries_follow_the_spool() {
        let (mut handover, _mail) = on();
        let now = Tick::from_nanos(5);
        assert_eq!(handover.deadline(), None);
        assert_eq!(handover.offer(entry(1), 1, now), Offered::Held);
        assert_eq!(handover.offer(entry(1), 2, now), Offered::Held);
        assert_eq!(handover.deadline(), Some(now.after(LOG_HOLD_MAX)));
        assert_eq!(handover.spooled(now), Some(1));
        assert_eq!(handover.spooled(now), Some(2));
        assert_eq!((handover.spooled(now), handover.deadline()), (None, None));
    }

    /// Goal: a late archive holds nothing up, until it has caught up; nothing is delivered twice.
    #[test]
    fn a_late_archive_holds_nothing_up() {
        let (mut handover, _mail) = on();
        let now = Tick::from_nanos(5);
        for delivery in [1, 2] {
            assert_eq!(handover.offer(entry(1), delivery, now), Offered::Held);
        }
        assert_eq!(handover.release(), [1, 2]);
        assert_eq!(handover.offer(entry(1), 3, now), Offered::Late(3));
        assert_eq!(handover.deadline(), None);
        for _ in 0..3 {
            assert_eq!(handover.spooled(now), None);
        }
        assert_eq!(handover.offer(entry(1), 4, now), Offered::Held);
        assert_eq!(handover.spooled(now), Some(4));
    }

    /// Goal: what goes ahead of one room leaves the others held, with a deadline while any is.
    #[test]
    fn one_rooms_deliveries_go_ahead_alone() {
        let (mut handover, _mail) = on();
        let now = Tick::from_nanos(5);
        for delivery in [10, 20, 11, 21] {
            assert_eq!(handover.offer(entry(1), delivery, now), Offered::Held);
        }
        assert_eq!(handover.release_some(|delivery| *delivery < 20), [10, 11]);
        assert_eq!(handover.deadline(), Some(now.after(LOG_HOLD_MAX)));
        assert_eq!(handover.offer(entry(1), 12, now), Offered::Held);
        let answered = [(); 4].map(|()| handover.spooled(now));
        assert_eq!(answered, [None, Some(20), None, Some(21)]);
        assert!(handover.release_some(|delivery| *delivery > 20).is_empty());
        assert_eq!(handover.release_some(|_| true), [12]);
        assert_eq!(handover.deadline(), None, "nothing is held");
        assert_eq!(handover.spooled(now), None);
    }

    /// Goal: the bound holds, and is free again once the archive has answered.
    #[test]
    fn a_full_handover_misses() {
        let (mut handover, mut mail) = on();
        let now = Tick::default();
        let half = LOG_HANDED_BYTES_MAX / 2;
        assert_eq!(handover.offer(entry(half), 1, now), Offered::Held);
        assert_eq!(handover.offer(entry(half), 2, now), Offered::Held);
        assert_eq!(handover.offer(entry(1), 3, now), Offered::Missed(3));
        assert_eq!(handover.release(), [1, 2]);
        assert!(mail.pop().is_ok());
        assert_eq!(handover.spooled(now), None);
        assert_eq!(handover.offer(entry(half), 4, now), Offered::Late(4));
        let mut off: Handover<u32> = Handover::new(None);
        assert_eq!(off.offer(entry(1), 5, now), Offered::Missed(5));
        assert!(!off.is_on());
    }
}
