//! Sets of rules: compiled first, then stored, then in force. What is acknowledged is on disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fault::{Fault, FieldFault};
use super::record::{Record, ResourceHeader, RoomRecord, RuleSetRecord};
use super::state::Control;
use crate::exposition::{Exposition, Family};
use crate::logging::{Kind, local};
use crate::shard::command::{Refused, Said};
use crate::shard::gateway::{DENIED_AS_ASKED, KEPT};
use crate::shard::settings::AccountBudgets;
use crate::supervisor::blocking;
use uproar_proto::base::id::{RoomId, RuleSetId};
use uproar_proto::extension::held::Decision;
use uproar_proto::extension::rules::{Action, CompiledSet, Rule};

impl Control {
    /// Puts a set of rules in place of the one of its name. When it returns the set is on disk and in force on this server; in
    /// a cluster on the others a moment later.
    ///
    /// # Errors
    ///
    /// A rule is not valid, there are as many sets as may be, or the disk refuses.
    pub(super) async fn put_rule_set(
        &self,
        name: &str,
        rules: Vec<Rule>,
    ) -> Result<RuleSetRecord, Fault> {
        let written = rules
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>();
        let written = written.map_err(|_unwritable| Fault::Internal)?;
        let compiled = self.compile(rules).await?.map_err(|fault| {
            let name = fault.place;
            let message = fault.must;
            Fault::Fields(vec![FieldFault { name, message }])
        })?;
        let (id, now_ms) = (RuleSetId::of(name), self.clock.now().unix.millis());
        let before = self.registry.rule_sets.get(id);
        let mut header =
            before.map_or_else(|| ResourceHeader::new(id, now_ms), |before| before.header);
        header.name = Some(name.to_owned());
        header.touch(now_ms);
        let record = RuleSetRecord {
            header,
            rules: written,
        };
        self.registry.put_rule_set(record.clone()).await?;
        // Of two calls at once the one that is stored last counts.
        if !self.registry.is_shared() && self.registry.rule_sets.get(id).as_ref() == Some(&record) {
            self.gateway.shared().rules.put(name, compiled);
        }
        Ok(record)
    }

    /// Removes a set of rules; `false` if it does not exist.
    ///
    /// # Errors
    ///
    /// A room's tags name it, or the disk refuses.
    pub(super) async fn remove_rule_set(&self, name: &str) -> Result<bool, Fault> {
        let names_it = |room: &RoomRecord| {
            let named = room.header.tags.get(TAG);
            named.is_some_and(|named| named.split('+').any(|other| other == name))
        };
        if self.registry.rooms.any(names_it) {
            return Err(Fault::conflict(name, IN_USE));
        }
        let removed = self.registry.remove_rule_set(RuleSetId::of(name)).await?;
        if removed && !self.registry.is_shared() {
            self.gateway.shared().rules.remove(name);
        }
        Ok(removed)
    }

    /// Does what a change of the cluster's registry asks of this node.
    pub(super) async fn follow_rule_set(&self, id: RuleSetId, set: Option<RuleSetRecord>) {
        if !self.registry.has_extensions() {
            return;
        }
        let rules = &self.gateway.shared().rules;
        let Some(set) = set else {
            let found =
                rules.look(|sets| sets.keys().find(|name| RuleSetId::of(name) == id).cloned());
            if let Some(name) = found {
                rules.remove(&name);
            }
            return;
        };
        let (known, unknown) = set.known();
        let compiled = self.compile(known).await;
        if let Ok(Ok(compiled)) = compiled {
            rules.put(set.name(), compiled);
            if unknown == 0 {
                return;
            }
        }
        log_unknown(&set);
    }

    /// Compiles on another thread: a large set takes tens of milliseconds.
    async fn compile(
        &self,
        rules: Vec<Rule>,
    ) -> Result<Result<CompiledSet, uproar_proto::extension::rules::RuleFault>, Fault> {
        let shared = Arc::clone(self.gateway.shared());
        let compiled = blocking(move || Ok(CompiledSet::compile(rules, shared.rules.fold())));
        compiled.await.map_err(|_logged| Fault::Internal)
    }

    /// Decides a held message: it is said now, with this id and time, or denied. `by`: a moderator; empty: a back end.
    ///
    /// # Errors
    ///
    /// `NoSuchRoom`: it is not held.
    pub(super) async fn decide(
        &self,
        room: RoomId,
        decision: Decision,
        by: &str,
    ) -> Result<Option<Said>, Refused> {
        let allows = decision.allows;
        match self.gateway.decide(room, decision, by).await {
            Ok(said) => Ok(allows.then_some(said)),
            // Of a user under a shadow ban it is given back, and nobody else hears it.
            Err(Refused::Denied(text)) if [DENIED_AS_ASKED, KEPT].contains(&&*text) => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// Adds the figures of rules to `/metrics`.
    pub(super) fn render_rules(&self, page: &mut Exposition) {
        let mut counted = page.family(&HITS);
        self.gateway.shared().rules.look(|sets| {
            let mut sets: Vec<_> = sets.iter().collect();
            sets.sort_unstable_by_key(|(name, _)| *name);
            for (name, set) in sets {
                for (action, hits) in Action::ALL.iter().zip(&*set.hits) {
                    let labels = [("set", &**name), ("action", action.name())];
                    counted.add(&labels, hits.load(Ordering::Relaxed));
                }
            }
        });
    }
}

/// Puts the stored sets in force, before anybody is let in.
pub fn load_rules(stored: &[RuleSetRecord], shared: &AccountBudgets) {
    for set in stored {
        let (known, unknown) = set.known();
        let compiled = CompiledSet::compile(known, shared.rules.fold());
        let is_whole = compiled.is_ok() && unknown == 0;
        if let Ok(compiled) = compiled {
            shared.rules.put(set.name(), compiled);
        }
        if !is_whole {
            log_unknown(set);
        }
    }
}

fn log_unknown(set: &RuleSetRecord) {
    if let Some(suppressed) = local::admit(Kind::ApiFailed) {
        let (set, id) = (set.name(), set.id());
        tracing::error!(set, %id, suppressed, "rules of this set are of another version: they are not in force here");
    }
}

const TAG: &str = "uproar:rules";
const IN_USE: &str = "The rule set is in use: a room's tag uproar:rules names it";
const HITS: Family = Family::counter(
    "uproar_rule_hits_total",
    "Messages of which a set of rules decided, by the set and the action.",
);
