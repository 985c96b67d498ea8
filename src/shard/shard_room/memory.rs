//! What the home of a room does with what it remembers.

use super::HomeRoom;
use super::remembering::{Remembering, limit};
use crate::shard::estate::rooms::RoomEstate;
use crate::shard::metrics::ShardMetrics;
use std::time::Duration;
use uproar_proto::base::clock::Tick;
use uproar_proto::cluster::crowd::Recalled;
use uproar_proto::room::memory::Memory;
use uproar_proto::room::stands::Stands;

impl HomeRoom {
    /// Begins to remember, or ends it, as the settings ask.
    pub(super) fn follow_memory(&mut self) {
        let Some(extension) = self.room.settings().extension.as_deref() else {
            self.remembering = None;
            return;
        };
        let recall = extension.settings.recall();
        let remembering = self.remembering.get_or_insert_default();
        match (&mut remembering.memory, recall) {
            (Some(memory), Some(recall)) => memory.follow(recall),
            (None, Some(recall)) => {
                let memory = Memory::new(recall, self.frames);
                let is_clustered = self
                    .detour
                    .as_ref()
                    .is_some_and(|detour| detour.is_clustered);
                remembering.memory = Some(if is_clustered {
                    memory.awaiting()
                } else {
                    memory
                });
            }
            (_, None) => {
                remembering.memory = None;
                remembering.stands = Stands::default();
            }
        }
    }

    /// Takes over what the room remembered in another process.
    pub(in crate::shard) fn inherit_memory(
        &mut self,
        part: &RoomEstate,
        purge_event: &str,
        metrics: &ShardMetrics,
    ) {
        self.frames = part.frames;
        self.remembering = None;
        self.follow_memory();
        let Some(Remembering {
            memory: Some(memory),
            stands,
            ..
        }) = self.remembering.as_deref_mut()
        else {
            return;
        };
        let (frames, forgotten) = &part.remembered;
        let frames = frames
            .iter()
            .map(|(number, noted, frame)| (*number, *noted, &frame[..]));
        memory.inherit(frames, *forgotten, purge_event);
        limit(memory, 0, metrics);
        let resume = memory.recall().resume;
        if !resume.is_zero() {
            for (user, stand, at) in &part.places {
                stands.leave(*user, *stand, true, resume, *at);
            }
            for (user, joined) in &part.present {
                stands.inherit(*user, *joined);
            }
            metrics.stands.add_len(stands.len());
        }
    }

    /// What the room remembers of its messages.
    pub(in crate::shard) fn memory(&self) -> Option<&Memory> {
        self.remembering.as_deref()?.memory.as_ref()
    }

    /// Takes what other nodes of a cluster remember, and how long ago it was said; how many messages were new.
    pub(in crate::shard) fn take_recalled(
        &mut self,
        recalled: &[Recalled],
        now: Tick,
        metrics: &ShardMetrics,
    ) -> usize {
        let remembering = self.remembering.as_deref_mut();
        let Some(memory) = remembering.and_then(|remembering| remembering.memory.as_mut()) else {
            return 0;
        };
        let before = memory.bytes();
        let noted = |age: Duration| {
            let nanos = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            Tick::from_nanos(now.nanos().saturating_sub(nanos))
        };
        let all = recalled
            .iter()
            .map(|Recalled { age, frame }| (noted(*age), &frame[..]));
        let count = memory.precede(all);
        memory.expire(now);
        limit(memory, before, metrics);
        count
    }

    /// Forgets what is too old; the bytes of messages and the number of viewers that are left.
    pub(in crate::shard) fn expire_memory(&mut self, now: Tick) -> (usize, usize) {
        let remembering = self.remembering.as_deref_mut();
        remembering.map_or((0, 0), |remembering| remembering.expire(now))
    }
}
