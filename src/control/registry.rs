//! Rooms and logging configurations: in memory for reads, in the store for durability, and the
//! rules between them.
//!
//! A server alone writes its store, then its memory. A node of a cluster writes the cluster's bucket, and follows it:
//! memory and store are a copy ([`mod@follow`]).

pub mod admin;
mod bans;
mod facts;
mod follow;
pub(crate) mod key;
mod metrics;
mod node;
mod replica;
mod rule_sets;
mod secret;
mod settle;
mod shared;
mod store;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

pub use facts::{CopyMark, Facts, copied_cluster};
pub use node::{KeyChange, NodeEffects, RecordChanges};
pub use replica::{ReplicaSettings, Standing};
pub use secret::{ClusterSecret, SecretError};

use node::Rows;
use replica::Replica;

use super::arn::{Account, resource_id};
use super::fault::Fault;
use super::record::{
    BanRecord, Destination, LoggingRecord, LoggingState, Record, RoomRecord, RuleSetRecord,
};
use super::record_cache::RecordCache;
use super::store::{Store, StoreError, Table, Write};
use uproar_proto::base::id::{BanId, LoggingId, RoomId, RuleSetId};
use uproar_proto::room::RoomSettings;

/// Everything the control plane stores.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    keep: Keep,
    /// Rooms.
    pub rooms: RecordCache<RoomRecord>,
    /// Logging configurations.
    pub logging: RecordCache<LoggingRecord>,
    /// Bans.
    pub bans: RecordCache<BanRecord>,
    /// Sets of rules.
    pub rule_sets: RecordCache<RuleSetRecord>,
    // Logging configurations that rooms are being attached to, with the number of those rooms;
    // never zero.
    attaching: RefCell<HashMap<LoggingId, usize>>,
    // Whether tags of ours mean something.
    extensions: Cell<bool>,
}

/// Whose the records are.
#[derive(Debug)]
enum Keep {
    /// This server's: its store is the truth.
    Alone,
    /// Its cluster's: the bucket is, and the store a copy.
    Cluster(Box<Replica>),
}

const IN_USE: &str = "The logging configuration is in use: a room names it";
const IN_PROGRESS: &str = "Another change of the logging configuration is in progress; retry later";
const ID_TAKEN: &str = "There is a resource with this id already";
const BEING_DELETED: &str = "The logging configuration is being deleted";

/// A record that the registry caches.
pub trait Cached: Record {
    /// Its cache.
    fn cache(registry: &Registry) -> &RecordCache<Self>;
}

impl Cached for RoomRecord {
    fn cache(registry: &Registry) -> &RecordCache<Self> {
        &registry.rooms
    }
}

impl Cached for LoggingRecord {
    fn cache(registry: &Registry) -> &RecordCache<Self> {
        &registry.logging
    }
}

/// Why a database cannot be used as a copy of a cluster's registry.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It has records of a server alone.
    #[error(
        "the database has {records} records and is no copy of cluster {cluster}: start with an empty server.data_dir; to make \
         these records the cluster's, run `uproar cluster init --config FILE` instead"
    )]
    NotACopy {
        /// The configured cluster.
        cluster: String,
        /// Rooms and logging configurations.
        records: usize,
    },
    /// It is a copy of another cluster.
    #[error(
        "the database is a copy of cluster {found}, the configuration names cluster {configured}: start with an empty \
         server.data_dir"
    )]
    OtherCluster {
        /// Whose copy it is.
        found: String,
        /// The configured one.
        configured: String,
    },
    /// It cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Logging configurations that cannot be deleted while a room that names them is being written.
#[derive(Debug)]
#[must_use]
pub struct Attaching<'a> {
    registry: &'a Registry,
    account: &'a Account,
    arns: Vec<String>,
    ids: Vec<LoggingId>,
}

impl Attaching<'_> {
    /// Looks again, once the room is written: another node may have begun a deletion before.
    fn confirm(&self) -> Result<(), Fault> {
        self.registry.named(self.account, &self.arns).map(drop)
    }
}

impl Drop for Attaching<'_> {
    fn drop(&mut self) {
        let mut attaching = self.registry.attaching.borrow_mut();
        for id in &self.ids {
            if let Some(count) = attaching.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    attaching.remove(id);
                }
            }
        }
    }
}

impl Registry {
    /// Loads the stored records of a server alone. Whether the store is the copy of a cluster's is not asked.
    pub fn load(mut store: Store) -> Result<Self, StoreError> {
        let rooms = RecordCache::load(store.take(RoomRecord::TABLE))?;
        let logging = RecordCache::load(store.take(LoggingRecord::TABLE))?;
        let bans = RecordCache::load(store.take(BanRecord::TABLE))?;
        let rule_sets = RecordCache::load(store.take(RuleSetRecord::TABLE))?;
        // A deletion that was in progress in a cluster was not acknowledged.
        for id in logging.each(LoggingRecord::id) {
            logging.mark(id, |record| record.state = LoggingState::Active);
        }
        Ok(Self {
            store,
            keep: Keep::Alone,
            rooms,
            logging,
            bans,
            rule_sets,
            attaching: RefCell::default(),
            extensions: Cell::new(false),
        })
    }

