//! How far the logs of a cluster are in this node's archive, as far as one shard hands it their frames.

use std::collections::VecDeque;

use uproar_proto::base::limits::HASH_SLOTS;
use uproar_proto::cluster::{Epoch, HashSlot, Sequence};

/// The progress of each hash slot.
#[derive(Debug)]
pub(super) struct ArchivedSlots {
    slots: Vec<Progress>,
    // The newest frame handed over of each record that has some, oldest first: its number among all frames handed over,
    // the record, and the term of its hash slot.
    handed: VecDeque<(u64, HashSlot, u64, Sequence)>,
    // Slots whose progress changed since it was told, once each.
    news: Vec<HashSlot>,
}

/// The progress of one hash slot in one epoch of this node: numbers of records hold for one log, which may be lost.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    // `None`: over, or not begun.
    epoch: Option<Epoch>,
    // Counts epochs: a log that was made anew may have the number of an old one again.
    term: u64,
    // The newest record whose frames were handed over, as far as their rooms are logged.
    newest: Sequence,
    // All frames up to here are in spools.
    archived: Sequence,
    // Its records in `handed`.
    unanswered: usize,
    // It is among the news.
    is_news: bool,
}

impl Default for ArchivedSlots {
    fn default() -> Self {
        Self {
            slots: vec![Progress::default(); HASH_SLOTS],
            handed: VecDeque::new(),
            news: Vec::new(),
        }
    }
}

impl ArchivedSlots {
    /// Notes that the frames of a record were handed over; `last` is the number of its newest one, if its rooms are
    /// logged.
    pub(super) fn handed(
        &mut self,
        (slot, epoch): (HashSlot, Epoch),
        record: Sequence,
        last: Option<u64>,
    ) {
        let progress = &mut self.slots[slot.index()];
        if progress.epoch != Some(epoch) {
            progress.begin(Some(epoch));
        }
        progress.newest = progress.newest.max(record);
        if let Some(number) = last {
            progress.unanswered += 1;
            self.handed.push_back((number, slot, progress.term, record));
        } else if progress.unanswered == 0 {
            let newest = progress.newest;
            self.advance(slot, newest);
        }
    }

    /// This node's epoch is over: nobody wants to know how far its frames are.
    pub(super) fn fenced(&mut self, slot: HashSlot) {
        self.slots[slot.index()].begin(None);
    }

    /// Notes that the archive has spooled the first `count` frames.
    pub(super) fn spooled(&mut self, count: u64) {
        while let Some((_, slot, term, record)) =
            self.handed.pop_front_if(|(number, ..)| *number <= count)
        {
            let progress = &mut self.slots[slot.index()];
            if progress.term != term {
                continue;
            }
            progress.unanswered -= 1;
            let reached = if progress.unanswered == 0 {
                progress.newest
            } else {
                record
            };
            self.advance(slot, reached);
        }
    }

    fn advance(&mut self, slot: HashSlot, archived: Sequence) {
        let progress = &mut self.slots[slot.index()];
        if archived > progress.archived {
            progress.archived = archived;
            if !std::mem::replace(&mut progress.is_news, true) {
                self.news.push(slot);
            }
        }
    }

    /// Takes the progress that changed since the last call.
    pub(super) fn take_news(&mut self) -> Vec<(HashSlot, Epoch, Sequence)> {
        let told = |slot: HashSlot| {
            let progress = &mut self.slots[slot.index()];
            progress.is_news = false;
            // One that has begun since may have no progress yet.
            let epoch = progress
                .epoch
                .filter(|_| progress.archived > Sequence::default());
            epoch.map(|epoch| (slot, epoch, progress.archived))
        };
        self.news.drain(..).filter_map(told).collect()
    }

    /// Asserts the invariants above.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    pub(super) fn check(&self) {
        let unanswered: usize = self.slots.iter().map(|slot| slot.unanswered).sum();
        let of_now = |(_, slot, term, _): &&(u64, HashSlot, u64, Sequence)| {
            self.slots[slot.index()].term == *term
        };
        let handed = self.handed.iter().filter(of_now).count();
        assert_eq!(unanswered, handed, "records are counted");
        assert!(
            self.slots.iter().all(|slot| slot.archived <= slot.newest),
            "nothing is archived before it is handed over"
        );
    }
}

impl Progress {
    fn begin(&mut self, epoch: Option<Epoch>) {
        *self = Self {
            epoch,
            term: self.term + 1,
            is_news: self.is_news,
            ..Self::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the word of an epoch is of its records alone: a log that was made anew has low numbers again, even that of the
    /// epoch. Method: frames of an old log that are spooled when the new one has some, too.
    #[test]
    fn an_epoch_begins_anew() {
        let slot = HashSlot::new(1);
        for next in [5, 7] {
            let mut archived = ArchivedSlots::default();
            archived.handed((slot, Epoch(5)), Sequence(4_990), None);
            archived.handed((slot, Epoch(5)), Sequence(4_991), Some(1));
            archived.fenced(slot);
            assert!(archived.take_news().is_empty(), "it is over");
            archived.handed((slot, Epoch(next)), Sequence(8), Some(2));
            archived.handed((slot, Epoch(next)), Sequence(9), None);
            archived.check();
            archived.spooled(1);
            assert!(archived.take_news().is_empty(), "of the old log");
            archived.spooled(2);
            assert_eq!(archived.take_news(), [(slot, Epoch(next), Sequence(9))]);
            archived.check();
        }
    }

    /// Goal: a hash slot's word never runs ahead of a frame that is not in a spool, and catches up without a further
    /// record. Method: records of two slots, some without logged rooms, answered late.
    #[test]
    fn words_follow_the_spool() {
        let [a, b] = [1, 2].map(HashSlot::new);
        let (at, now) = (Sequence, Epoch(1));
        let mut archived = ArchivedSlots::default();
        archived.handed((a, now), at(3), None);
        assert_eq!(archived.take_news(), [(a, now, at(3))]);
        archived.handed((a, now), at(5), Some(2));
        archived.handed((b, now), at(6), Some(3));
        archived.handed((a, now), at(7), Some(4));
        archived.handed((a, now), at(9), None);
        archived.check();
        archived.spooled(1);
        assert!(
            archived.take_news().is_empty(),
            "a frame of record 5 is missing"
        );
        archived.spooled(2);
        assert_eq!(archived.take_news(), [(a, now, at(5))]);
        archived.spooled(4);
        assert_eq!(archived.take_news(), [(b, now, at(6)), (a, now, at(9))]);
        archived.check();
        assert!(archived.take_news().is_empty(), "each is told once");
        archived.handed((b, now), at(8), None);
        archived.handed((b, now), at(10), None);
        assert_eq!(archived.take_news(), [(b, now, at(10))]);
    }
}
