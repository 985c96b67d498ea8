//! The durability gate: frames of logged rooms go to the archive, and to viewers once they are in
//! the spool.
//!
//! So a message that a viewer has seen is in the log even if the process is killed at that instant.
//! The shard never blocks: held deliveries form a queue, released by the archive's answers, or by a
//! deadline when the archive's disk stalls.

use std::collections::VecDeque;

use bytes::Bytes;

use super::mailbox::{MailboxSender, MustArrive};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{LOG_HANDED_BYTES_MAX, LOG_HOLD_MAX};
use uproar_proto::room::ArchiveTargets;

/// Frames for the archive.
#[derive(Debug)]
pub struct LoggedFrames {
    /// Their room.
    pub room: RoomId,
    /// The sinks whose spools they go to.
    pub targets: ArchiveTargets,
    /// Whole server frames, concatenated.
    pub frames: Bytes,
}

/// The gate bounds entries by [`LOG_HANDED_BYTES_MAX`] before it sends them.
impl MustArrive for LoggedFrames {}

/// The fate of a delivery whose frames were offered.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered<H> {
    /// It is held until the frames are spooled.
    Held,
    /// The frames were sent, but the archive is late: deliver now.
    Late(H),
    /// The archive takes no more: deliver without a record, after the room's held deliveries.
    Missed(H),
}

/// The queue of deliveries `H` that wait for the archive.
#[derive(Debug)]
pub struct DurabilityGate<H> {
    mailbox: Option<MailboxSender<LoggedFrames>>,
    // Entries the archive has not answered, oldest first: bytes, and the delivery unless it was
    // released early.
    handed: VecDeque<(usize, Option<H>)>,
    // Invariant: their sum; at most `LOG_HANDED_BYTES_MAX`.
    handed_bytes: usize,
    // Number of entries that it has answered.
    answered: u64,
    // Invariant: how many of these deliveries are held.
    held: usize,
    // When the oldest held delivery was offered. Invariant: `None` exactly when nothing is held.
    held_since: Option<Tick>,
    // The archive missed a deadline: nothing more is held until it has answered everything.
    // Invariant: only while something is handed.
    late: bool,
}

impl<H> DurabilityGate<H> {
    /// Makes a gate with the archive's mailbox; without one, no room is logged.
    pub fn new(mailbox: Option<MailboxSender<LoggedFrames>>) -> Self {
        Self {
            mailbox,
            handed: VecDeque::new(),
            handed_bytes: 0,
            answered: 0,
            held: 0,
            held_since: None,
            late: false,
        }
    }

    /// Whether there is an archive.
    pub fn is_on(&self) -> bool {
        self.mailbox.is_some()
    }

    /// Sends `entry` to the archive; nothing waits for it. Returns its number, which [`DurabilityGate::answered`] reaches
    /// once it is spooled; `None`: the archive takes no more.
    pub fn hand(&mut self, entry: LoggedFrames) -> Option<u64> {
        let bytes = entry.frames.len();
        let fits = self.handed_bytes + bytes <= LOG_HANDED_BYTES_MAX;
        self.mailbox.as_mut().filter(|_| fits)?.deliver(entry);
        self.handed_bytes += bytes;
        self.handed.push_back((bytes, None));
        let unanswered = u64::try_from(self.handed.len()).expect("a length in memory");
        Some(self.answered + unanswered)
    }

    /// Number of entries that the archive has answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Sends `entry` to the archive; `delivery` is due once it is spooled.
    pub fn offer(&mut self, entry: LoggedFrames, delivery: H, now: Tick) -> Offered<H> {
        let bytes = entry.frames.len();
        let fits = self.handed_bytes + bytes <= LOG_HANDED_BYTES_MAX;
        let Some(mailbox) = self.mailbox.as_mut().filter(|_| fits) else {
            return Offered::Missed(delivery);
        };
        mailbox.deliver(entry);
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

    /// Notes that the oldest entry is spooled; returns its delivery unless it was released early.
    pub fn spooled(&mut self, now: Tick) -> Option<H> {
        let (bytes, delivery) = self.handed.pop_front()?;
        self.handed_bytes -= bytes;
        self.answered += 1;
        self.held -= usize::from(delivery.is_some());
        self.late &= !self.handed.is_empty();
        // An approximation: later deliveries were offered no earlier, and the archive makes
        // progress.
        self.held_since = self.held_since.filter(|_| self.held > 0).map(|_| now);
        delivery
    }

    /// When held deliveries must be released; `None` while none is held.
    pub fn deadline(&self) -> Option<Tick> {
        self.held_since.map(|since| since.after(LOG_HOLD_MAX))
    }

    /// Releases all held deliveries, in order: the archive is late.
    pub fn release(&mut self) -> Vec<H> {
        self.late = !self.handed.is_empty();
        self.release_some(|_| true)
    }

    /// Releases the `chosen` held deliveries, in order. The rest stays held.
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

    /// Asserts the invariants above.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    pub fn check(&self) {
        let bytes: usize = self.handed.iter().map(|(bytes, _)| bytes).sum();
        assert_eq!(self.handed_bytes, bytes, "handed bytes are counted");
        let held = self.handed.iter().filter(|(_, held)| held.is_some());
        assert_eq!(self.held, held.count(), "held deliveries are counted");
        assert_eq!(
            self.held_since.is_some(),
            self.held > 0,
            "what is held has a deadline"
        );
        assert!(
            !self.late || !self.handed.is_empty(),
            "an archive that answered is not late"
        );
    }

