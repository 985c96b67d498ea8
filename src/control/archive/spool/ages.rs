//! How long records have been in a spool: elapsed time, whatever their own time and the wall clock
//! say.

use std::collections::VecDeque;
use std::time::Duration;

use uproar_proto::base::clock::Tick;
use uproar_proto::base::limits::LOG_AGES_MAX;

/// Interval between two recorded arrival times.
const AGE_GRANULE: Duration = Duration::from_mins(1);

/// Arrival times of a spool's records, to a minute.
#[derive(Debug)]
pub(super) struct Ages(
    // Records from this number on arrived at this time or later; both ascend. At most LOG_AGES_MAX.
    VecDeque<(u64, Tick)>,
);

impl Ages {
    /// Counts the age of all records, from `first` on, from `now`.
    pub(super) fn new(first: u64, now: Tick) -> Self {
        Self(VecDeque::from([(first, now)]))
    }

    /// How long record `number` has been here, or since the server started.
    pub(super) fn age(&self, number: u64, now: Tick) -> Duration {
        let older = self.0.partition_point(|(first, _)| *first <= number);
        let since = older.checked_sub(1).and_then(|index| self.0.get(index));
        since.map_or(Duration::ZERO, |(_, came)| now.since(*came))
    }

    /// Records from `next` on arrive now. `is_empty`: none waits before them.
    pub(super) fn note(&mut self, next: u64, is_empty: bool, now: Tick) {
        let due = |(_, came): &(u64, Tick)| now.since(*came) >= AGE_GRANULE;
        if is_empty {
            self.0.clear();
        }
        if self.0.back().is_none_or(due) {
            if self.0.len() >= LOG_AGES_MAX {
                // Half of them suffice: an age of days is known to some minutes.
                let mut kept = false;
                self.0.retain(|_| {
                    kept = !kept;
                    kept
                });
            }
            self.0.push_back((next, now));
        }
        debug_assert!(
            self.0.len() <= LOG_AGES_MAX,
            "one more only below the bound"
        );
    }

    /// Records before `number` are gone.
    pub(super) fn forget(&mut self, number: u64) {
        while self.0.get(1).is_some_and(|(first, _)| *first <= number) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::base::number::wide;

    /// Goal: ages stay within their bound, and known to minutes, however long a sink is
    /// unreachable.
    #[test]
    fn ages_are_known_to_minutes_for_weeks() {
        let start = Tick::from_nanos(3_600_000_000_000);
        let minutes = 3 * wide(LOG_AGES_MAX);
        let mut ages = Ages::new(0, start);
        for minute in 0..minutes {
            ages.note(minute, false, start.after(Duration::from_mins(minute)));
            assert!(ages.0.len() <= LOG_AGES_MAX);
        }
        let end = start.after(Duration::from_mins(minutes));
        for number in [1, 5_000, minutes - 1] {
            let passed = Duration::from_mins(minutes - number);
            let age = ages.age(number, end);
            assert!(
                age >= passed && age <= passed + Duration::from_mins(8),
                "{age:?} for {passed:?}"
            );
        }
    }
}
