//! What a change of the cluster's registry means to this node beside its memory: rows of its database, settings of its
//! shards, destinations of its archive, files of keys.

use std::collections::{HashMap, HashSet};

use zeroize::Zeroizing;

use super::facts::{COPY_ROW, CopyMark};
use super::key;
use super::replica::Replica;
use crate::cluster::bucket::Revision;
use crate::control::arn::ResourceId;
use crate::control::record::{BanRecord, Destination, LoggingRecord, RoomRecord, RuleSetRecord};
use crate::control::store::Write;
use uproar_proto::base::id::{BanId, LoggingId, RoomId, RuleSetId};
use uproar_proto::room::RoomSettings;

/// Where a node's changes go.
pub trait NodeEffects {
    /// Puts keys into their files; on disk when it returns.
    fn keys(&self, changes: Vec<KeyChange>) -> impl Future<Output = ()>;

    /// Tells the archive and the shards; returns when the shards have taken it.
    fn records(&self, changes: RecordChanges) -> impl Future<Output = ()>;
}

/// A change of keys, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// An access key by its id, as JSON; `None`: it was revoked.
    AccessKey(String, Option<Zeroizing<Vec<u8>>>),
    /// There are no other access keys than these.
    OnlyAccessKeys(HashSet<String>),
    /// The ring of sealing keys, as text.
    Ring(Zeroizing<Vec<u8>>),
}

/// Changes of records, each record once; `None`: it was removed.
#[derive(Debug, Default)]
pub struct RecordChanges {
    /// Rooms, as their shards need them.
    pub rooms: HashMap<RoomId, Option<RoomSettings>>,
    /// Logging configurations, as the archive needs them.
    pub logging: HashMap<LoggingId, Option<Destination>>,
    /// Bans.
    pub bans: HashMap<BanId, Option<BanRecord>>,
    /// Sets of rules.
    pub rule_sets: HashMap<RuleSetId, Option<RuleSetRecord>>,
}

/// A change that is in memory, on its way to all else.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) revision: Revision,
    pub(super) effect: Effect,
    /// The bytes of a record, by their key in the bucket.
    pub(super) record: Option<(String, Write)>,
}

#[derive(Debug)]
pub(super) enum Effect {
    None,
    Room(RoomId, Option<RoomRecord>),
    Logging(LoggingId, Option<LoggingRecord>),
    Ban(BanId, Option<BanRecord>),
    RuleSet(RuleSetId, Option<RuleSetRecord>),
    Keys(KeyChange),
    /// From here on the database is a whole copy.
    Copy(CopyMark),
}

impl Applied {
    pub(super) fn new(revision: Revision, effect: Effect) -> Self {
        Self {
            revision,
            effect,
            record: None,
        }
    }
}

/// What the database says of itself.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) copy: Option<CopyMark>,
    pub(super) revisions: HashMap<String, Revision>,
}

impl Rows {
    /// Notes the revisions of stored records.
    pub(super) fn note_all<I: ResourceId>(
        &mut self,
        replica: &Replica,
        stored: &[(String, Vec<u8>)],
    ) {
        for (id, value) in stored {
            if let Some(id) = I::parse(id) {
                self.note(replica, id, value);
            }
        }
    }

    /// Reads the rows of the table of a cluster's copy. What is not understood counts as absent: then all is fetched
    /// anew.
    pub(super) fn read(rows: Vec<(String, Vec<u8>)>) -> Self {
        let mut read = Self::default();
        for (id, value) in rows {
            if id == COPY_ROW {
                read.copy = serde_json::from_slice(&value).ok();
            } else if let Ok(revision) = serde_json::from_slice(&value) {
                read.revisions.insert(id, Revision(revision));
            }
        }
        read
    }

    /// Notes the revision of a stored record. Without one nothing of the copy counts as whole.
    pub(super) fn note<I: ResourceId>(&mut self, replica: &Replica, id: I, value: &[u8]) {
        let key = key::of_record(id);
        let revision = self.revisions.get(&key).copied();
        if revision.is_none()
            && let Some(copy) = replica.copy.borrow_mut().as_mut()
        {
            copy.revision = 0;
        }
        replica.note(&key, Some(value), revision.unwrap_or_default());
    }
}
