//! A node follows its cluster's bucket: each change goes to memory at once, in the bucket's order, and from there to
//! the database, to the shards and to the files of keys.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::facts::{Begin, CopyMark, FACTS_KEY, Facts, Misfit};
use super::key::Subject;
use super::node::{Applied, Effect, KeyChange, NodeEffects};
use super::replica::{RETRY, Replica, Standing};
use super::{Registry, key};
use crate::cluster::bucket::{Change, InspectFault, Revision};
use crate::control::record::Record;
use crate::control::record_cache::RecordCache;
use crate::control::store::Write;
use uproar_proto::base::limits::BUCKET_CHANGES_MAX;

/// Pause before a bucket is looked at again that this node cannot follow: somebody has to mend it.
const MISFIT_RETRY: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 2_000 });

/// One watch of the bucket.
struct Session {
    facts: Facts,
    // Of a watch from the first change: the keys that the bucket has.
    seen: Option<HashSet<String>>,
}

impl Registry {
    /// Follows the bucket as long as the server runs.
    ///
    /// # Panics
    ///
    /// If this registry is not one of a cluster.
    pub async fn follow(&self, node: &impl NodeEffects) -> Infallible {
        let replica = self.replica().expect("of a cluster");
        let (applied, to_settle) = mpsc::channel(BUCKET_CHANGES_MAX);
        tokio::select! {
            never = self.settle(replica, to_settle, node) => never,
            never = self.watch(replica, applied) => never,
            never = self.finish_deletions(replica) => never,
        }
    }

    async fn watch(&self, replica: &Replica, applied: mpsc::Sender<Applied>) -> Infallible {
        loop {
            // What is in progress of an earlier watch comes first.
            replica.settled(replica.applied()).await;
            let (facts, begin) = open(replica).await;
            let (after, seen) = match begin {
                Begin::After(revision) => (revision, None),
                Begin::Anew => {
                    replica.copy.replace(Some(mark(&facts, Revision::NONE)));
                    (Revision::NONE, Some(HashSet::new()))
                }
            };
            replica.given_twice.set(None);
            replica.progress.send_modify(|progress| {
                progress.applied = after;
                progress.settled = after;
            });
            let session = Session { facts, seen };
            self.watch_on(replica, session, &applied).await;
        }
    }

    /// Returns when the bucket is to be looked at anew.
    async fn watch_on(
        &self,
        replica: &Replica,
        mut session: Session,
        applied: &mpsc::Sender<Applied>,
    ) {
        let bucket = &replica.settings.bucket;
        let mut changes = bucket.watch(replica.applied()).await;
        let mut has_all = std::pin::pin!(replica.tick());
        let mut is_current = false;
        loop {
            tokio::select! {
                biased;
                () = replica.regressed.notified() => return,
                change = changes.recv() => if let Some(change) = change {
                    self.take(replica, &mut session, change, applied).await;
                } else {
                    sleep(RETRY).await;
                    changes = bucket.watch(replica.applied()).await;
                },
                () = replica.silent.notified() => {
                    changes = bucket.watch(replica.applied()).await;
                }
                () = &mut has_all, if !is_current => {
                    is_current = true;
                    self.has_all(replica, &mut session, applied).await;
                }
            }
        }
    }

    /// Takes one change into memory, and sends it on.
    async fn take(
        &self,
        replica: &Replica,
        session: &mut Session,
        change: Change,
        applied: &mpsc::Sender<Applied>,
    ) {
        if change.revision <= replica.applied() {
            return;
        }
        if let Some(seen) = &mut session.seen {
            seen.insert(change.key.clone());
        }
        let taken = self.apply(replica, change);
        let revision = taken.revision;
        // Its receiver lives as long as this.
        let _sent = applied.send(taken).await;
        replica
            .progress
            .send_modify(|progress| progress.applied = revision);
    }

    /// The bucket's changes of before are in memory: drops what it has not, and says so.
    async fn has_all(
        &self,
        replica: &Replica,
        session: &mut Session,
        applied: &mpsc::Sender<Applied>,
    ) {
        let revision = replica.applied();
        if let Some(seen) = session.seen.take() {
            let gone = replica.keys().into_iter().filter(|key| !seen.contains(key));
            let gone: Vec<String> = gone.collect();
            if !gone.is_empty() {
                tracing::warn!(
                    records = gone.len(),
                    "the cluster has not these records of this node: dropped"
                );
            }
            for key in gone {
                let absent = Change {
                    revision,
                    key,
                    value: None,
                };
                let _sent = applied.send(self.apply(replica, absent)).await;
            }
            let id = |key: &String| key.strip_prefix(key::ACCESS_KEY).map(str::to_owned);
            let keys = seen.iter().filter_map(id).collect();
            let only = Effect::Keys(KeyChange::OnlyAccessKeys(keys));
            let _sent = applied.send(Applied::new(revision, only)).await;
        }
        let facts = &session.facts;
        let copy = Effect::Copy(mark(facts, revision));
        let _sent = applied.send(Applied::new(revision, copy)).await;
        if replica.unopened.get() {
            return;
        }
        replica
            .progress
            .send_modify(|progress| progress.standing = Standing::Current);
        tracing::info!(
            cluster = facts.cluster,
            revision = revision.0,
            "the registry is current"
        );
    }

