//! Messages that rules hold for those who moderate: decided, or over.

use super::publish::NO_ROOM;
use super::{Env, Rooms};
use crate::shard::command::{Answer, Refused, Said};
use crate::shard::metrics::ShardMetrics;
use crate::shard::requests::Asker;
use crate::shard::shard_room::ShardRoom;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::HELD_PAGE_MAX;
use uproar_proto::base::table::Slot;
use uproar_proto::cluster::HashSlot;
use uproar_proto::cluster::message::{Ask, AskKind};
use uproar_proto::extension::held::{Decision, HeldPage, HeldPlace};

impl Rooms {
    /// Decides a held message, and answers: if it is said now, with its time.
    pub(in crate::shard::core) fn decide<S>(
        &mut self,
        room: RoomId,
        (decision, by): (&Decision, &str),
        answer: Answer<Said>,
        env: &mut Env<S>,
    ) {
        let id = decision.id;
        if self.is_clustered() {
            let texts = [id.as_str(), &*decision.reason, decision.verb(), by];
            return self.ask_for_api(room, (AskKind::Decide, texts, false), answer, env);
        }
        let done = self.find(room).ok_or(NO_ROOM).and_then(|room_slot| {
            self.with_home(room_slot, env, |home, _, context| {
                home.decide(room, (decision, by), context)
            })
        });
        let outcome = done.map_err(|(code, text)| Refused::of(code, &text));
        if decision.allows || outcome.is_err() {
            return self.answer(room, answer, outcome);
        }
        let sent = env.now.unix;
        let _caller_gone = answer.send(Ok(Said { id, sent }));
    }

    /// Tells which messages of a room wait, or has the home of its hash slot tell it.
    pub(in crate::shard::core) fn list_held<S>(
        &mut self,
        room: RoomId,
        (place, most): (Option<HeldPlace>, u32),
        answer: Answer<HeldPage>,
        env: &mut Env<S>,
    ) {
        let Some(room_slot) = self.find(room) else {
            let _caller_gone = answer.send(Err(Refused::NoSuchRoom));
            return;
        };
        if self.is_clustered() {
            let place = place.map_or_else(String::new, |place| place.to_string());
            let asked = (AskKind::Held, &*place, &*most.to_string(), false);
            self.ask_own(room, asked, Asker::Held(answer), env);
            return;
        }
        let page = self.held_page(room_slot, (place, most), env);
        let _caller_gone = answer.send(Ok(page));
    }

    /// Tells what another node, or this one, asks of the held messages of a room whose hash slot is at home here; as JSON.
    pub(super) fn author_held<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        ask: &Ask,
        env: &Env<S>,
    ) -> String {
        let [place, most, ..] = ask.texts.get();
        let asked = (HeldPlace::parse(place), most.parse().unwrap_or(0));
        let page = self.held_page(room_slot, asked, env);
        serde_json::to_string(&page).unwrap_or_default()
    }

    fn held_page<S>(
        &mut self,
        room_slot: Slot<ShardRoom>,
        (place, most): (Option<HeldPlace>, u32),
        env: &Env<S>,
    ) -> HeldPage {
        let home = self.home_in(room_slot);
        home.map_or_else(HeldPage::default, |home| {
            home.held_page(place, most.min(HELD_PAGE_MAX), env.now)
        })
    }

    /// Denies messages that were held for too long. Call it once a second or so.
    pub(in crate::shard::core) fn end_held<S>(&mut self, env: &mut Env<S>) {
        let (mut held, now) = (0, env.now.tick);
        for room_slot in &self.moded {
            let shard_room = self.table.get_mut(*room_slot);
            if let Some(shard_room) = shard_room
                && let Some(home) = shard_room.home.as_deref_mut()
                && home.ruled().is_some()
            {
                let mut context = env.publish_context(&mut self.review_queue);
                held += home.end_waiting(shard_room.id, now, &mut context);
            }
        }
        env.metrics.held_for_crew.set_len(held);
    }

    /// When to call that again; `None`: nothing is held.
    pub(in crate::shard::core) fn held_due<S>(next: Tick, env: &Env<S>) -> Option<Tick> {
        (env.metrics.held_for_crew.get() > 0).then_some(next)
    }

    /// Forgets what is held in rooms of a hash slot whose home is another node now.
    pub(super) fn forget_held_of(&mut self, slot: HashSlot, metrics: &ShardMetrics) {
        for room_slot in &self.moded {
            let shard_room = self.table.get_mut(*room_slot);
            if let Some(shard_room) = shard_room.filter(|room| HashSlot::of(room.id) == slot)
                && let Some(home) = shard_room.home.as_deref_mut()
            {
                home.forget_waiting(None, metrics);
            }
        }
    }
}
