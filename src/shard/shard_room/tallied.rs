//! A room whose members vote and react.

use bytes::Bytes;

use super::HomeRoom;
use crate::shard::room_tallies::RoomTallies;
use uproar_proto::base::clock::Now;
use uproar_proto::extension::tallies::{TallyAnswer, TallyFault, TallyOrder};
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

    /// Does what a back end asks of its tallies. Who only asks makes nothing: the room stays on its short way.
    pub(in crate::shard) fn follow_order(&mut self, order: &TallyOrder, now: Now) -> TallyAnswer {
        let tallies = match order {
            TallyOrder::Start(_) if self.room.settings().extension.is_none() => {
                return Err(TallyFault::Untagged);
            }
            TallyOrder::Start(_) => Some(self.need_tallies()),
            TallyOrder::Stop(_) | TallyOrder::Get(_) => self.tallies_mut(),
        };
        tallies.map_or(Err(TallyFault::Unknown), |tallies| {
            tallies.counted.follow(order, now)
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::base::clock::{Tick, UnixTime};
    use uproar_proto::room::ArchiveTargets;

    /// Goal: who asks for a tally that is not there leaves nothing behind, so that the room's messages go on as they did.
    #[test]
    fn reading_makes_nothing() {
        let settings = RoomSettings {
            content_chars_max: 500,
            messages_per_second: 10,
            review: None,
            archive: ArchiveTargets::default(),
            extension: None,
        };
        let mut home = HomeRoom::new(settings, 1, false);
        let now = Now {
            tick: Tick::from_nanos(1),
            unix: UnixTime::default(),
        };
        for order in [TallyOrder::Get("p".into()), TallyOrder::Stop("p".into())] {
            assert_eq!(home.follow_order(&order, now), Err(TallyFault::Unknown));
            assert!(home.detour.is_none());
        }
    }
}