    /// Loads the copy of a cluster's registry. It is current once [`Registry::follow`] says so.
    ///
    /// # Errors
    ///
    /// `NotACopy`: the records are of a server alone, or of another cluster.
    pub fn load_copy(mut store: Store, settings: ReplicaSettings) -> Result<Self, CopyError> {
        let mut rows = Rows::read(store.take(Table::Cluster));
        let tables = [
            RoomRecord::TABLE,
            LoggingRecord::TABLE,
            BanRecord::TABLE,
            RuleSetRecord::TABLE,
        ];
        let stored = tables.map(|table| store.take(table));
        let records = stored.iter().map(Vec::len).sum();
        match &rows.copy {
            Some(copy) if copy.cluster != settings.cluster => {
                return Err(CopyError::OtherCluster {
                    found: copy.cluster.clone(),
                    configured: settings.cluster,
                });
            }
            None if records > 0 => {
                let cluster = settings.cluster;
                return Err(CopyError::NotACopy { cluster, records });
            }
            Some(_) | None => {}
        }
        let replica = Replica::new(settings, rows.copy.clone());
        let [rooms, logging, bans, rule_sets] = stored;
        rows.note_all::<RoomId>(&replica, &rooms);
        rows.note_all::<LoggingId>(&replica, &logging);
        rows.note_all::<BanId>(&replica, &bans);
        rows.note_all::<RuleSetId>(&replica, &rule_sets);
        Ok(Self {
            store,
            keep: Keep::Cluster(Box::new(replica)),
            rooms: RecordCache::load(rooms)?,
            logging: RecordCache::load(logging)?,
            bans: RecordCache::load(bans)?,
            rule_sets: RecordCache::load(rule_sets)?,
            attaching: RefCell::default(),
            extensions: Cell::new(false),
        })
    }

    /// Sets whether tags of ours mean something; call it before the shards get their rooms.
    pub fn set_extensions(&self, extensions: bool) {
        self.extensions.set(extensions);
    }

    /// Whether tags of ours mean something.
    pub fn has_extensions(&self) -> bool {
        self.extensions.get()
    }

    fn replica(&self) -> Option<&Replica> {
        match &self.keep {
            Keep::Alone => None,
            Keep::Cluster(replica) => Some(replica),
        }
    }

    /// Whether the records are a cluster's: then its changes reach the shards and the archive by
    /// [`Registry::follow`], and nobody else tells them.
    pub fn is_shared(&self) -> bool {
        self.replica().is_some()
    }

    /// Whether reads are as of now, or why they are not. A server alone is always current.
    pub fn standing(&self) -> Standing {
        self.replica().map_or(Standing::Current, Replica::standing)
    }

    /// How far this node has followed its cluster's registry; 0 for a server alone.
    pub fn revision(&self) -> u64 {
        self.replica().map_or(0, |replica| replica.applied().0)
    }

    /// Ready once all that is in memory is on disk and known to the shards.
    pub async fn shards_have_all(&self) {
        if let Some(replica) = self.replica() {
            let _late = replica.in_time(replica.settled(replica.applied())).await;
        }
    }

    /// Whether every room that exists now, on any node, is known to the shards; ready once that is so, or too late.
    pub async fn shards_know_all_rooms(&self) -> bool {
        let Some(replica) = self.replica() else {
            return true;
        };
        if replica.barrier().await.is_err() {
            return false;
        }
        let settled = replica.in_time(replica.settled(replica.applied()));
        settled.await.is_ok()
    }

    /// Ready once this node is current.
    pub async fn current(&self) {
        if let Some(replica) = self.replica() {
            let mut progress = replica.progress.subscribe();
            let current = progress.wait_for(|progress| progress.standing == Standing::Current);
            // The sender lives as long as this.
            let _current = current.await;
        }
    }

    /// Ready once all that was acknowledged before, by any node of the cluster, is in memory here. At once for a
    /// server alone.
    ///
    /// # Errors
    ///
    /// `InternalServerException` if the brokers do not answer in time.
    pub async fn barrier(&self) -> Result<(), Fault> {
        match &self.keep {
            Keep::Alone => Ok(()),
            Keep::Cluster(replica) => replica.barrier().await,
        }
    }

    /// Every room, as its shard needs it.
    pub fn room_settings(&self) -> Vec<(RoomId, RoomSettings)> {
        self.rooms.each(|room| (room.id(), self.settings_of(room)))
    }

