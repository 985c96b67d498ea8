//! A room whose messages of one user, or of all, are taken back.

use super::{HomeRoom, PublishContext, RequestFault};
use uproar_proto::base::id::FrameId;
use uproar_proto::base::limits::PURGE_EVENTS_MAX;
use uproar_proto::chat::{Action, encode};
use uproar_proto::extension::speech::Key;
use uproar_proto::room::redaction::Redaction;

/// An event: its name, and its attributes as JSON.
type Named = (String, String);

impl HomeRoom {
    /// Takes back all messages of a user, or of everybody: announces it. What is remembered, and what was not sent yet, is cut
    /// when the events are flushed.
    pub(in crate::shard) fn purge(
        &mut self,
        user_id: Option<&str>,
        reason: &str,
        context: &mut PublishContext<'_>,
    ) -> Result<FrameId, RequestFault> {
        let (settings, budgets) = (context.settings, context.budgets);
        self.charge(Action::DeleteMessage, context.now.tick, settings, budgets)?;
        let (before, (name, attributes)) =
            self.purge_events(user_id, reason, &settings.purge_event);
        context.metrics.purged.add_len(self.remembered_of(user_id));
        self.forget_waiting(user_id, context.metrics);
        self.moderated.get_or_insert(context.now.tick);
        let user = user_id.map(Key::of_user);
        self.note_unpinned(user.map_or(Redaction::All, Redaction::User));
        let mut encoding = context.encoding();
        for (name, attributes) in before {
            self.room.announce(&mut encoding, &name, &attributes, "");
        }
        Ok(self.room.announce(&mut encoding, &name, &attributes, ""))
    }

    /// Number of remembered messages of a user, or of everybody.
    pub(in crate::shard) fn remembered_of(&self, user_id: Option<&str>) -> usize {
        self.memory().map_or(0, |memory| match user_id {
            Some(user_id) => memory.of_user(Key::of_user(user_id)).count(),
            None => memory.len(),
        })
    }

    /// The events that tell of it, in order and the last one apart: the newest messages one by one, as every client knows it,
    /// then the one for all.
    pub(in crate::shard) fn purge_events(
        &self,
        user_id: Option<&str>,
        reason: &str,
        purge_event: &str,
    ) -> (Vec<Named>, Named) {
        let Some(user_id) = user_id else {
            let attributes = encode::attributes_json([("Reason", reason)]);
            return (Vec::new(), (encode::CLEARED.to_owned(), attributes));
        };
        let memory = self.memory();
        let newest = memory
            .into_iter()
            .flat_map(|memory| memory.of_user(Key::of_user(user_id)));
        let single = newest.take(PURGE_EVENTS_MAX).map(|id| {
            let attributes = encode::deleted_attributes(id.as_str(), reason);
            (encode::DELETED.to_owned(), attributes)
        });
        let all = encode::purged_attributes(user_id, reason);
        (single.collect(), (purge_event.to_owned(), all))
    }
}
