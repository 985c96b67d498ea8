//! Records: read in order, and given effect.

use bytes::Bytes;

use super::Engine;
use super::io::{FetchFrom, Fetched, Outcome, Output, SkipCause};
use super::slot::Recovery;
use crate::base::limits::{CLUSTER_PULSE, CLUSTER_RETRY};
use crate::cluster::append::State;
use crate::cluster::author::Successor;
use crate::cluster::reader::Arrival;
use crate::cluster::record::{BatchRecord, Content, Record};
use crate::cluster::{Epoch, HashSlot, Incarnation, Sequence};

use std::time::Duration;

impl Engine {
    /// A record came as the stream published it.
    pub(super) fn record(&mut self, slot: HashSlot, sequence: Sequence, payload: &Bytes) {
        let now = self.now.tick;
        let state = &mut self.slots[slot];
        let is_old = sequence <= state.reader.read();
        if is_old && state.author.is_some() {
            // Our own, whose answer was faster. A home learns by its appends if its log went back.
            return;
        }
        let Ok(record) = Record::decode(payload) else {
            self.counts.unreadable += 1;
            if !is_old {
                state.reader.expect(sequence, now);
            }
            return self.mark(slot);
        };
        if !is_old {
            self.peers.spoke(record.home(), now);
        }
        match state.reader.arrive(sequence, record, payload.len(), now) {
            Arrival::Next(record) => self.apply(slot, sequence, record),
            Arrival::Back(record) => {
                self.hole(slot, sequence, SkipCause::WentBack);
                self.apply(slot, sequence, record);
            }
            Arrival::Later => self.mark(slot),
            Arrival::Old(record) => self.old(slot, sequence, &record),
        }
        self.apply_held(slot);
    }

    /// A record came that was read, or whose place was.
    fn old(&mut self, slot: HashSlot, sequence: Sequence, record: &Record) {
        self.counts.duplicates += 1;
        let state = &mut self.slots[slot];
        let epoch = match &record.content {
            Content::Batch(batch) => batch.epoch,
            Content::Takeover { .. } => sequence.into(),
            Content::Release { .. } => return,
        };
        // Brokers publish some records again after a majority of them restarted. But this may be a log made anew, of
        // which the `Takeover` was lost on the way: its leader knows.
        if state.home.is_none_or(|(_, known)| known != epoch) {
            state
                .reader
                .want(self.now.tick.after(Duration::from_secs(1)));
            self.mark(slot);
        }
    }

    fn apply_held(&mut self, slot: HashSlot) {
        while let Some((sequence, record)) = self.slots[slot].reader.release() {
            self.apply(slot, sequence, record);
        }
    }

    /// Records may have been lost on the way.
    pub(super) fn interrupted(&mut self) {
        for slot in HashSlot::all() {
            self.slots[slot].reader.want(self.now.tick);
            self.mark(slot);
        }
    }

    /// Begins the reads that are wanted.
    pub(super) fn read(&mut self, slot: HashSlot) {
        let now = self.now.tick;
        let state = &mut self.slots[slot];
        if let Some(from) = state.reader.fetch(now) {
            self.outputs.push_back(Output::Fetch { slot, from });
        }
        if let Some(recovery) = &mut state.recovery
            && recovery.wanted.is_some_and(|due| due <= now)
        {
            recovery.wanted = None;
            let from = recovery.from();
            self.outputs.push_back(Output::Fetch { slot, from });
        }
    }

