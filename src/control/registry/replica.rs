//! This node's side of the cluster's bucket: how far it has followed, writes, and barriers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::facts::CopyMark;
use super::key;
use super::metrics::Figures;
use super::secret::ClusterSecret;
use crate::cluster::bucket::{Bucket, BucketWrite, Expected, Revision, WriteFault};
use crate::control::arn::Account;
use crate::control::fault::Fault;
use crate::logging::{Kind, local};
use uproar_proto::base::limits::{BUCKET_RETRY, BUCKET_SILENT_MAX, REGISTRY_ANSWER_MAX};

/// Pause between two attempts.
pub(super) const RETRY: Duration = if cfg!(test) {
    Duration::from_millis(1)
} else {
    BUCKET_RETRY
};
/// Silence after which a watch is begun anew.
const SILENT_MAX: Duration = if cfg!(test) {
    Duration::from_millis(20)
} else {
    BUCKET_SILENT_MAX
};

/// What a node needs to follow its cluster's bucket.
#[derive(Debug)]
pub struct ReplicaSettings {
    /// The bucket.
    pub bucket: Bucket,
    /// The cluster's name.
    pub cluster: String,
    /// This node's name.
    pub node: String,
    /// Opens what is sealed.
    pub secret: ClusterSecret,
    /// Region and account of this node's configuration.
    pub account: Account,
}

/// How a node stands to its cluster's bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has all that the bucket had when it began, and follows.
    Current,
    /// It has not, for this reason.
    Stale(Arc<str>),
}

/// How far a node has followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) standing: Standing,
    /// All changes up to here are in memory.
    pub(super) applied: Revision,
    /// All changes up to here are also on disk and known to the shards.
    pub(super) settled: Revision,
}

/// The last change of a key, and its value in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) revision: Revision,
    pub(super) fingerprint: u64,
}

/// A conditional write came too late: read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conflict {
    /// Whether an attempt before it had no answer: that one may be the change, or still come.
    pub(super) in_doubt: bool,
}

/// This node's side of the bucket.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) settings: ReplicaSettings,
    tick_key: String,
    pub(super) progress: watch::Sender<Progress>,
    /// What the database is a copy of.
    pub(super) copy: RefCell<Option<CopyMark>>,
    // Of each record, as of `applied`.
    versions: RefCell<HashMap<String, Version>>,
    hasher: RandomState,
    // Records being created here; once they have arrived, with the number of their kind at that moment.
    arrivals: RefCell<HashMap<String, Option<usize>>>,
    // One barrier at a time; those who wait meanwhile share the next.
    barrier: Mutex<Option<Revision>>,
    begun: Cell<u64>,
    ended: Cell<u64>,
    /// The watch is silent: begin it anew.
    pub(super) silent: Notify,
    /// The bucket went back: look at it anew.
    pub(super) regressed: Notify,
    /// The lowest revision that the brokers have given twice: what they had from there on is lost.
    pub(super) given_twice: Cell<Option<Revision>>,
    /// A sealed value did not open.
    pub(super) unopened: Cell<bool>,
    pub(super) figures: Figures,
}

/// A record being created, until its creation is decided.
pub(super) struct Arrival<'a> {
    replica: &'a Replica,
    key: String,
}

impl Arrival<'_> {
    /// The number of records of its kind when it arrived, itself included.
    pub(super) fn count(&self) -> Option<usize> {
        let arrivals = self.replica.arrivals.borrow();
        arrivals.get(&self.key).copied().flatten()
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        self.replica.arrivals.borrow_mut().remove(&self.key);
    }
}