    /// Every logging configuration, as the archive needs it.
    pub fn destinations(&self) -> Vec<(LoggingId, Destination)> {
        let known = |record: &LoggingRecord| (record.id(), record.destination.clone());
        self.logging.each(known)
    }

    /// Stores a new record, unless there are `count_max` of its kind.
    ///
    /// # Errors
    ///
    /// `ConflictException` if one with its id is there, which stays as it is.
    pub async fn insert<R: Cached>(&self, record: R, count_max: usize) -> Result<(), Fault> {
        let cache = R::cache(self);
        let full = Fault::Quota {
            limit: count_max,
            of: R::TABLE.name(),
        };
        match &self.keep {
            Keep::Alone => {
                let _reservation = cache.reserve(count_max).ok_or(full)?;
                let _one_at_a_time = cache.changing(record.id()).await;
                if cache.contains(record.id()) {
                    return Err(Fault::conflict(&record.header().id, ID_TAKEN));
                }
                self.put(record).await
            }
            Keep::Cluster(replica) => {
                if cache.count() >= count_max {
                    // Perhaps another node has deleted some.
                    replica.barrier().await?;
                }
                if cache.count() >= count_max {
                    return Err(full);
                }
                self.insert_shared(replica, record, count_max).await
            }
        }
    }

    /// Stores a new room, unless a logging configuration that it names is deleted meanwhile.
    pub async fn insert_room(
        &self,
        room: &RoomRecord,
        attaching: Attaching<'_>,
        count_max: usize,
    ) -> Result<(), Fault> {
        self.insert(room.clone(), count_max).await?;
        if let Keep::Cluster(replica) = &self.keep
            && let Err(gone) = attaching.confirm()
        {
            self.take_back(replica, room).await?;
            return Err(gone);
        }
        Ok(())
    }

    /// Changes a room and its update time; `None` if it does not exist. As [`Registry::insert_room`].
    pub async fn change_room(
        &self,
        id: RoomId,
        now_ms: u64,
        attaching: Attaching<'_>,
        change: impl Fn(&mut RoomRecord),
    ) -> Result<Option<RoomRecord>, Fault> {
        let before = RefCell::new(None);
        let changed = self.edit(id, |room: &mut RoomRecord| {
            before.replace(room.logging.clone());
            change(room);
            room.header.touch(now_ms);
            Ok(())
        });
        let changed = changed.await?;
        if let (Keep::Cluster(replica), Some(room)) = (&self.keep, &changed)
            && let Err(gone) = attaching.confirm()
        {
            self.take_logging_back(replica, room, before.into_inner())
                .await?;
            return Err(gone);
        }
        Ok(changed)
    }

    /// Changes a record unless `edit` fails; `None` if it does not exist. In a cluster `edit` is called again if
    /// another node's change came first.
    pub async fn edit<R: Cached>(
        &self,
        id: R::Id,
        edit: impl Fn(&mut R) -> Result<(), Fault>,
    ) -> Result<Option<R>, Fault> {
        let _one_at_a_time = R::cache(self).changing(id).await;
        if let Keep::Cluster(replica) = &self.keep {
            return self.edit_shared(replica, id, edit).await;
        }
        let Some(mut record) = R::cache(self).get(id) else {
            return Ok(None);
        };
        edit(&mut record)?;
        self.put(record.clone()).await?;
        Ok(Some(record))
    }

    /// Removes a room; `false` if it does not exist.
    pub async fn remove_room(&self, id: <RoomRecord as Record>::Id) -> Result<bool, Fault> {
        let _one_at_a_time = self.rooms.changing(id).await;
        if let Keep::Cluster(replica) = &self.keep {
            return self.remove_shared::<RoomRecord>(replica, id).await;
        }
        if !self.rooms.contains(id) {
            return Ok(false);
        }
        self.remove::<RoomRecord>(id).await?;
        Ok(true)
    }