    /// The stream's leader answered, or did not.
    pub(super) fn fetched(&mut self, slot: HashSlot, from: FetchFrom, found: Option<Fetched>) {
        let now = self.now.tick;
        self.mark(slot);
        let state = &mut self.slots[slot];
        let recovery = state.recovery.as_mut();
        if let Some(recovery) =
            recovery.filter(|recovery| recovery.wanted.is_none() && recovery.from() == from)
        {
            match found {
                Some(found) => self.recovered(slot, found),
                None => recovery.wanted = Some(now.after(CLUSTER_RETRY)),
            }
            return;
        }
        if !state.reader.answered(from) {
            return;
        }
        match (found, from) {
            (None, _) => state.reader.unanswered(now),
            (Some(found), FetchFrom::Last) => self.begin(slot, &found),
            (Some(found), FetchFrom::After(_)) => self.catch_up(slot, found),
        }
        self.apply_held(slot);
    }

    /// The log's end was found: reading goes on from there.
    fn begin(&mut self, slot: HashSlot, found: &Fetched) {
        let now = self.now.tick;
        let state = &mut self.slots[slot];
        let Some((sequence, payload)) = found.records.last() else {
            if found.last > Sequence::default() {
                return state.reader.want(now.after(CLUSTER_RETRY));
            }
            state.home = None;
            state.vacant_since = now;
            state.reader.at_end(Sequence::default(), now);
            return;
        };
        if !state.reader.begin(*sequence, now) {
            return self.vacate(slot, None);
        }
        let record = Record::decode(payload);
        if let Ok(record) = &record {
            state.sent = state.sent.max(record.sent);
            state.archived = record.archived();
        }
        match record.map(|record| record.content) {
            Err(_) => {
                self.counts.unreadable += 1;
                self.unknown_home(slot);
            }
            Ok(Content::Takeover { home, .. }) => {
                state.know_home(home, (*sequence).into(), now);
            }
            Ok(Content::Batch(batch)) => state.know_home(batch.home, batch.epoch, now),
            Ok(Content::Release { to, is_pinned, .. }) => {
                self.vacate(slot, Some(Successor { to, is_pinned }));
            }
        }
    }

    /// What was missing is here, as far as the log still has it.
    fn catch_up(&mut self, slot: HashSlot, found: Fetched) {
        let before = self.slots[slot].reader.read();
        for (sequence, payload) in found.records {
            let read = self.slots[slot].reader.read();
            if sequence <= read {
                continue;
            }
            match Record::decode(&payload) {
                Ok(record) => {
                    if record.previous != read {
                        self.hole(slot, sequence, SkipCause::Aged);
                    }
                    self.apply(slot, sequence, record);
                }
                Err(_) => self.unreadable(slot, sequence),
            }
        }
        let now = self.now.tick;
        let state = &mut self.slots[slot];
        let is_progress = state.reader.read() != before;
        self.counts.gaps_filled += u64::from(is_progress);
        if !found.is_complete {
            let wait = if is_progress {
                Duration::ZERO
            } else {
                CLUSTER_RETRY
            };
            return state.reader.want(now.after(wait));
        }
        if state.reader.at_end(found.last, now) {
            let cause = if found.last == Sequence::default() {
                SkipCause::Aged
            } else {
                SkipCause::WentBack
            };
            self.lose(slot, (before, found.last), cause);
            self.end_epoch(slot);
            self.slots[slot].home = None;
            return;
        }
        self.verify(slot, found.last);
    }

    /// A refused condition has its verdict, once the log was read to its end.
    fn verify(&mut self, slot: HashSlot, last: Sequence) {
        let retry = self.now.tick.after(CLUSTER_RETRY);
        let state = &mut self.slots[slot];
        let read = state.reader.read();
        let Some(append) = &mut state.append else {
            return;
        };
        if append.state != State::Verify {
            return;
        }
        if append.expected() == last {
            // Nothing has changed: without a quorum leaders refuse every condition.
            self.counts.conflicts_nothing += 1;
            append.state = State::Retry(retry);
        } else if last < read {
            // The log does not have what was appended. Whoever takes it over anew finds out whether that is so:
            // its condition is checked by a quorum.
            self.end_epoch(slot);
        } else if append.expected() < read {
            self.drop_append(slot);
        } else {
            append.state = State::Retry(retry);
        }
    }

