//! Rooms and logging configurations: in memory for reads, in the store for durability, and the
//! rules between them.

use std::cell::RefCell;
use std::collections::HashMap;

use super::arn::{Account, resource_id};
use super::fault::Fault;
use super::record::{Destination, LoggingRecord, LoggingState, Record, RoomRecord};
use super::record_cache::RecordCache;
use super::store::{Store, StoreError, StoreMetrics, Write};
use uproar_proto::base::id::{LoggingId, RoomId};
use uproar_proto::room::RoomSettings;

/// Everything the control plane stores.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    /// Rooms.
    pub rooms: RecordCache<RoomRecord>,
    /// Logging configurations.
    pub logging: RecordCache<LoggingRecord>,
    // Logging configurations that rooms are being attached to, with the number of those rooms;
    // never zero.
    attaching: RefCell<HashMap<LoggingId, usize>>,
}

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

/// Logging configurations that cannot be deleted while a room that names them is being written.
#[derive(Debug)]
#[must_use]
pub struct Attaching<'a> {
    registry: &'a Registry,
    ids: Vec<LoggingId>,
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
    /// Loads the stored records.
    pub fn load(mut store: Store) -> Result<Self, StoreError> {
        let rooms = RecordCache::load(store.take(RoomRecord::TABLE))?;
        let logging = RecordCache::load(store.take(LoggingRecord::TABLE))?;
        Ok(Self {
            store,
            rooms,
            logging,
            attaching: RefCell::default(),
        })
    }

    /// Every room, as its shard needs it.
    pub fn room_settings(&self) -> Vec<(RoomId, RoomSettings)> {
        self.rooms.each(|room| (room.id(), room.settings()))
    }

    /// Every logging configuration, as the archive needs it.
    pub fn destinations(&self) -> Vec<(LoggingId, Destination)> {
        let known = |record: &LoggingRecord| (record.id(), record.destination.clone());
        self.logging.each(known)
    }

    /// Metrics of the store.
    pub fn store_metrics(&self) -> &StoreMetrics {
        self.store.metrics()
    }

    /// Closes the database once the requested writes are done; what is in memory stays.
    pub(super) async fn close_store(&self) -> Result<(), StoreError> {
        self.store.close().await
    }

    /// Opens the database again.
    pub(super) fn reopen_store(&self) {
        self.store.reopen();
    }

    /// Stores a new record, unless there are `count_max` of its kind.
    pub async fn insert<R: Cached>(&self, record: R, count_max: usize) -> Result<(), Fault> {
        let cache = R::cache(self);
        let _reservation = cache.reserve(count_max).ok_or(Fault::Quota {
            limit: count_max,
            of: R::TABLE.name(),
        })?;
        self.put(record).await
    }

    /// Changes a record and its update time; `None` if it does not exist.
    pub async fn change<R: Cached>(
        &self,
        id: R::Id,
        now_ms: u64,
        change: impl FnOnce(&mut R),
    ) -> Result<Option<R>, Fault> {
        self.edit(id, |record: &mut R| {
            change(record);
            record.header_mut().touch(now_ms);
            Ok(())
        })
        .await
    }

    /// Changes a record unless `edit` fails; `None` if it does not exist.
    pub async fn edit<R: Cached>(
        &self,
        id: R::Id,
        edit: impl FnOnce(&mut R) -> Result<(), Fault>,
    ) -> Result<Option<R>, Fault> {
        let _one_at_a_time = R::cache(self).changing(id).await;
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
    pub fn attach(&self, account: &Account, arns: &[String]) -> Result<Attaching<'_>, Fault> {
        const FIELD: &str = "loggingConfigurationIdentifiers";
        let mut ids = Vec::new();
        for arn in arns {
            let id = account.parse(arn);
            let id = id.map_err(|error| Fault::field(FIELD, error))?;
            let record = id.and_then(|id| self.logging.get(id));
            let record = record.ok_or_else(|| Fault::not_found(arn))?;
            if record.state == LoggingState::Deleting {
                return Err(Fault::conflict(
                    arn,
                    "The logging configuration is being deleted",
                ));
            }
            ids.push(record.id());
        }
        let mut attaching = self.attaching.borrow_mut();
        for id in &ids {
            *attaching.entry(*id).or_default() += 1;
        }
        Ok(Attaching {
            registry: self,
            ids,
        })
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
        change: impl FnOnce(&mut LoggingRecord),
    ) -> Result<Option<LoggingRecord>, Fault> {
        self.settled(arn, id)?;
        let _one_at_a_time = self.logging.changing(id).await;
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
        self.settled(arn, id)?;
        let _one_at_a_time = self.logging.changing(id).await;
        if !self.logging.contains(id) {
            return Ok(false);
        }
        let names_it = |room: &RoomRecord| {
            let mut named = room.logging.iter().flatten();
            named.any(|named| resource_id(named) == id.as_str())
        };
        if self.rooms.any(names_it) || self.attaching.borrow().contains_key(&id) {
            let why = "The logging configuration is in use: a room names it";
            return Err(Fault::conflict(arn, why));
        }
        let _until_written = self.transition(id, LoggingState::Deleting);
        self.remove::<LoggingRecord>(id).await?;
        Ok(true)
    }

    /// Fails while another change of the configuration is in progress.
    fn settled(&self, arn: &str, id: LoggingId) -> Result<(), Fault> {
        match self.logging.get(id) {
            Some(record) if record.state != LoggingState::Active => {
                let why = "Another change of the logging configuration is in progress; retry later";
                Err(Fault::conflict(arn, why))
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
