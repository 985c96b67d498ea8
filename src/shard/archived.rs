//! How far the logs of a cluster are in this node's archive, as far as one shard hands it their frames.

use std::collections::VecDeque;

use uproar_proto::base::limits::HASH_SLOTS;
use uproar_proto::cluster::{HashSlot, Sequence};

/// The progress of each hash slot.
#[derive(Debug)]
pub(super) struct ArchivedSlots {
    slots: Vec<Progress>,
    // The newest frame handed over of each record that has some, oldest first: its number among all frames handed over,
    // and the record.
    handed: VecDeque<(u64, HashSlot, Sequence)>,
    // Slots whose progress changed since it was told, once each.
    news: Vec<HashSlot>,
}

/// The progress of one hash slot.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
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
    pub(super) fn handed(&mut self, slot: HashSlot, record: Sequence, last: Option<u64>) {
        let progress = &mut self.slots[slot.index()];
        progress.newest = progress.newest.max(record);
        if let Some(number) = last {
            progress.unanswered += 1;
            self.handed.push_back((number, slot, record));
        } else if progress.unanswered == 0 {
            let newest = progress.newest;
            self.advance(slot, newest);
        }
    }

    /// Notes that the archive has spooled the first `count` frames.
    pub(super) fn spooled(&mut self, count: u64) {
        while let Some((_, slot, record)) =
            self.handed.pop_front_if(|(number, ..)| *number <= count)
        {
            let progress = &mut self.slots[slot.index()];
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
    pub(super) fn take_news(&mut self) -> Vec<(HashSlot, Sequence)> {
        let told = |slot: HashSlot| {
            let progress = &mut self.slots[slot.index()];
            progress.is_news = false;
            (slot, progress.archived)
        };
        self.news.drain(..).map(told).collect()
    }

    /// Asserts the invariants above.
    ///
    /// # Panics
    ///
    /// If one does not hold.
    pub(super) fn check(&self) {
        let unanswered: usize = self.slots.iter().map(|slot| slot.unanswered).sum();
        assert_eq!(unanswered, self.handed.len(), "records are counted");
        assert!(
            self.slots.iter().all(|slot| slot.archived <= slot.newest),
            "nothing is archived before it is handed over"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a hash slot's word never runs ahead of a frame that is not in a spool, and catches up without a further
    /// record. Method: records of two slots, some without logged rooms, answered late.
    #[test]
    fn words_follow_the_spool() {
        let [a, b] = [1, 2].map(HashSlot::new);
        let at = Sequence;
        let mut archived = ArchivedSlots::default();
        archived.handed(a, at(3), None);
        assert_eq!(archived.take_news(), [(a, at(3))]);
        archived.handed(a, at(5), Some(2));
        archived.handed(b, at(6), Some(3));
        archived.handed(a, at(7), Some(4));
        archived.handed(a, at(9), None);
        archived.check();
        archived.spooled(1);
        assert!(
            archived.take_news().is_empty(),
            "a frame of record 5 is missing"
        );
        archived.spooled(2);
        assert_eq!(archived.take_news(), [(a, at(5))]);
        archived.spooled(4);
        assert_eq!(archived.take_news(), [(b, at(6)), (a, at(9))]);
        archived.check();
        assert!(archived.take_news().is_empty(), "each is told once");
        archived.handed(b, at(8), None);
        archived.handed(b, at(10), None);
        assert_eq!(archived.take_news(), [(b, at(10))]);
    }
}
