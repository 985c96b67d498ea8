//! Bans: stored like rooms, one of a user in each place.

use super::{Cached, Keep, Registry};
use crate::control::fault::Fault;
use crate::control::record::{BanRecord, Record};
use crate::control::record_cache::RecordCache;
use uproar_proto::base::clock::Now;
use uproar_proto::base::id::BanId;
use uproar_proto::extension::bans::Ban;

impl Cached for BanRecord {
    fn cache(registry: &Registry) -> &RecordCache<Self> {
        &registry.bans
    }
}

impl Registry {
    /// Every ban, as the shards need it; none while the extensions are switched off.
    pub fn bans_in_force(&self, now: Now) -> Vec<(BanId, Ban)> {
        if !self.has_extensions() {
            return Vec::new();
        }
        self.bans.each(|ban| (ban.id(), ban.in_force(now)))
    }

    /// Stores a ban, in place of the one with its id; on disk, or in the cluster's bucket and known here, when it returns.
    pub async fn put_ban(&self, ban: BanRecord) -> Result<(), Fault> {
        let _one_at_a_time = self.bans.changing(ban.id()).await;
        match &self.keep {
            Keep::Alone => self.put(ban).await,
            Keep::Cluster(replica) => self.put_shared(replica, &ban).await,
        }
    }

    /// The same, but if one is there, whichever node has stored it, what `over` makes of the two; returns what is stored,
    /// `None`: the one that is there stays.
    pub async fn put_ban_over(
        &self,
        ban: &BanRecord,
        over: impl Fn(&BanRecord) -> Option<BanRecord>,
    ) -> Result<Option<BanRecord>, Fault> {
        let _one_at_a_time = self.bans.changing(ban.id()).await;
        if let Keep::Cluster(replica) = &self.keep {
            return self.put_shared_over(replica, ban, over).await;
        }
        let there = self.bans.get(ban.id());
        let put = there.map_or_else(|| Some(ban.clone()), |there| over(&there));
        if let Some(ban) = &put {
            self.put(ban.clone()).await?;
        }
        Ok(put)
    }

    /// Removes a ban; `false` if it does not exist.
    pub async fn remove_ban(&self, id: BanId) -> Result<bool, Fault> {
        let _one_at_a_time = self.bans.changing(id).await;
        if let Keep::Cluster(replica) = &self.keep {
            return self.remove_shared::<BanRecord>(replica, id).await;
        }
        if !self.bans.contains(id) {
            return Ok(false);
        }
        self.remove::<BanRecord>(id).await?;
        Ok(true)
    }
}
