//! A room with chat modes: its messages are judged where its rate is.

use super::{HomeRoom, OVER_RATE, PublishContext, RequestFault};
use crate::shard::metrics::ShardMetrics;
use crate::shard::rules::Ruling;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::MODE_RECORDS_MAX;
use uproar_proto::chat::Action;
use uproar_proto::extension::modes::{self, Judged, ModeFault};
use uproar_proto::extension::recent::Note;
use uproar_proto::extension::{Modes, Speech};

impl HomeRoom {
    /// Lets a message pass: by the room's modes, by its rules, then by the rates of the account and the room. One that is
    /// refused is charged to none, and nothing is remembered of it. Returns what its rules make of it.
    pub(in crate::shard) fn admit(
        &mut self,
        room: RoomId,
        speech: &Speech<'_>,
        context: &mut PublishContext<'_>,
    ) -> Result<Option<Ruling>, RequestFault> {
        let (now, settings) = (context.now, context.settings);
        let Some(extension) = self.room.settings().extension.clone() else {
            self.charge(Action::SendMessage, now.tick, settings, context.budgets)?;
            return Ok(None);
        };
        let asked = &extension.settings;
        let refusal = |fault: ModeFault| fault.refusal();
        let mut judged = Judged::default();
        if let Some(modes) = self.modes() {
            judged = modes.judge(asked, speech, now).map_err(refusal)?;
            if let Err(fault) = modes::judge_text(asked, speech) {
                let is_over = settings.room_rates && self.room.is_over_rate(now.tick);
                return Err(if is_over { OVER_RATE } else { refusal(fault) });
            }
        }
        let ruling = self.ruling(room, speech, context)?;
        self.charge(Action::SendMessage, now.tick, settings, context.budgets)?;
        // In a reviewed room too: waits count from here, whatever the verdict. Who tries words against the handler waits as
        // others do, and nobody has two messages under review within his wait.
        if let Some(modes) = self.modes_mut() {
            let before = modes.len();
            modes.note(judged, now.tick);
            let added = modes.len() - before;
            limit(modes, added, context.metrics);
        }
        Ok(ruling)
    }

    /// What the room's modes remember, if it has some.
    pub(in crate::shard) fn modes(&self) -> Option<&Modes> {
        self.detour.as_deref()?.modes.as_ref()
    }

    fn modes_mut(&mut self) -> Option<&mut Modes> {
        self.detour.as_deref_mut()?.modes.as_mut()
    }

    /// Begins to judge messages, or ends it, as the settings ask.
    pub(super) fn follow_modes(&mut self) {
        let extension = self.room.settings().extension.as_deref();
        let asked = extension.map(|extension| &extension.settings);
        if let Some(asked) = asked.filter(|settings| settings.has_modes()) {
            let detour = self.detour.get_or_insert_default();
            detour.modes.get_or_insert_default().follow(asked);
        } else if let Some(detour) = &mut self.detour {
            detour.modes = None;
        }
    }

    /// Forgets what does not count any more; how much is left.
    pub(in crate::shard) fn expire_modes(&mut self, now: Tick) -> usize {
        let extension = self.room.settings().extension.clone();
        let (Some(extension), Some(modes)) = (extension, self.modes_mut()) else {
            return 0;
        };
        modes.expire(&extension.settings, now);
        modes.len()
    }

    /// Takes over what the room's modes remembered in another process.
    pub(in crate::shard) fn inherit_modes(
        &mut self,
        notes: [impl Iterator<Item = Note>; 2],
        metrics: &ShardMetrics,
    ) {
        if let Some(modes) = self.modes_mut() {
            modes.inherit(notes);
            metrics.mode_records.add_len(modes.len());
        }
    }
}

/// Keeps what the shard's rooms remember within its bound: the room that adds to it forgets its oldest.
fn limit(modes: &mut Modes, added: usize, metrics: &ShardMetrics) {
    let held = usize::try_from(metrics.mode_records.get()).unwrap_or(usize::MAX);
    if held.saturating_add(added) <= MODE_RECORDS_MAX {
        metrics.mode_records.add_len(added);
        return;
    }
    for _ in 0..added {
        modes.forget_oldest();
        metrics.mode_forgotten.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uproar_proto::base::clock::{Now, UnixTime};
    use uproar_proto::chat::encode::sender_json;
    use uproar_proto::extension::{Speaker, tags};

    /// Goal: at the bound the oldest user waits no more and the newest does, and the number stays; a room that has nothing to
    /// forget remembers nothing more.
    #[test]
    fn the_oldest_is_forgotten_at_the_bound() {
        let settings = tags::settings([("uproar:slow", "10")]).expect("a tag");
        let metrics = ShardMetrics::default();
        metrics.mode_records.set_len(MODE_RECORDS_MAX - 1);
        let mut modes = Modes::default();
        let judge = |modes: &Modes, user: &str, nanos| {
            let now = Now {
                tick: Tick::from_nanos(nanos),
                unix: UnixTime::default(),
            };
            let speech = Speech {
                content: "x",
                sender_json: &sender_json(user, []),
                speaker: Speaker::default(),
            };
            modes.judge(&settings, &speech, now)
        };
        for (nanos, user) in [(1, "a"), (2, "b"), (3, "c")] {
            let judged = judge(&modes, user, nanos).expect("the first message");
            modes.note(judged, Tick::from_nanos(nanos));
            limit(&mut modes, 1, &metrics);
        }
        let waits = ["a", "b", "c"].map(|user| judge(&modes, user, 4).is_err());
        assert_eq!(waits, [false, false, true]);
        let held = usize::try_from(metrics.mode_records.get());
        assert_eq!(
            (held, metrics.mode_forgotten.get()),
            (Ok(MODE_RECORDS_MAX), 2)
        );
    }
}
