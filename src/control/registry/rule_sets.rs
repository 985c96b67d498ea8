//! Sets of rules: stored like rooms, one of each name.

use super::{Cached, Keep, Registry};
use crate::control::fault::Fault;
use crate::control::record::{Record, RuleSetRecord};
use crate::control::record_cache::RecordCache;
use uproar_proto::base::id::RuleSetId;
use uproar_proto::base::limits::RULE_SETS_MAX;

impl Cached for RuleSetRecord {
    fn cache(registry: &Registry) -> &RecordCache<Self> {
        &registry.rule_sets
    }
}

impl Registry {
    /// Every set of rules; none while the extensions are switched off.
    pub fn rule_sets_in_force(&self) -> Vec<RuleSetRecord> {
        if !self.has_extensions() {
            return Vec::new();
        }
        self.rule_sets.each(RuleSetRecord::clone)
    }

    /// Stores a set, in place of the one of its name; on disk, or in the cluster's bucket and known here, when it returns.
    ///
    /// # Errors
    ///
    /// There are as many as may be, or the disk refuses.
    pub async fn put_rule_set(&self, set: RuleSetRecord) -> Result<(), Fault> {
        let _one_at_a_time = self.rule_sets.changing(set.id()).await;
        let full = Fault::Quota {
            limit: RULE_SETS_MAX,
            of: RuleSetRecord::TABLE.name(),
        };
        let is_known = self.rule_sets.contains(set.id());
        match &self.keep {
            Keep::Alone => {
                let reserved = self.rule_sets.reserve(RULE_SETS_MAX);
                if !is_known && reserved.is_none() {
                    return Err(full);
                }
                self.put(set).await
            }
            Keep::Cluster(replica) => {
                if !is_known && self.rule_sets.count() >= RULE_SETS_MAX {
                    return Err(full);
                }
                self.put_shared(replica, &set).await
            }
        }
    }

    /// Removes a set; `false` if it does not exist.
    pub async fn remove_rule_set(&self, id: RuleSetId) -> Result<bool, Fault> {
        let _one_at_a_time = self.rule_sets.changing(id).await;
        if let Keep::Cluster(replica) = &self.keep {
            return self.remove_shared::<RuleSetRecord>(replica, id).await;
        }
        if !self.rule_sets.contains(id) {
            return Ok(false);
        }
        self.remove::<RuleSetRecord>(id).await?;
        Ok(true)
    }
}