    /// Wakes the archive; returns whether something still waits to be sent.
    pub fn flush(&mut self) -> bool {
        self.mailbox.as_mut().is_some_and(MailboxSender::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::super::doorbell::Doorbell;
    use super::super::mailbox::mailbox;
    use super::*;
    use std::sync::Arc;

    fn entry(bytes: usize) -> LoggedFrames {
        LoggedFrames {
            room: RoomId::from_random(1),
            targets: ArchiveTargets::default(),
            frames: Bytes::from(vec![0; bytes]),
        }
    }

    fn on() -> (DurabilityGate<u32>, rtrb::Consumer<LoggedFrames>) {
        let (mailbox, consumer) = mailbox(&Arc::new(Doorbell::new().expect("an eventfd")));
        (DurabilityGate::new(Some(mailbox)), consumer)
    }

    /// Goal: deliveries follow the archive's answers, in order.
    #[test]
    fn deliveries_follow_the_spool() {
        let (mut durability, _mail) = on();
        let now = Tick::from_nanos(5);
        assert_eq!(durability.deadline(), None);
        assert_eq!(durability.offer(entry(1), 1, now), Offered::Held);
        assert_eq!(durability.offer(entry(1), 2, now), Offered::Held);
        assert_eq!(durability.deadline(), Some(now.after(LOG_HOLD_MAX)));
        assert_eq!(durability.spooled(now), Some(1));
        assert_eq!(durability.spooled(now), Some(2));
        assert_eq!(
            (durability.spooled(now), durability.deadline()),
            (None, None)
        );
    }

    /// Goal: a late archive delays no delivery until it has caught up; nothing is delivered twice.
    #[test]
    fn a_late_archive_delays_no_delivery() {
        let (mut durability, _mail) = on();
        let now = Tick::from_nanos(5);
        for delivery in [1, 2] {
            assert_eq!(durability.offer(entry(1), delivery, now), Offered::Held);
        }
        assert_eq!(durability.release(), [1, 2]);
        assert_eq!(durability.offer(entry(1), 3, now), Offered::Late(3));
        assert_eq!(durability.deadline(), None);
        for _ in 0..3 {
            assert_eq!(durability.spooled(now), None);
        }
        assert_eq!(durability.offer(entry(1), 4, now), Offered::Held);
        assert_eq!(durability.spooled(now), Some(4));
    }

    /// Goal: releasing one room's deliveries leaves the others held, with a deadline while any is.
    #[test]
    fn one_rooms_deliveries_are_released_alone() {
        let (mut durability, _mail) = on();
        let now = Tick::from_nanos(5);
        for delivery in [10, 20, 11, 21] {
            assert_eq!(durability.offer(entry(1), delivery, now), Offered::Held);
        }
        assert_eq!(durability.release_some(|delivery| *delivery < 20), [10, 11]);
        assert_eq!(durability.deadline(), Some(now.after(LOG_HOLD_MAX)));
        assert_eq!(durability.offer(entry(1), 12, now), Offered::Held);
        let answered = [(); 4].map(|()| durability.spooled(now));
        assert_eq!(answered, [None, Some(20), None, Some(21)]);
        assert!(
            durability
                .release_some(|delivery| *delivery > 20)
                .is_empty()
        );
        assert_eq!(durability.release_some(|_| true), [12]);
        assert_eq!(durability.deadline(), None, "nothing is held");
        assert_eq!(durability.spooled(now), None);
    }

    /// Goal: the bound on unanswered bytes holds, and is free again once the archive has answered.
    #[test]
    fn a_full_gate_misses() {
        let (mut durability, mut receiver) = on();
        let now = Tick::default();
        let half = LOG_HANDED_BYTES_MAX / 2;
        assert_eq!(durability.offer(entry(half), 1, now), Offered::Held);
        assert_eq!(durability.offer(entry(half), 2, now), Offered::Held);
        assert_eq!(durability.offer(entry(1), 3, now), Offered::Missed(3));
        assert_eq!(durability.release(), [1, 2]);
        assert!(receiver.pop().is_ok());
        assert_eq!(durability.spooled(now), None);
        assert_eq!(durability.offer(entry(half), 4, now), Offered::Late(4));
        let mut off: DurabilityGate<u32> = DurabilityGate::new(None);
        assert_eq!(off.offer(entry(1), 5, now), Offered::Missed(5));
        assert!(!off.is_on());
    }
}
