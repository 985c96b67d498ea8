//! Changes of a cluster's registry: conditional writes to the bucket, answered when this node has them, too.
//!
//! The rules between records hold without locks between nodes. Whoever writes looks, once its own write has come back
//! in the bucket's order, at what came before it; of two changes that exclude each other the later one sees the
//! earlier one, answers `ConflictException` and takes its write back.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::replica::{Conflict, RETRY, Replica};
use super::{Cached, ID_TAKEN, Registry, key};
use crate::cluster::bucket::{BucketWrite, Expected, Inspected, Revision};
use crate::control::fault::Fault;
use crate::control::record::{LoggingRecord, LoggingState, Record, RoomRecord};
use uproar_proto::base::id::LoggingId;
use uproar_proto::base::limits::REGISTRY_ANSWER_MAX;

/// A call that deletes a logging configuration has ended by then: it waits at most twice for brokers.
const MARK_STAYS_MAX: Duration = if cfg!(test) {
    Duration::from_millis(100)
} else {
    REGISTRY_ANSWER_MAX.saturating_mul(3)
};

fn encode<R: Record>(record: &R) -> Bytes {
    let value = serde_json::to_vec(record).expect("a record of strings and numbers");
    value.into()
}

impl Registry {
    /// Creates a record, unless there are `count_max` of its kind before it.
    pub(super) async fn insert_shared<R: Cached>(
        &self,
        replica: &Replica,
        record: R,
        count_max: usize,
    ) -> Result<(), Fault> {
        let key = key::of_record(record.id());
        let arrival = replica.expect(&key);
        let created = replica.in_time(create(replica, &key, encode(&record)));
        let revision = created
            .await?
            .map_err(|Conflict { .. }| Fault::conflict(&record.header().id, ID_TAKEN))?;
        replica.in_time(replica.settled(revision)).await?;
        if arrival.count().is_some_and(|count| count > count_max) {
            let back = replace_at(replica, &key, revision, None);
            let _changed = replica.in_time(back).await?;
            let of = R::TABLE.name();
            return Err(Fault::Quota {
                limit: count_max,
                of,
            });
        }
        Ok(())
    }

    /// Changes a record as it is in the bucket; `None` if it does not exist.
    pub(super) async fn edit_shared<R: Cached>(
        &self,
        replica: &Replica,
        id: R::Id,
        edit: impl Fn(&mut R) -> Result<(), Fault>,
    ) -> Result<Option<R>, Fault> {
        let edited = replica.in_time(self.edit_now(replica, id, edit)).await??;
        Ok(edited.map(|(record, _)| record))
    }

    async fn edit_now<R: Cached>(
        &self,
        replica: &Replica,
        id: R::Id,
        edit: impl Fn(&mut R) -> Result<(), Fault>,
    ) -> Result<Option<(R, Revision)>, Fault> {
        let edited = |mut record: R| edit(&mut record).map(|()| record);
        self.replace_now(replica, id, edited).await
    }

    /// Writes a record, whatever is in the bucket under its key.
    pub(super) async fn put_shared<R: Cached>(
        &self,
        replica: &Replica,
        record: &R,
    ) -> Result<(), Fault> {
        let over = |_: &R| Some(record.clone());
        self.put_shared_over(replica, record, over).await?;
        Ok(())
    }

    /// Writes a record, or what `over` makes of it and of the one that is in the bucket under its key; returns what is written,
    /// `None`: the one there stays. Each attempt is for what the key had when it was made: one that arrives late, behind a change
    /// that came after it, is refused.
    pub(super) async fn put_shared_over<R: Cached>(
        &self,
        replica: &Replica,
        record: &R,
        over: impl Fn(&R) -> Option<R>,
    ) -> Result<Option<R>, Fault> {
        let key = key::of_record(record.id());
        let put = |there: R| over(&there).ok_or(());
        let putting = async {
            loop {
                match self.replace_now(replica, record.id(), &put).await {
                    Ok(Some((put, _))) => return Some(put),
                    Ok(None) => {}
                    Err(()) => return None,
                }
                if let Ok(revision) = create(replica, &key, encode(record)).await {
                    replica.settled(revision).await;
                    return Some(record.clone());
                }
                replica.tick().await;
            }
        };
        replica.in_time(putting).await
    }

