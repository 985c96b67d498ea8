//! Messages that rules hold for those who moderate: decided, or over.

use super::publish::NO_ROOM;
use super::{Env, Rooms};
use crate::shard::command::{Answer, Refused, Said};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::cluster::HashSlot;
use uproar_proto::cluster::message::AskKind;
use uproar_proto::extension::held::Decision;

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

    /// Denies messages that were held for too long. Call it once a second or so.
    pub(in crate::shard::core) fn end_held<S>(&mut self, env: &mut Env<S>) {
        let mut held = 0;
        for room_slot in &self.moded {
            let shard_room = self.table.get_mut(*room_slot);
            if let Some(shard_room) = shard_room
                && let Some(home) = shard_room.home.as_deref_mut()
                && home.ruled().is_some()
            {
                let mut context = env.publish_context(&mut self.review_queue);
                held += home.end_waiting(shard_room.id, &mut context);
            }
        }
        env.metrics.held_for_crew.set_len(held);
    }

    /// When to call that again; `None`: nothing is held.
    pub(in crate::shard::core) fn held_due<S>(next: Tick, env: &Env<S>) -> Option<Tick> {
        (env.metrics.held_for_crew.get() > 0).then_some(next)
    }

    /// Forgets what is held in rooms of a hash slot whose home is another node now.
    pub(super) fn forget_held_of(&mut self, slot: HashSlot) {
        for room_slot in &self.moded {
            let shard_room = self.table.get_mut(*room_slot);
            if let Some(shard_room) = shard_room.filter(|room| HashSlot::of(room.id) == slot)
                && let Some(home) = shard_room.home.as_deref_mut()
            {
                home.forget_waiting(None);
            }
        }
    }
}
