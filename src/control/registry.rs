//! The rooms, in memory for reading and in the store for keeping.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use super::store::{Store, StoreError, Write};
use crate::base::id::RoomId;
use crate::room::RoomSettings;
use crate::room::review::Fallback;

/// A message review handler as the API keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handler {
    /// Lambda ARN.
    pub uri: String,
    /// `ALLOW` or `DENY`.
    pub fallback: String,
}

impl Handler {
    fn fallback(&self) -> Fallback {
        if self.fallback == "DENY" {
            Fallback::Deny
        } else {
            Fallback::Allow
        }
    }
}

/// A room as the API keeps it. Members never set stay absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRecord {
    id: String,
    /// Not unique.
    pub name: Option<String>,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Milliseconds since the epoch.
    pub updated_ms: u64,
    /// `maximumMessageRatePerSecond`.
    pub message_rate: u32,
    /// `maximumMessageLength`.
    pub message_length: u32,
    /// `messageReviewHandler`.
    pub handler: Option<Handler>,
    /// `tags`.
    pub tags: BTreeMap<String, String>,
    /// `loggingConfigurationIdentifiers`; absent if never set.
    pub logging: Option<Vec<String>>,
}

impl RoomRecord {
    /// A room with nothing but limits.
    pub fn new(id: RoomId, now_ms: u64, message_rate: u32, message_length: u32) -> Self {
        Self {
            id: id.to_string(),
            name: None,
            created_ms: now_ms,
            updated_ms: now_ms,
            message_rate,
            message_length,
            handler: None,
            tags: BTreeMap::new(),
            logging: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> RoomId {
        RoomId::parse(&self.id).expect("records are made with ids, and read back only with them")
    }

    /// What its shard must know.
    pub fn settings(&self) -> RoomSettings {
        RoomSettings {
            content_chars_max: u16::try_from(self.message_length).unwrap_or(u16::MAX),
            messages_per_second: self.message_rate,
            review: self.handler.as_ref().map(Handler::fallback),
        }
    }
}

/// Where a page of a listing ended: update time and id.
pub type Mark = (u64, RoomId);

/// Every room.
#[derive(Debug)]
pub struct Registry {
    store: Store,
    rooms: RefCell<HashMap<RoomId, RoomRecord>>,
    // Newest update first, as the API lists them.
    order: RefCell<BTreeSet<(Reverse<u64>, RoomId)>>,
    // Held over the whole of a change, so that two changes of one room do not interleave.
    changing: tokio::sync::Mutex<()>,
}

impl Registry {
    /// Reads the stored rooms.
    pub fn load(mut store: Store) -> Result<Self, StoreError> {
        let (mut rooms, mut order) = (HashMap::new(), BTreeSet::new());
        for (id, value) in store.take_rooms() {
            let broken = |cause: String| StoreError::Value {
                id: id.clone(),
                cause,
            };
            let room: RoomRecord =
                serde_json::from_slice(&value).map_err(|error| broken(error.to_string()))?;
            let id = RoomId::parse(&room.id).ok_or_else(|| broken("bad id".to_owned()))?;
            order.insert((Reverse(room.updated_ms), id));
            rooms.insert(id, room);
        }
        let (rooms, order) = (RefCell::new(rooms), RefCell::new(order));
        Ok(Self {
            store,
            rooms,
            order,
            changing: tokio::sync::Mutex::default(),
        })
    }

    /// Every room.
    pub fn all(&self) -> Vec<RoomRecord> {
        self.rooms.borrow().values().cloned().collect()
    }

    /// How many rooms there are.
    pub fn count(&self) -> usize {
        self.rooms.borrow().len()
    }

    /// One room.
    pub fn get(&self, id: RoomId) -> Option<RoomRecord> {
        self.rooms.borrow().get(&id).cloned()
    }

    /// Whether there is such a room.
    pub fn contains(&self, id: RoomId) -> bool {
        self.rooms.borrow().contains_key(&id)
    }

    /// The oldest room of this name.
    pub fn named(&self, name: &str) -> Option<RoomRecord> {
        let rooms = self.rooms.borrow();
        let named = rooms
            .values()
            .filter(|room| room.name.as_deref() == Some(name));
        named.min_by_key(|room| room.created_ms).cloned()
    }

    /// Up to `count_max` rooms behind `after` that `wanted` admits, and whether more follow.
    pub fn page(
        &self,
        after: Option<Mark>,
        count_max: usize,
        wanted: impl Fn(&RoomRecord) -> bool,
    ) -> (Vec<RoomRecord>, bool) {
        use std::ops::Bound::{Excluded, Unbounded};
        let (rooms, order) = (self.rooms.borrow(), self.order.borrow());
        let start = after.map_or(Unbounded, |(updated, id)| Excluded((Reverse(updated), id)));
        let mut found = order
            .range((start, Unbounded))
            .filter_map(|(_, id)| rooms.get(id))
            .filter(|room| wanted(room));
        let page: Vec<_> = found.by_ref().take(count_max).cloned().collect();
        let more = found.next().is_some();
        (page, more)
    }

    /// Keeps a new room.
    pub async fn insert(&self, room: RoomRecord) -> Result<(), Fault> {
        self.put(room).await
    }

    /// Changes a room; `None` if it does not exist.
    pub async fn change(
        &self,
        id: RoomId,
        now_ms: u64,
        change: impl FnOnce(&mut RoomRecord),
    ) -> Result<Option<RoomRecord>, Fault> {
        let _one_at_a_time = self.changing.lock().await;
        let Some(mut room) = self.get(id) else {
            return Ok(None);
        };
        change(&mut room);
        // Time may step back; the order of updates does not.
        room.updated_ms = now_ms.max(room.updated_ms);
        self.put(room.clone()).await?;
        Ok(Some(room))
    }

    /// Removes a room; `false` if it does not exist.
    pub async fn remove(&self, id: RoomId) -> Result<bool, Fault> {
        let _one_at_a_time = self.changing.lock().await;
        if !self.contains(id) {
            return Ok(false);
        }
        let write = Write::DeleteRoom { id: id.to_string() };
        self.store
            .write(write)
            .await
            .map_err(|_logged| Fault::Internal)?;
        if let Some(room) = self.rooms.borrow_mut().remove(&id) {
            self.order
                .borrow_mut()
                .remove(&(Reverse(room.updated_ms), id));
        }
        Ok(true)
    }

    async fn put(&self, room: RoomRecord) -> Result<(), Fault> {
        let value = serde_json::to_vec(&room).expect("a record of strings and numbers");
        let write = Write::PutRoom {
            id: room.id.clone(),
            value,
        };
        self.store
            .write(write)
            .await
            .map_err(|_logged| Fault::Internal)?;
        let id = room.id();
        let mut order = self.order.borrow_mut();
        order.insert((Reverse(room.updated_ms), id));
        let updated_ms = room.updated_ms;
        if let Some(before) = self.rooms.borrow_mut().insert(id, room)
            && before.updated_ms != updated_ms
        {
            order.remove(&(Reverse(before.updated_ms), id));
        }
        Ok(())
    }
}