    /// A record counts: it is the next one of its log.
    pub(super) fn apply(&mut self, slot: HashSlot, sequence: Sequence, record: Record) {
        if self.slots[slot].reader.lacks(&record) {
            self.hole(slot, sequence, SkipCause::WentBack);
        }
        let state = &mut self.slots[slot];
        state.reader.advance(sequence, self.now.tick);
        state.sent = state.sent.max(record.sent);
        state.archived = record.archived();
        match record.content {
            Content::Takeover { home, .. } => {
                self.begin_epoch(slot, (home, sequence.into()), record.previous);
            }
            Content::Release { to, is_pinned, .. } => {
                self.end_epoch(slot);
                self.vacate(slot, Some(Successor { to, is_pinned }));
            }
            Content::Batch(batch) => self.apply_batch(slot, sequence, batch),
        }
        self.mark(slot);
    }

    fn apply_batch(&mut self, slot: HashSlot, sequence: Sequence, batch: BatchRecord) {
        let BatchRecord {
            home,
            epoch,
            batch,
            mut entries,
            ..
        } = batch;
        if self.slots[slot].home != Some((home, epoch)) {
            // Its `Takeover` was in a hole.
            self.end_epoch(slot);
            let state = &mut self.slots[slot];
            state.know_home(home, epoch, self.now.tick);
            state.successor = None;
        }
        let is_ours = home == self.me;
        if is_ours {
            self.resolve(slot, batch);
        }
        let recovery = self.slots[slot].recovery.as_mut();
        let is_recovering = recovery.map(|recovery| recovery.end = sequence).is_some();
        let me = self.me;
        let own = (entries.iter()).filter(|entry| entry.origin == me);
        let own: Vec<_> = own.map(|entry| (entry.number, entry.sent)).collect();
        entries.retain(|entry| !entry.frame.is_empty());
        if !entries.is_empty() {
            self.outputs.push_back(Output::Deliver {
                slot,
                epoch,
                sequence,
                is_home_here: is_ours && !is_recovering,
                entries,
            });
        }
        for (number, sent) in own {
            if let Some(kept) = self.slots[slot].kept.take(number) {
                self.ended(kept, Outcome::Committed, Some(sent));
            }
        }
    }

    /// There is no home; perhaps one to be.
    fn vacate(&mut self, slot: HashSlot, successor: Option<Successor>) {
        let now = self.now.tick;
        let state = &mut self.slots[slot];
        // Else the next record may show that it goes on.
        let is_over = successor.is_some();
        state.home = None;
        state.successor = successor;
        state.vacant_since = now;
        if is_over {
            state.kept.over(now);
        }
    }

    /// A home begins.
    fn begin_epoch(
        &mut self,
        slot: HashSlot,
        (home, epoch): (Incarnation, Epoch),
        previous: Sequence,
    ) {
        let now = self.now.tick;
        let is_ours = home == self.me;
        let append = self.slots[slot]
            .append
            .take_if(|append| is_ours && append.cause.is_some());
        let is_verified = (append.as_ref()).is_some_and(|append| append.state == State::Verify);
        self.counts.conflicts_own += u64::from(is_verified);
        let begun = append.as_ref().map(|append| append.begun);
        let cause = append.and_then(|append| append.cause);
        let had_author = self.end_epoch(slot);
        self.counts.fenced += u64::from(had_author && !is_ours);
        let state = &mut self.slots[slot];
        let asked = state
            .successor
            .take()
            .filter(|successor| successor.to == home);
        state.know_home(home, epoch, now);
        self.is_rebalance_due |= self.moves.contains(&slot);
        let early = std::mem::take(&mut state.early);
        if is_ours {
            let is_pinned = asked.is_some_and(|successor| successor.is_pinned);
            self.take_office(slot, epoch, is_pinned, cause);
            let state = &mut self.slots[slot];
            // If nobody knows how far archives are, all that the log has is missing.
            state.recovery = (state.archived < previous).then_some(Recovery {
                after: state.archived,
                end: Sequence(epoch.0),
                wanted: Some(now),
            });
            if previous == Sequence::default() {
                // There was nothing before.
                state.archived = Sequence(epoch.0);
            }
            for early in early.into_iter().filter(|early| early.epoch == epoch) {
                self.requests(early.from, (slot, epoch), early.numbers, early.requests);
            }
        }
        self.move_bank(slot, is_ours, begun);
    }