    /// Protects the logging configurations that a room is about to name.
    ///
    /// # Errors
    ///
    /// `ResourceNotFoundException`, and `ConflictException` for one that is being deleted.
    pub async fn attach<'a>(
        &'a self,
        account: &'a Account,
        arns: &[String],
    ) -> Result<Attaching<'a>, Fault> {
        let ids = match self.named(account, arns) {
            Err(_) if self.is_shared() => {
                // Perhaps another node has just created it.
                self.barrier().await?;
                self.named(account, arns)?
            }
            named => named?,
        };
        let mut attaching = self.attaching.borrow_mut();
        for id in &ids {
            *attaching.entry(*id).or_default() += 1;
        }
        Ok(Attaching {
            registry: self,
            account,
            arns: arns.to_vec(),
            ids,
        })
    }

    /// The logging configurations that these ARNs name, unless one is missing or being deleted.
    fn named(&self, account: &Account, arns: &[String]) -> Result<Vec<LoggingId>, Fault> {
        const FIELD: &str = "loggingConfigurationIdentifiers";
        let named = arns.iter().map(|arn| {
            let id = account.parse(arn);
            let id = id.map_err(|error| Fault::field(FIELD, error))?;
            let record = id.and_then(|id| self.logging.get(id));
            let record = record.ok_or_else(|| Fault::not_found(arn))?;
            if record.state == LoggingState::Deleting {
                return Err(Fault::conflict(arn, BEING_DELETED));
            }
            Ok(record.id())
        });
        named.collect()
    }

    /// Changes a logging configuration; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// `ConflictException` while another change of it is being written.
    pub async fn change_logging(
        &self,
        arn: &str,
        id: LoggingId,
        now_ms: u64,
        change: impl Fn(&mut LoggingRecord),
    ) -> Result<Option<LoggingRecord>, Fault> {
        self.settled(arn, id)?;
        let _one_at_a_time = self.logging.changing(id).await;
        if let Keep::Cluster(replica) = &self.keep {
            let edit = |record: &mut LoggingRecord| {
                if record.state == LoggingState::Deleting {
                    return Err(Fault::conflict(arn, BEING_DELETED));
                }
                change(record);
                record.header.touch(now_ms);
                Ok(())
            };
            return self.edit_shared(replica, id, edit).await;
        }
        let Some(mut record) = self.logging.get(id) else {
            return Ok(None);
        };
        let _until_written = self.transition(id, LoggingState::Updating);
        change(&mut record);
        record.header.touch(now_ms);
        self.put(record.clone()).await?;
        Ok(Some(record))
    }

    /// Removes a logging configuration; `false` if it does not exist.
    ///
    /// # Errors
    ///
    /// `ConflictException` while a room names it, or another change of it is being written.
    pub async fn remove_logging(&self, arn: &str, id: LoggingId) -> Result<bool, Fault> {
        if let Keep::Cluster(replica) = &self.keep {
            let _one_at_a_time = self.logging.changing(id).await;
            return self.remove_logging_shared(replica, arn, id).await;
        }
        self.settled(arn, id)?;
        let _one_at_a_time = self.logging.changing(id).await;
        if !self.logging.contains(id) {
            return Ok(false);
        }
        if self.is_named(id) {
            return Err(Fault::conflict(arn, IN_USE));
        }
        let _until_written = self.transition(id, LoggingState::Deleting);
        self.remove::<LoggingRecord>(id).await?;
        Ok(true)
    }

    /// Whether a room names the logging configuration, or is about to.
    fn is_named(&self, id: LoggingId) -> bool {
        let names_it = |room: &RoomRecord| {
            let mut named = room.logging.iter().flatten();
            named.any(|named| resource_id(named) == id.as_str())
        };
        self.rooms.any(names_it) || self.attaching.borrow().contains_key(&id)
    }

    /// Fails while another change of the configuration is in progress.
    fn settled(&self, arn: &str, id: LoggingId) -> Result<(), Fault> {
        match self.logging.get(id) {
            Some(record) if record.state != LoggingState::Active => {
                Err(Fault::conflict(arn, IN_PROGRESS))
            }
            _ => Ok(()),
        }
    }

    /// Call with its lock held, so that no other change puts the record while its state differs.
    fn transition(&self, id: LoggingId, state: LoggingState) -> Transition<'_> {
        let cache = &self.logging;
        cache.mark(id, |record| record.state = state);
        Transition { cache, id }
    }

    async fn put<R: Cached>(&self, record: R) -> Result<(), Fault> {
        let value = serde_json::to_vec(&record).expect("a record of strings and numbers");
        self.write::<R>(record.header().id.clone(), Some(value))
            .await?;
        R::cache(self).put(record);
        Ok(())
    }

    async fn remove<R: Cached>(&self, id: R::Id) -> Result<(), Fault> {
        self.write::<R>(id.to_string(), None).await?;
        R::cache(self).remove(id);
        Ok(())
    }

    async fn write<R: Cached>(&self, id: String, value: Option<Vec<u8>>) -> Result<(), Fault> {
        let table = R::TABLE;
        let written = self.store.write(Write { table, id, value }).await;
        written.map_err(|_logged| Fault::Internal)
    }
}

/// A change of a logging configuration in progress; dropping it restores `ACTIVE`.
struct Transition<'a> {
    cache: &'a RecordCache<LoggingRecord>,
    id: LoggingId,
}

impl Drop for Transition<'_> {
    fn drop(&mut self) {
        let active = |record: &mut LoggingRecord| record.state = LoggingState::Active;
        self.cache.mark(self.id, active);
    }
}
