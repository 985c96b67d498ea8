//! A room whose members vote and react.

use bytes::Bytes;

use super::HomeRoom;
use crate::shard::room_tallies::RoomTallies;
use uproar_proto::base::clock::Now;
use uproar_proto::room::RoomSettings;

impl HomeRoom {
    /// What it has of tallies, if it has something.
    pub(in crate::shard) fn tallies(&self) -> Option<&RoomTallies> {
        self.detour.as_deref()?.tallies.as_deref()
    }

    /// The same, to be changed.
    pub(in crate::shard) fn tallies_mut(&mut self) -> Option<&mut RoomTallies> {
        self.detour.as_deref_mut()?.tallies.as_deref_mut()
    }

    /// The same; it has something from now on.
    pub(in crate::shard) fn need_tallies(&mut self) -> &mut RoomTallies {
        let detour = self.detour.get_or_insert_default();
        detour.tallies.get_or_insert_default()
    }

    /// Forgets it if it has nothing any more.
    pub(in crate::shard) fn end_tallies(&mut self) {
        let is_over =
            |tallies: &mut Box<RoomTallies>| tallies.counted.is_empty() && tallies.due().is_none();
        if let Some(detour) = &mut self.detour {
            detour.tallies.take_if(is_over);
        }
        self.detour.take_if(|detour| !detour.is_needed());
    }

    /// Notes what a frame of the room tells of a tally, if it does.
    pub(in crate::shard) fn note_tally(&mut self, frame: &Bytes, now: Now) {
        if RoomTallies::concerns(frame) {
            self.need_tallies().show(frame, now);
        }
    }

    /// The settings that a member gets with its greeting: with the open tallies.
    pub(in crate::shard) fn settings_to_join(
        &mut self,
        mut settings: RoomSettings,
    ) -> RoomSettings {
        if let (Some(tallies), Some(extension)) = (self.tallies_mut(), &settings.extension)
            && let Some(greeting) = tallies.greeting(extension)
        {
            settings.extension = Some(greeting);
        }
        settings
    }

    /// Makes the greeting anew: the room's state has changed.
    pub(super) fn renew_greeting(&mut self) {
        if let Some(tallies) = self.tallies_mut() {
            tallies.renew_greeting();
        }
    }
}