    /// Records between what was read and this one will never be read.
    pub(super) fn hole(&mut self, slot: HashSlot, sequence: Sequence, cause: SkipCause) {
        let read = self.slots[slot].reader.read();
        self.lose(slot, (read, sequence), cause);
        self.end_epoch(slot);
    }

    fn lose(&mut self, slot: HashSlot, (after, upto): (Sequence, Sequence), cause: SkipCause) {
        match cause {
            SkipCause::Aged => self.counts.gaps_skipped += 1,
            SkipCause::WentBack => self.counts.regressions += 1,
            SkipCause::Unreadable => self.counts.unreadable += 1,
        }
        self.outputs.push_back(Output::Skipped {
            slot,
            after,
            upto,
            cause,
        });
        // A probe is asked again, since it may be there twice: a log that was lost does not make brokers mute.
        for kept in self.slots[slot].kept.drain_sent(Option::is_some) {
            self.told(kept, Outcome::Unknown);
        }
        self.slots[slot].archived = Sequence::default();
        self.slots[slot].recovery = None;
    }

    /// A record is the next one, and nobody here can read it.
    fn unreadable(&mut self, slot: HashSlot, sequence: Sequence) {
        self.hole(slot, sequence, SkipCause::Unreadable);
        self.slots[slot].reader.advance(sequence, self.now.tick);
        self.unknown_home(slot);
    }

    /// Who wrote the newest record is not known: somebody whose version is newer. Who cannot read must not take over
    /// from those who can, unless they are silent.
    fn unknown_home(&mut self, slot: HashSlot) {
        self.vacate(slot, None);
        self.slots[slot].vacant_since = self.now.tick.after(CLUSTER_PULSE * 2);
    }

    /// Frames for the archive are here.
    fn recovered(&mut self, slot: HashSlot, found: Fetched) {
        let state = &self.slots[slot];
        let (Some(mut recovery), Some(author)) = (state.recovery, &state.author) else {
            return;
        };
        let epoch = author.epoch();
        for (sequence, payload) in found.records {
            if sequence <= recovery.after || sequence > recovery.end {
                continue;
            }
            recovery.after = sequence;
            let Ok(record) = Record::decode(&payload) else {
                continue;
            };
            if let Content::Batch(batch) = record.content {
                let mut entries = batch.entries;
                entries.retain(|entry| !entry.frame.is_empty());
                if !entries.is_empty() {
                    self.outputs.push_back(Output::Unarchived {
                        slot,
                        epoch,
                        sequence,
                        entries,
                    });
                }
            }
        }
        // A leader that was deposed does not know the newest ones.
        let is_stale = found.is_complete && recovery.after < recovery.end;
        let wait = if is_stale {
            CLUSTER_RETRY
        } else {
            Duration::ZERO
        };
        recovery.wanted = Some(self.now.tick.after(wait));
        let is_over = recovery.after >= recovery.end;
        self.slots[slot].recovery = (!is_over).then_some(recovery);
    }

    /// Frames up to here are in our archive.
    pub(super) fn archived(&mut self, (slot, epoch): (HashSlot, Epoch), sequence: Sequence) {
        let state = &mut self.slots[slot];
        let author = state.author.as_ref();
        if author.is_some_and(|author| author.epoch() == epoch) {
            state.archived = state.archived.max(sequence);
        }
    }
}
