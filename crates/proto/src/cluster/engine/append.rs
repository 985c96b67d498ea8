//! What this node appends: one record at a time for each hash slot.

use super::Engine;
use super::io::{AppendOutcome, Output, SkipCause};
use crate::base::clock::{Tick, UnixTime};
use crate::base::limits::{CLUSTER_BANK_LEASE, CLUSTER_RETRY};
use crate::cluster::append::{Cause, PendingAppend, State};
use crate::cluster::author::NextRecord;
use crate::cluster::record::{BatchRecord, Content, Record};
use crate::cluster::{HashSlot, Sequence};

impl Engine {
    /// Appends what is due: the pending record again, the home's next one, or a `Takeover`.
    pub(super) fn append(&mut self, slot: HashSlot) {
        let now = self.now.tick;
        if self.append_due(slot).is_none_or(|due| due > now) {
            return;
        }
        if self.slots[slot].append.is_some() {
            return self.append_again(slot);
        }
        let state = &mut self.slots[slot];
        let Some(mut previous) = state.reader.condition() else {
            return;
        };
        // A home does not follow a log that is said to have gone back: its appends show whether it has.
        let (content, cause) = if let Some(author) = &mut state.author {
            previous = state.reader.read();
            let Some(next) = author.next_record(now) else {
                return;
            };
            let epoch = author.epoch();
            (self.next_content(slot, epoch, next), None)
        } else if let Some((_, cause)) = self.takeover_due(slot) {
            let told = self.peers.sent();
            let state = &mut self.slots[slot];
            if previous == Sequence::default() || state.sent == UnixTime::default() {
                // The log does not tell how late it is in its rooms.
                state.sent = state.sent.max(told);
            }
            let known = state.reader.read();
            let content = Content::Takeover {
                home: self.me,
                // What is known here of a log that was lost says nothing of the one that took its place.
                archived: if previous == known {
                    state.archived
                } else {
                    Sequence::default()
                },
                known,
            };
            (content, Some(cause))
        } else {
            return;
        };
        let state = &mut self.slots[slot];
        state.attempts += 1;
        let record = Record::following(previous, state.sent, content);
        let free = match cause {
            None | Some(Cause::Planned) => now,
            Some(Cause::Failed | Cause::Vacant) => {
                state.reader.quiet_since().after(CLUSTER_BANK_LEASE)
            }
        };
        let append = PendingAppend::new(record, cause, state.attempts, (now, free));
        state.append = Some(append);
        self.attempt(slot);
    }

    fn next_content(
        &self,
        slot: HashSlot,
        epoch: crate::cluster::Epoch,
        next: NextRecord,
    ) -> Content {
        let (home, archived) = (self.me, self.slots[slot].archived);
        let entries = match next {
            NextRecord::Release(successor) => {
                return Content::Release {
                    home,
                    to: successor.to,
                    is_pinned: successor.is_pinned,
                    archived,
                };
            }
            NextRecord::Batch(entries) => entries,
            NextRecord::Pulse => Vec::new(),
        };
        Content::Batch(BatchRecord {
            home,
            epoch,
            batch: self.slots[slot].attempts + 1,
            archived,
            entries,
        })
    }

    /// Tries the pending record again, unless it is a `Takeover` that is not wanted any more.
    fn append_again(&mut self, slot: HashSlot) {
        let now = self.now.tick;
        let wanted = self.takeover_due(slot).is_some_and(|(due, _)| due <= now);
        let state = &mut self.slots[slot];
        let Some(append) = &mut state.append else {
            return;
        };
        let is_stale = state.reader.condition() != Some(append.expected());
        if append.cause.is_some() && (is_stale || !wanted) {
            // It may be in the log all the same: then this node is the home when it reads so.
            self.slots[slot].reader.want(now);
            return self.drop_append(slot);
        }
        state.attempts += 1;
        append.again(state.attempts, now);
        self.attempt(slot);
    }

    fn attempt(&mut self, slot: HashSlot) {
        let state = &self.slots[slot];
        if let Some(append) = &state.append {
            self.outputs.push_back(Output::Append {
                slot,
                expected: append.expected(),
                attempt: state.attempts,
                payload: append.payload.clone(),
                entries: append.entries,
            });
        }
    }

    /// When there is something to append; `None` also while the condition is not known.
    pub(super) fn append_due(&self, slot: HashSlot) -> Option<Tick> {
        let state = &self.slots[slot];
        state.reader.condition()?;
        if let Some(append) = &state.append {
            return append.due();
        }
        if let Some(author) = &state.author {
            return Some(author.due());
        }
        self.takeover_due(slot).map(|(due, _)| due)
    }

    /// An attempt has an outcome.
    pub(super) fn appended(&mut self, slot: HashSlot, attempt: u64, outcome: AppendOutcome) {
        let now = self.now.tick;
        let state = &mut self.slots[slot];
        let append = state.append.as_mut();
        // An answer that comes late is about a record that was found in the log, or given up.
        let Some(append) = append.filter(|append| append.covers(attempt)) else {
            return;
        };
        match outcome {
            AppendOutcome::Ok(sequence) => {
                let record = append.take_record();
                self.appended_at(slot, sequence, record);
            }
            AppendOutcome::WrongLast if append.is_newest(attempt) => {
                append.state = State::Verify;
                state.reader.want(now);
            }
            AppendOutcome::Unknown if append.is_newest(attempt) => {
                self.counts.appends_unknown += 1;
                append.state = State::Retry(now.after(CLUSTER_RETRY));
            }
            AppendOutcome::WrongLast | AppendOutcome::Unknown => {}
        }
        self.mark(slot);
    }

    /// Our record is in the log: that is as good as reading it there.
    fn appended_at(&mut self, slot: HashSlot, sequence: Sequence, record: Record) {
        let read = self.slots[slot].reader.read();
        if record.previous != read {
            // Its condition was that the log is shorter than what was read, and a quorum agreed.
            let cause = if sequence <= read {
                SkipCause::WentBack
            } else {
                SkipCause::Aged
            };
            let append = self.slots[slot].append.take();
            self.hole(slot, sequence, cause);
            self.slots[slot].append = append;
        }
        self.apply(slot, sequence, record);
        while let Some((sequence, record)) = self.slots[slot].reader.release() {
            self.apply(slot, sequence, record);
        }
    }

    /// Our batch was found in the log.
    pub(super) fn resolve(&mut self, slot: HashSlot, number: u64) {
        let is_it = |append: &PendingAppend| matches!(&append.record.content, Content::Batch(batch) if batch.batch == number);
        let state = &mut self.slots[slot];
        if let Some(append) = state.append.take_if(|append| is_it(append)) {
            self.authored_bytes -= append.entry_bytes;
            self.counts.appends += 1;
            self.counts.conflicts_own += u64::from(append.state == State::Verify);
            let entries = u64::try_from(append.entries);
            self.counts.appended_entries += entries.unwrap_or_default();
            self.confirm_bank(slot, append.begun.at);
        }
    }

    /// Gives the pending record up.
    pub(super) fn drop_append(&mut self, slot: HashSlot) {
        if let Some(append) = self.slots[slot].append.take() {
            self.authored_bytes -= append.entry_bytes;
        }
    }

    /// A take-over of this node is in the log.
    pub(super) fn count_takeover(&mut self, cause: Option<Cause>) {
        match cause {
            Some(Cause::Planned) => self.counts.takeovers_planned += 1,
            Some(Cause::Vacant) => self.counts.takeovers_vacant += 1,
            Some(Cause::Failed) | None => self.counts.takeovers_failed_home += 1,
        }
    }
}