    /// Writes what `replace` makes of the record that is in the bucket, again if another change comes first; `None`: there is
    /// none, now.
    async fn replace_now<R: Cached, E>(
        &self,
        replica: &Replica,
        id: R::Id,
        replace: impl Fn(R) -> Result<R, E>,
    ) -> Result<Option<(R, Revision)>, E> {
        let key = key::of_record(id);
        loop {
            let found = R::cache(self).get(id).zip(replica.version(&key));
            let Some((record, version)) = found else {
                return Ok(None);
            };
            let record = replace(record)?;
            let write = BucketWrite {
                key: key.clone(),
                value: Some(encode(&record)),
                expected: Expected::At(version.revision),
            };
            if let Ok(revision) = replica.write_known(write).await {
                replica.settled(revision).await;
                return Ok(Some((record, revision)));
            }
            replica.figures.conflict();
            replica.tick().await;
        }
    }

    /// Removes a record as it is in the bucket; `false` if it does not exist.
    pub(super) async fn remove_shared<R: Cached>(
        &self,
        replica: &Replica,
        id: R::Id,
    ) -> Result<bool, Fault> {
        let key = key::of_record(id);
        let removing = async {
            // A removal without an answer may take effect late: what is gone then is gone by this call.
            let mut may_have_removed = false;
            while let Some(version) = replica.version(&key) {
                match replica.write_known(remove_at(&key, version.revision)).await {
                    Ok(revision) => {
                        replica.settled(revision).await;
                        return true;
                    }
                    Err(Conflict { in_doubt }) => {
                        may_have_removed |= in_doubt;
                        replica.tick().await;
                    }
                }
            }
            if may_have_removed {
                replica.settled(replica.applied()).await;
            }
            may_have_removed
        };
        replica.in_time(removing).await
    }

    /// Removes a logging configuration that no room names; `false` if it does not exist. It is marked first: a room
    /// that names it later sees the mark. A mark that stays is [finished](Self::finish_deletions).
    pub(super) async fn remove_logging_shared(
        &self,
        replica: &Replica,
        arn: &str,
        id: LoggingId,
    ) -> Result<bool, Fault> {
        let deleting = |record: &mut LoggingRecord| {
            record.state = LoggingState::Deleting;
            Ok(())
        };
        let marked = replica
            .in_time(self.edit_now(replica, id, deleting))
            .await??;
        let Some((record, mark)) = marked else {
            return Ok(false);
        };
        let ended = self.end_deletion(replica, record, mark);
        match replica.in_time(ended).await? {
            Deletion::Removed => Ok(true),
            Deletion::InUse => Err(Fault::conflict(arn, super::IN_USE)),
            Deletion::Theirs => Err(Fault::conflict(arn, super::IN_PROGRESS)),
        }
    }

    /// Removes a logging configuration that was marked at this revision, or takes the mark back if a room names it.
    async fn end_deletion(
        &self,
        replica: &Replica,
        mut record: LoggingRecord,
        mark: Revision,
    ) -> Deletion {
        let key = key::of_record(record.id());
        let is_named = self.is_named(record.id());
        record.state = LoggingState::Active;
        let value = is_named.then(|| encode(&record));
        let ended = replace_at(replica, &key, mark, value).await;
        if let Some(revision) = ended {
            replica.settled(revision).await;
        }
        match ended {
            // If somebody has changed it since, it is theirs to take back.
            _ if is_named => Deletion::InUse,
            Some(_) => Deletion::Removed,
            None => Deletion::Theirs,
        }
    }