impl Replica {
    pub(super) fn new(settings: ReplicaSettings, copy: Option<CopyMark>) -> Self {
        let standing = Standing::Stale("the brokers have not answered yet".into());
        let has = copy
            .as_ref()
            .map_or(Revision::NONE, |copy| Revision(copy.revision));
        let progress = Progress {
            standing,
            applied: has,
            settled: has,
        };
        Self {
            tick_key: key::of_tick(&settings.node),
            settings,
            progress: watch::Sender::new(progress),
            copy: RefCell::new(copy),
            versions: RefCell::default(),
            hasher: RandomState::new(),
            arrivals: RefCell::default(),
            barrier: Mutex::default(),
            begun: Cell::default(),
            ended: Cell::default(),
            silent: Notify::default(),
            regressed: Notify::default(),
            given_twice: Cell::default(),
            unopened: Cell::default(),
            figures: Figures::default(),
        }
    }

    pub(super) fn applied(&self) -> Revision {
        self.progress.borrow().applied
    }

    pub(super) fn standing(&self) -> Standing {
        self.progress.borrow().standing.clone()
    }

    /// Notes a change of a record that is in memory now.
    pub(super) fn note(&self, key: &str, value: Option<&[u8]>, revision: Revision) {
        let mut versions = self.versions.borrow_mut();
        match value {
            Some(value) => {
                let fingerprint = self.hasher.hash_one(value);
                let version = Version {
                    revision,
                    fingerprint,
                };
                versions.insert(key.to_owned(), version);
            }
            None => drop(versions.remove(key)),
        }
    }

    pub(super) fn version(&self, key: &str) -> Option<Version> {
        self.versions.borrow().get(key).copied()
    }

    /// The record that was changed last.
    pub(super) fn newest(&self) -> Option<(String, Revision)> {
        let versions = self.versions.borrow();
        let newest = versions.iter().max_by_key(|(_, version)| version.revision);
        newest.map(|(key, version)| (key.clone(), version.revision))
    }

    /// Keys of all records.
    pub(super) fn keys(&self) -> Vec<String> {
        self.versions.borrow().keys().cloned().collect()
    }

