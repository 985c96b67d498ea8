//! What the home of a room does with what it remembers.

use super::HomeRoom;
use super::remembering::{Remembering, limit};
use crate::shard::estate::rooms::RoomEstate;
use crate::shard::metrics::ShardMetrics;
use uproar_proto::base::clock::Tick;
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
            (None, Some(recall)) => remembering.memory = Some(Memory::new(recall, self.frames)),
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
            metrics.stands.add_len(stands.len());
        }
    }

    /// What the room remembers of its messages.
    pub(in crate::shard) fn memory(&self) -> Option<&Memory> {
        self.remembering.as_deref()?.memory.as_ref()
    }

    /// Forgets what is too old; the bytes of messages and the number of viewers that are left.
    pub(in crate::shard) fn expire_memory(&mut self, now: Tick) -> (usize, usize) {
        let remembering = self.remembering.as_deref_mut();
        remembering.map_or((0, 0), |remembering| remembering.expire(now))
    }
}
