//! All records of one kind, in memory, in the order of the API's listings.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

use super::arn::ResourceId;
use super::record::Record;
use super::store::StoreError;

/// Changes of this many records may be in progress at once, so that their writes share a commit.
const STRIPES: usize = 64;

/// The end of a page of a listing: update time and id.
pub type PageCursor<I> = (u64, I);

/// Records of one kind.
#[derive(Debug)]
pub struct RecordCache<R: Record> {
    records: RefCell<HashMap<R::Id, R>>,
    // Newest update first. Invariant: one entry for each record, with its update time.
    order: RefCell<BTreeSet<(Reverse<u64>, R::Id)>>,
    // Records being created: they already count for the quota.
    reserved: Cell<usize>,
    // Locks of changes; a record's is chosen by its hash.
    changing: [Mutex<()>; STRIPES],
    hasher: RandomState,
}

/// A place in the quota for a record being created; dropping it releases the place.
#[derive(Debug)]
pub struct Reservation<'a>(&'a Cell<usize>);

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<R: Record> RecordCache<R> {
    /// Loads the contents of a table of the store.
    pub fn load(stored: Vec<(String, Vec<u8>)>) -> Result<Self, StoreError> {
        let cache = Self {
            records: RefCell::default(),
            order: RefCell::default(),
            reserved: Cell::default(),
            changing: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
        };
        for (id, value) in stored {
            let broken = |cause: String| StoreError::Value {
                table: R::TABLE.name(),
                id: id.clone(),
                cause,
            };
            let record: R =
                serde_json::from_slice(&value).map_err(|error| broken(error.to_string()))?;
            if R::Id::parse(&record.header().id).is_none() || record.header().id != id {
                return Err(broken("its id is wrong".to_owned()));
            }
            cache.put(record);
        }
        Ok(cache)
    }

    /// Applies `look` to every record.
    pub fn each<T>(&self, look: impl Fn(&R) -> T) -> Vec<T> {
        self.records.borrow().values().map(look).collect()
    }

    /// Whether `is_such` holds for a record.
    pub fn any(&self, is_such: impl FnMut(&R) -> bool) -> bool {
        self.records.borrow().values().any(is_such)
    }

    /// Their number.
    pub fn count(&self) -> usize {
        self.records.borrow().len()
    }

    /// One record.
    pub fn get(&self, id: R::Id) -> Option<R> {
        self.records.borrow().get(&id).cloned()
    }

    /// Whether the record exists.
    pub fn contains(&self, id: R::Id) -> bool {
        self.records.borrow().contains_key(&id)
    }

    /// The oldest record of this name.
    pub fn named(&self, name: &str) -> Option<R> {
        let records = self.records.borrow();
        let named = records
            .values()
            .filter(|record| record.header().name.as_deref() == Some(name));
        named
            .min_by_key(|record| record.header().created_ms)
            .cloned()
    }

    /// Up to `count_max` records after `after` that match `wanted`, and whether more follow.
    pub fn page(
        &self,
        after: Option<PageCursor<R::Id>>,
        count_max: usize,
        wanted: impl Fn(&R) -> bool,
    ) -> (Vec<R>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let (records, order) = (self.records.borrow(), self.order.borrow());
        let start = after.map_or(Unbounded, |(updated_ms, id)| {
            Excluded((Reverse(updated_ms), id))
        });
        let mut found = order
            .range((start, Unbounded))
            .filter_map(|(_, id)| records.get(id))
            .filter(|record| wanted(record));
        let page: Vec<_> = found.by_ref().take(count_max).cloned().collect();
        let more = found.next().is_some();
        (page, more)
    }

    /// Reserves a place for one more record; `None` if there are `count_max` already.
    pub fn reserve(&self, count_max: usize) -> Option<Reservation<'_>> {
        if self.records.borrow().len() + self.reserved.get() >= count_max {
            return None;
        }
        self.reserved.set(self.reserved.get() + 1);
        Some(Reservation(&self.reserved))
    }

    /// A lock to hold for a whole change, so that two changes of one record do not interleave.
    pub async fn changing(&self, id: R::Id) -> MutexGuard<'_, ()> {
        let hash = self.hasher.hash_one(id);
        let stripes = u64::try_from(STRIPES).expect("64");
        let stripe = usize::try_from(hash % stripes).expect("below 64");
        self.changing[stripe].lock().await
    }

    /// Changes a record in memory only, without its update time.
    pub fn mark(&self, id: R::Id, change: impl FnOnce(&mut R)) {
        // `change` sees one record, not the cache.
        let mut records = self.records.borrow_mut();
        if let Some(record) = records.get_mut(&id) {
            change(record);
        }
    }

    /// Inserts or replaces a record.
    pub fn put(&self, record: R) {
        let (id, updated_ms) = (record.id(), record.header().updated_ms);
        let mut order = self.order.borrow_mut();
        let before = self.records.borrow_mut().insert(id, record);
        if let Some(before) = before {
            order.remove(&(Reverse(before.header().updated_ms), id));
        }
        order.insert((Reverse(updated_ms), id));
        debug_assert_eq!(order.len(), self.records.borrow().len(), "one entry each");
    }

    /// Removes a record.
    pub fn remove(&self, id: R::Id) {
        let removed = self.records.borrow_mut().remove(&id);
        if let Some(before) = removed {
            let entry = (Reverse(before.header().updated_ms), id);
            self.order.borrow_mut().remove(&entry);
        }
    }
}