    /// Announces a record that is about to be created here.
    pub(super) fn expect(&self, key: &str) -> Arrival<'_> {
        self.arrivals.borrow_mut().insert(key.to_owned(), None);
        Arrival {
            replica: self,
            key: key.to_owned(),
        }
    }

    /// Notes how many records of its kind there are, if the one that has just arrived is being created here.
    pub(super) fn arrived(&self, key: &str, count: impl FnOnce() -> usize) {
        let mut arrivals = self.arrivals.borrow_mut();
        if let Some(arrival) = arrivals.get_mut(key) {
            arrival.get_or_insert_with(count);
        }
    }

    /// Ready once every change that was acknowledged to anybody before this call is in memory. Those who call while
    /// another one's tick is in progress share the next.
    pub(super) async fn barrier(&self) -> Result<(), Fault> {
        self.must_be_current()?;
        let begun = Instant::now();
        self.in_time(self.tick()).await?;
        self.figures.barrier(begun.elapsed());
        // The tick itself may have shown that the brokers went back.
        self.must_be_current()
    }

    /// A barrier of a node that need not be current, without a deadline.
    pub(super) async fn tick(&self) {
        let begun = self.begun.get();
        let mut last = self.barrier.lock().await;
        let revision = match *last {
            // One that began after this call has ended meanwhile.
            Some(revision) if self.ended.get() > begun => revision,
            _ => {
                self.begun.set(self.begun.get() + 1);
                let number = self.begun.get();
                let revision = self.write_tick().await;
                *last = Some(revision);
                self.ended.set(number);
                revision
            }
        };
        drop(last);
        self.reach(revision, |progress| progress.applied).await;
    }

    async fn write_tick(&self) -> Revision {
        loop {
            let tick = BucketWrite {
                key: self.tick_key.clone(),
                value: Some(Bytes::new()),
                expected: Expected::Any,
            };
            match self.write(tick).await {
                Ok(revision) => return revision,
                Err(error) => tracing::debug!(%error, "a barrier is tried again"),
            }
            sleep(RETRY).await;
        }
    }

    /// Writes once.
    pub(super) async fn write(&self, write: BucketWrite) -> Result<Revision, WriteFault> {
        let went_back = || WriteFault::Unknown("the bucket went back".to_owned());
        if self.given_twice.get().is_some() {
            return Err(went_back());
        }
        let before = self.applied();
        let revision = self.settings.bucket.write(write).await?;
        if revision > before {
            return Ok(revision);
        }
        let lowest = self
            .given_twice
            .get()
            .map_or(revision, |lowest| lowest.min(revision));
        self.given_twice.set(Some(lowest));
        self.set_stale("the brokers went back behind changes that this node has seen");
        self.regressed.notify_one();
        Err(went_back())
    }

    /// Notes that what the brokers had from this revision on is lost, whatever they give out since.
    pub(super) fn lost_from(&self, revision: Revision) {
        let lowest = self
            .given_twice
            .get()
            .map_or(revision, |lowest| lowest.min(revision));
        self.given_twice.set(Some(lowest));
    }

    /// Says why this node is not current; logs it once.
    pub(super) fn set_stale(&self, reason: impl Into<Arc<str>>) {
        let standing = Standing::Stale(reason.into());
        self.progress.send_if_modified(|progress| {
            let changed = progress.standing != standing;
            if changed && let Standing::Stale(reason) = &standing {
                tracing::warn!(%reason, "the registry is not current");
                progress.standing = standing.clone();
            }
            changed
        });
    }

    /// Writes until it is known whether that has happened. The caller bounds the time.
    pub(super) async fn write_known(&self, write: BucketWrite) -> Result<Revision, Conflict> {
        let mut in_doubt = false;
        loop {
            match self.write(write.clone()).await {
                Ok(revision) => return Ok(revision),
                Err(WriteFault::Conflict) if in_doubt => {
                    // Perhaps with an earlier attempt of its own.
                    self.tick().await;
                    return self.found(&write).ok_or(Conflict { in_doubt });
                }
                Err(WriteFault::Conflict) => return Err(Conflict { in_doubt }),
                Err(WriteFault::Unknown(cause)) => {
                    tracing::debug!(key = write.key, cause, "a write is tried again");
                    in_doubt = true;
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// The revision of a write that is in the bucket, as its key's last change.
    pub(super) fn found(&self, write: &BucketWrite) -> Option<Revision> {
        let version = self.version(&write.key);
        match (&write.value, version) {
            (None, None) => Some(self.applied()),
            (Some(value), Some(version)) => {
                let same = version.fingerprint == self.hasher.hash_one(&value[..]);
                let later = match write.expected {
                    Expected::At(before) => version.revision > before,
                    Expected::Any | Expected::Unused => true,
                };
                (same && later).then_some(version.revision)
            }
            (None, Some(_)) | (Some(_), None) => None,
        }
    }

    /// Ready once the change is in memory, on disk and known to the shards.
    pub(super) async fn settled(&self, revision: Revision) {
        self.reach(revision, |progress| progress.settled).await;
    }

    async fn reach(&self, revision: Revision, place: impl Fn(&Progress) -> Revision) {
        let mut progress = self.progress.subscribe();
        loop {
            let reached = progress.wait_for(|progress| place(progress) >= revision);
            match timeout(SILENT_MAX, reached).await {
                // The sender lives as long as this replica.
                Ok(_reached) => return,
                Err(_elapsed) if self.applied() < revision => self.silent.notify_one(),
                // It is in memory: the disk or a shard is slow.
                Err(_elapsed) => {}
            }
        }
    }

    /// Bounds a call's work.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Fault> {
        timeout(REGISTRY_ANSWER_MAX, work)
            .await
            .map_err(|_elapsed| {
                if let Some(suppressed) = local::admit(Kind::ApiFailed) {
                    let limit = REGISTRY_ANSWER_MAX;
                    tracing::warn!(
                        ?limit,
                        suppressed,
                        "the cluster's brokers have not answered: callers get 500"
                    );
                }
                Fault::Internal
            })
    }

    fn must_be_current(&self) -> Result<(), Fault> {
        match self.standing() {
            Standing::Current => Ok(()),
            Standing::Stale(_) => Err(Fault::Internal),
        }
    }
}