    /// Ends deletions of logging configurations whose marks stay, because nobody answered in time, or their nodes died. Two that
    /// end the same one do the same: the mark says that it was asked for.
    pub(super) async fn finish_deletions(&self, replica: &Replica) -> Infallible {
        let mut before = Vec::new();
        loop {
            sleep(MARK_STAYS_MAX).await;
            let marks = self.logging.each(|record| {
                let is_marked = record.state == LoggingState::Deleting;
                is_marked.then(|| record.clone())
            });
            let marks = marks.into_iter().flatten().filter_map(|record| {
                let version = replica.version(&key::of_record(record.id()))?;
                Some((record, version.revision))
            });
            let marks: Vec<_> = marks.collect();
            for (record, mark) in &marks {
                if before.contains(&(record.id(), *mark)) {
                    // A room that was written before the mark is known here afterwards.
                    replica.tick().await;
                    let ended = self.end_deletion(replica, record.clone(), *mark).await;
                    let id = record.header().id.as_str();
                    tracing::info!(id, ?ended, "a deletion that had stayed unfinished is ended");
                }
            }
            let marked = marks.iter().map(|(record, mark)| (record.id(), *mark));
            before = marked.collect();
        }
    }

    /// Takes a new room back.
    pub(super) async fn take_back(
        &self,
        replica: &Replica,
        room: &RoomRecord,
    ) -> Result<(), Fault> {
        self.remove_shared::<RoomRecord>(replica, room.id()).await?;
        Ok(())
    }

    /// Takes a room's change of its logging configurations back, unless somebody has changed them since.
    pub(super) async fn take_logging_back(
        &self,
        replica: &Replica,
        written: &RoomRecord,
        before: Option<Vec<String>>,
    ) -> Result<(), Fault> {
        let restore = |room: &mut RoomRecord| {
            if room.logging == written.logging {
                room.logging.clone_from(&before);
            }
            Ok(())
        };
        self.edit_shared(replica, written.id(), restore).await?;
        Ok(())
    }
}

/// What became of a logging configuration that was marked as being deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deletion {
    Removed,
    /// A room names it.
    InUse,
    /// Somebody has changed it since.
    Theirs,
}

/// Writes a key that has no value.
async fn create(replica: &Replica, key: &str, value: Bytes) -> Result<Revision, Conflict> {
    let mut expected = Expected::Unused;
    let mut in_doubt = false;
    loop {
        let write = BucketWrite {
            key: key.to_owned(),
            value: Some(value.clone()),
            expected,
        };
        match replica.write_known(write.clone()).await {
            Ok(revision) => return Ok(revision),
            Err(conflict) => in_doubt |= conflict.in_doubt,
        }
        replica.tick().await;
        if replica.version(key).is_some() {
            // An attempt without an answer may have taken effect late.
            let own = replica.found(&write).filter(|_| in_doubt);
            return own.ok_or(Conflict { in_doubt });
        }
        // Ids are random, so only one that was asked for by name had a value before.
        match replica.settings.bucket.inspect(key).await {
            Ok(Inspected {
                found: Some((removal, None)),
                ..
            }) => expected = Expected::At(removal),
            Ok(_) | Err(_) => sleep(RETRY).await,
        }
    }
}

/// Replaces what was written at this revision, or removes it; `None`: somebody has changed it since. A refusal alone does not say so: brokers
/// refuse what comes behind an attempt of our own that is not committed yet, which may be one too many.
async fn replace_at(
    replica: &Replica,
    key: &str,
    at: Revision,
    value: Option<Bytes>,
) -> Option<Revision> {
    loop {
        let write = BucketWrite {
            key: key.to_owned(),
            value: value.clone(),
            expected: Expected::At(at),
        };
        if let Ok(revision) = replica.write_known(write).await {
            return Some(revision);
        }
        replica.tick().await;
        match replica.version(key) {
            Some(there) if there.revision == at => {}
            // It is gone, as it was to be: by an attempt that took effect late, or by somebody who wanted the same.
            None if value.is_none() => return Some(replica.applied()),
            _ => return None,
        }
    }
}

fn remove_at(key: &str, revision: Revision) -> BucketWrite {
    BucketWrite {
        key: key.to_owned(),
        value: None,
        expected: Expected::At(revision),
    }
}
