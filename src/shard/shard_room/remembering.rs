//! What the home of a room with tags of ours remembers of it: messages, if they are asked for, and where viewers stand.

use std::time::Duration;

use crate::shard::departed::Departed;
use crate::shard::metrics::ShardMetrics;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::limits::{REMEMBERED_BYTES_MAX, STANDS_MAX};
use uproar_proto::extension::speech::Key;
use uproar_proto::room::log::Batch;
use uproar_proto::room::memory::{Memory, Replay, Start};
use uproar_proto::room::redaction::{self, Redacted, Redaction};
use uproar_proto::room::stands::Stands;
use uproar_proto::ws;

/// What a room remembers. A room without tags of ours has none of it, so that its flushes pay one test.
#[derive(Debug)]
pub(in crate::shard) struct Remembering {
    /// Messages; present while the room's tags ask for them.
    pub(in crate::shard) memory: Option<Memory>,
    /// Where viewers stand, while they may come back.
    pub(in crate::shard) stands: Stands,
    // What was taken out of batches before they were sent.
    redacted: Redacted,
}

impl Default for Remembering {
    fn default() -> Self {
        Self {
            memory: None,
            stands: Stands::default(),
            redacted: Redacted::at_home(),
        }
    }
}

impl Remembering {
    /// Makes that of a room which remembers this already, for tests.
    #[cfg(test)]
    pub(in crate::shard) fn holding(memory: Memory) -> Self {
        Self {
            memory: Some(memory),
            ..Self::default()
        }
    }

    /// Remembers a batch whose first frame has this number. Returns it without what it takes back itself, if that is
    /// anything, and what events in it take back: each message that is known by its id, and whole users.
    pub(in crate::shard) fn observe(
        &mut self,
        batch: &Batch,
        first: u64,
        now: Tick,
        (purge_event, metrics): (&str, &ShardMetrics),
    ) -> (Option<Batch>, Vec<Redaction>) {
        let frames = batch.plain.bytes();
        let redactions = taken_back(frames, purge_event);
        let mut gone = match &mut self.memory {
            Some(memory) => {
                let before = memory.bytes();
                let gone = memory.note(frames, (first, batch.frames), now, purge_event);
                limit(memory, before, metrics);
                gone
            }
            None => redactions
                .iter()
                .filter_map(|(_, redaction)| redaction.message())
                .collect(),
        };
        // Beside it there is what is said in this batch and not remembered, or not any more.
        for (at, redaction) in redactions
            .iter()
            .filter(|(_, redaction)| redaction.is_wide())
        {
            let before = frames.get(..*at).unwrap_or_default();
            redaction::add_taken([before], &[*redaction], &mut gone);
        }
        if redactions.is_empty() && gone.is_empty() {
            return (None, Vec::new());
        }
        metrics.redacted.add_len(gone.len());
        let cut = self.redacted.cut(batch, &gone);
        let all = redactions.into_iter().map(|(_, redaction)| redaction);
        let wide = all.filter(|redaction| redaction.is_wide());
        let all = gone.into_iter().map(Redaction::Message).chain(wide);
        (cut, all.collect())
    }

    /// What a user gets who joins at this frame of the room; `None`: the room remembers nothing.
    pub(in crate::shard) fn replay(
        &mut self,
        user: Key,
        after: Option<FrameId>,
        frame: u64,
        (now, metrics): (Tick, &ShardMetrics),
    ) -> Option<Replay> {
        let stood = self.resume().and_then(|resume| {
            let before = self.stands.len();
            let is_full = held(&metrics.stands) >= STANDS_MAX;
            let stood = self.stands.join(user, (frame, is_full), resume, now);
            metrics.stands.add_len(self.stands.len() - before);
            stood
        });
        let memory = self.memory.as_mut()?;
        let start = match (after, stood) {
            (Some(id), _) => Start::After(id),
            (None, Some(stand)) => Start::At(stand),
            (None, None) => Start::New,
        };
        Some(memory.replay(start, now))
    }

    /// Notes viewers who were taken over from another process.
    pub(in crate::shard) fn stay(&mut self, users: &[Key], metrics: &ShardMetrics) {
        if self.resume().is_none() {
            return;
        }
        for user in users {
            let before = self.stands.len();
            let is_full = held(&metrics.stands) >= STANDS_MAX;
            self.stands.stays(*user, is_full);
            metrics.stands.add_len(self.stands.len() - before);
        }
    }

    /// For how long it is remembered where viewers stood, if it is.
    fn resume(&self) -> Option<Duration> {
        let resume = self.memory.as_ref()?.recall().resume;
        (!resume.is_zero()).then_some(resume)
    }

    /// Notes that no more viewers are taken over.
    pub(in crate::shard) fn settle(&mut self, now: Tick) {
        if let Some(resume) = self.resume() {
            self.stands.settle(resume, now);
        }
    }

    /// Notes where a viewer stands who leaves.
    pub(in crate::shard) fn leaves(
        &mut self,
        departed: Departed,
        now: Tick,
        metrics: &ShardMetrics,
    ) {
        let Some(resume) = self.resume() else {
            return;
        };
        let before = self.stands.len();
        self.stands.leave(
            departed.user,
            departed.stand,
            departed.is_settled,
            resume,
            now,
        );
        let added = self.stands.len().saturating_sub(before);
        metrics.stands.add_len(added);
        if held(&metrics.stands) > STANDS_MAX {
            for _ in 0..added {
                self.stands.forget_oldest();
                metrics.stands_forgotten.inc();
            }
        }
    }

    /// Whether nothing is remembered.
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.memory.as_ref().is_none_or(Memory::is_empty) && self.stands.is_empty()
    }

    /// Forgets what is too old; the bytes of messages and the number of viewers that are left.
    pub(super) fn expire(&mut self, now: Tick) -> (usize, usize) {
        let Some(memory) = &mut self.memory else {
            return (0, 0);
        };
        memory.expire(now);
        self.stands.expire(memory.recall().resume, now);
        (memory.bytes(), self.stands.len())
    }
}

/// Keeps what the shard's rooms remember within its bound: the room that adds to it forgets its oldest.
pub(super) fn limit(memory: &mut Memory, before: usize, metrics: &ShardMetrics) {
    let held = held(&metrics.remembered_bytes);
    let added = memory.bytes().saturating_sub(before);
    let mut surplus = (held + added).saturating_sub(REMEMBERED_BYTES_MAX);
    while surplus > 0 {
        let before = memory.bytes();
        if !memory.forget_oldest() {
            break;
        }
        surplus = surplus.saturating_sub(before - memory.bytes());
    }
    metrics
        .remembered_bytes
        .add_len(memory.bytes().saturating_sub(before));
}

fn held(figure: &crate::shard::figure::Figure) -> usize {
    usize::try_from(figure.get()).unwrap_or(usize::MAX)
}

/// What events among these frames take back, and where each begins.
fn taken_back(frames: &[u8], purge_event: &str) -> Vec<(usize, Redaction)> {
    let start = frames.as_ptr().addr();
    ws::split(frames)
        .filter_map(|(whole, payload)| {
            let redaction = Redaction::read(payload, purge_event)?;
            Some((whole.as_ptr().addr() - start, redaction))
        })
        .collect()
}