    /// Puts a change into memory.
    fn apply(&self, replica: &Replica, change: Change) -> Applied {
        let Change {
            revision,
            key,
            value,
        } = change;
        let value = value.as_deref();
        match Subject::of(&key) {
            Subject::Room(id) => apply_record(replica, &self.rooms, id, value, revision, |room| {
                Effect::Room(id, room)
            }),
            Subject::Logging(id) => {
                apply_record(replica, &self.logging, id, value, revision, |logging| {
                    Effect::Logging(id, logging)
                })
            }
            Subject::Ban(id) => apply_record(replica, &self.bans, id, value, revision, |ban| {
                Effect::Ban(id, ban)
            }),
            Subject::RuleSet(id) => {
                apply_record(replica, &self.rule_sets, id, value, revision, |set| {
                    Effect::RuleSet(id, set)
                })
            }
            Subject::AccessKey(id) => {
                let opened = value.map(|value| open_secret(replica, &key, value));
                let effect = match opened {
                    Some(None) => Effect::None,
                    Some(Some(opened)) => {
                        Effect::Keys(KeyChange::AccessKey(id.to_owned(), Some(opened)))
                    }
                    None => Effect::Keys(KeyChange::AccessKey(id.to_owned(), None)),
                };
                Applied::new(revision, effect)
            }
            Subject::Ring => {
                let opened = value.and_then(|value| open_secret(replica, &key, value));
                let effect =
                    opened.map_or(Effect::None, |opened| Effect::Keys(KeyChange::Ring(opened)));
                Applied::new(revision, effect)
            }
            Subject::Facts | Subject::Tick | Subject::Unknown => {
                Applied::new(revision, Effect::None)
            }
        }
    }
}

/// Looks at the bucket until this node can follow it.
async fn open(replica: &Replica) -> (Facts, Begin) {
    loop {
        let reason = match look(replica).await {
            Ok(Ok(begin)) => return begin,
            Ok(Err(misfit)) => misfit.to_string(),
            Err(InspectFault::NoBucket) => {
                Misfit::NoRegistry(replica.settings.cluster.clone()).to_string()
            }
            Err(unknown) => unknown.to_string(),
        };
        replica.set_stale(reason);
        sleep(MISFIT_RETRY).await;
    }
}

/// Looks at the bucket once.
async fn look(replica: &Replica) -> Result<Result<(Facts, Begin), Misfit>, InspectFault> {
    let bucket = &replica.settings.bucket;
    let inspected = bucket.inspect(FACTS_KEY).await?;
    let found = inspected.found.and_then(|(_, value)| value);
    let facts = found.and_then(|value| serde_json::from_slice::<Facts>(&value).ok());
    let Some(facts) = facts else {
        let cluster = replica.settings.cluster.clone();
        return Ok(Err(Misfit::NoRegistry(cluster)));
    };
    if let Some((key, own)) = replica.newest() {
        // Numbers that were lost may have been given out again since: a record shows what they stand for.
        let found = bucket.inspect(&key).await?.found;
        if found.is_none_or(|(revision, _)| revision < own) {
            replica.lost_from(own);
        }
    }
    let lost_from = replica.given_twice.get();
    let last = lost_from.map_or(inspected.last, |from| {
        inspected.last.min(Revision(from.0.saturating_sub(1)))
    });
    let own = replica.copy.borrow().clone();
    let begin = facts.begin(&replica.settings.account, own.as_ref(), last);
    if let Err(Misfit::Behind { last, .. }) = begin {
        replica.lost_from(Revision(last + 1));
    }
    Ok(begin.map(|begin| (facts, begin)))
}

/// What the database is a copy of once all changes up to `revision` are in it; none: it is not whole.
fn mark(facts: &Facts, revision: Revision) -> CopyMark {
    CopyMark {
        cluster: facts.cluster.clone(),
        identity: facts.identity.clone(),
        era: facts.era,
        revision: revision.0,
    }
}

/// Puts a record into its cache, or takes it out.
fn apply_record<R: Record>(
    replica: &Replica,
    cache: &RecordCache<R>,
    id: R::Id,
    value: Option<&[u8]>,
    revision: Revision,
    effect: impl FnOnce(Option<R>) -> Effect,
) -> Applied {
    let key = key::of_record(id);
    let record = match value.map(serde_json::from_slice::<R>) {
        Some(Ok(record)) if record.header().id == id.to_string() => Some(record),
        None => None,
        Some(unreadable) => {
            let cause = unreadable
                .err()
                .map_or_else(|| "its id is another".to_owned(), |error| error.to_string());
            tracing::error!(
                key,
                cause,
                "a record of the cluster cannot be read: this node goes on without it"
            );
            return Applied::new(revision, Effect::None);
        }
    };
    match &record {
        Some(record) => {
            cache.put(record.clone());
            replica.arrived(&key, || cache.count());
        }
        None => cache.remove(id),
    }
    replica.note(&key, value, revision);
    let write = Write {
        table: R::TABLE,
        id: id.to_string(),
        value: value.map(<[u8]>::to_vec),
    };
    Applied {
        revision,
        effect: effect(record),
        record: Some((key, write)),
    }
}

/// Opens a sealed value; if that fails, this node does not become current.
fn open_secret(replica: &Replica, key: &str, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let opened = replica.settings.secret.open(key, value);
    if opened.is_none() {
        replica.unopened.set(true);
        replica.set_stale(format!(
            "{key} does not open: this node's cluster.secret_file is not that of the cluster; copy it from another node"
        ));
    }
    opened
}
