//! A room whose messages of one user, or of all, are taken back.

use std::collections::BTreeMap;

use super::{HomeRoom, PublishContext, RequestFault};
use crate::shard::metrics::ShardMetrics;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::limits::PURGE_EVENTS_MAX;
use uproar_proto::chat::{Action, encode};
use uproar_proto::extension::speech::Key;
use uproar_proto::room::redaction;

/// What takes back all messages of a user, or of everybody.
#[derive(Debug)]
pub(in crate::shard) struct Purge {
    /// Whose; `None`: everybody's.
    user_id: Option<String>,
    /// Why, for people.
    reason: String,
    /// The name of the event that tells of it last.
    pub(super) name: String,
    /// Its attributes.
    pub(super) attributes_json: String,
}

impl Purge {
    /// That of a user's messages.
    pub(in crate::shard) fn of_user(user_id: &str, reason: &str, purge_event: &str) -> Self {
        Self {
            user_id: Some(user_id.to_owned()),
            reason: reason.to_owned(),
            name: purge_event.to_owned(),
            attributes_json: encode::purged_attributes(user_id, reason),
        }
    }

    /// That of everybody's.
    pub(in crate::shard) fn of_all(reason: &str) -> Self {
        Self {
            user_id: None,
            reason: reason.to_owned(),
            name: encode::CLEARED.to_owned(),
            attributes_json: encode::attributes_json([("Reason", reason)]),
        }
    }
}

impl HomeRoom {
    /// The purge that an event of the API is, by its name and attributes; `None`: it is another one, or the room has no tags of
    /// ours.
    pub(in crate::shard) fn purge_by(
        &self,
        (name, attributes_json): (&str, &str),
        purge_event: &str,
    ) -> Option<Purge> {
        if name != purge_event || self.room.settings().extension.is_none() {
            return None;
        }
        let attributes: BTreeMap<String, String> = serde_json::from_str(attributes_json).ok()?;
        let reason = attributes.get("Reason");
        Some(Purge {
            user_id: Some(redaction::purged(&attributes)?.to_owned()),
            reason: reason.cloned().unwrap_or_default(),
            name: name.to_owned(),
            attributes_json: attributes_json.to_owned(),
        })
    }

    /// Takes back all messages of a user, or of everybody: announces it. What is remembered, what was not sent yet, and a pin are
    /// taken back when the events are flushed.
    ///
    /// # Errors
    ///
    /// As those of a deletion.
    pub(in crate::shard) fn purge(
        &mut self,
        purge: &Purge,
        context: &mut PublishContext<'_>,
    ) -> Result<FrameId, RequestFault> {
        let (settings, budgets) = (context.settings, context.budgets);
        self.charge(Action::DeleteMessage, context.now.tick, settings, budgets)?;
        Ok(self.announce_purge(purge, context))
    }

    /// Appends an event of the API, which may be a purge.
    pub(in crate::shard) fn announce(
        &mut self,
        (name, attributes_json): (&str, &str),
        context: &mut PublishContext<'_>,
    ) -> FrameId {
        let purge_event = &context.settings.purge_event;
        if let Some(purge) = self.purge_by((name, attributes_json), purge_event) {
            return self.announce_purge(&purge, context);
        }
        let mut encoding = context.encoding();
        self.room.announce(&mut encoding, name, attributes_json, "")
    }

    fn announce_purge(&mut self, purge: &Purge, context: &mut PublishContext<'_>) -> FrameId {
        let before = self.take_back(purge, context.metrics);
        self.moderated.get_or_insert(context.now.tick);
        let mut encoding = context.encoding();
        for (name, attributes) in before {
            self.room.announce(&mut encoding, name, &attributes, "");
        }
        self.room
            .announce(&mut encoding, &purge.name, &purge.attributes_json, "")
    }

    /// Number of remembered messages of a user, or of everybody.
    fn remembered_of(&self, user_id: Option<&str>) -> usize {
        self.memory().map_or(0, |memory| match user_id {
            Some(user_id) => memory.of_user(Key::of_user(user_id)).count(),
            None => memory.len(),
        })
    }

    /// Forgets what waits for moderators. Returns the events that tell of a user's newest messages one by one, as every client
    /// knows it, in order: names, and attributes as JSON. The one for all comes behind them.
    pub(super) fn take_back(
        &mut self,
        purge: &Purge,
        metrics: &ShardMetrics,
    ) -> Vec<(&'static str, String)> {
        let user_id = purge.user_id.as_deref();
        metrics.purged.add_len(self.remembered_of(user_id));
        self.forget_waiting(user_id, metrics);
        let Some((user_id, memory)) = user_id.zip(self.memory()) else {
            return Vec::new();
        };
        let newest = memory.of_user(Key::of_user(user_id));
        let single = newest.take(PURGE_EVENTS_MAX).map(|id| {
            let attributes = encode::deleted_attributes(id.as_str(), &purge.reason);
            (encode::DELETED, attributes)
        });
        single.collect()
    }
}
