//! From memory to the rest of the node: a batch of changes to its database, its shards and its files of keys.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Registry;
use super::facts::COPY_ROW;
use super::node::{Applied, Effect, KeyChange, NodeEffects, RecordChanges};
use super::replica::Replica;
use crate::cluster::bucket::Revision;
use crate::control::record::RoomRecord;
use crate::control::store::{Table, Write};
use uproar_proto::base::limits::COMMIT_WRITES_MAX;
use uproar_proto::room::RoomSettings;

impl Registry {
    /// Brings changes to the disk, to the shards and to the files of keys, many at a time, in order.
    pub(super) async fn settle(
        &self,
        replica: &Replica,
        mut applied: mpsc::Receiver<Applied>,
        node: &impl NodeEffects,
    ) -> Infallible {
        let mut batch = Vec::new();
        loop {
            let count = applied.recv_many(&mut batch, COMMIT_WRITES_MAX).await;
            assert!(count > 0, "the other half of this future has the sender");
            let last = batch
                .last()
                .map_or(Revision::NONE, |applied| applied.revision);
            let (writes, keys, records) = self.sort(replica, std::mem::take(&mut batch));
            if !keys.is_empty() {
                node.keys(keys).await;
            }
            // A disk that refuses does not keep rooms from their viewers: the bucket has them.
            tokio::join!(self.write_until_done(writes), node.records(records));
            replica
                .progress
                .send_modify(|progress| progress.settled = last);
        }
    }

    async fn write_until_done(&self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        while self.store.write_all(writes.clone()).await.is_err() {
            // The store has logged the reason.
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// What a batch of changes means: writes of the database, in order, then changes of keys and of records.
    pub(super) fn sort(
        &self,
        replica: &Replica,
        batch: Vec<Applied>,
    ) -> (Vec<Write>, Vec<KeyChange>, RecordChanges) {
        let (mut writes, mut keys, mut records) =
            (Vec::new(), Vec::new(), RecordChanges::default());
        let mut is_marked = false;
        let mut copy = replica.copy.borrow_mut();
        for Applied {
            revision,
            effect,
            record,
        } in batch
        {
            if let Some(copy) = copy.as_mut().filter(|copy| copy.revision > 0) {
                copy.revision = revision.0;
            }
            if let Some((key, write)) = record {
                let value = write
                    .value
                    .is_some()
                    .then(|| revision.0.to_string().into_bytes());
                writes.extend([write, row(key, value)]);
            }
            match effect {
                Effect::None => continue,
                Effect::Room(id, room) => {
                    let settings = room.map(|room| self.settings_of(&room));
                    records.rooms.insert(id, settings);
                }
                Effect::Logging(id, logging) => {
                    let destination = logging.map(|logging| logging.destination);
                    records.logging.insert(id, destination);
                }
                Effect::Ban(id, ban) => drop(records.bans.insert(id, ban)),
                Effect::RuleSet(id, set) => drop(records.rule_sets.insert(id, set)),
                Effect::Keys(change) => keys.push(change),
                Effect::Copy(mark) => *copy = Some(mark),
            }
            is_marked = true;
        }
        if is_marked && let Some(copy) = &*copy {
            let mark = serde_json::to_vec(copy).expect("strings and numbers");
            writes.push(row(COPY_ROW.to_owned(), Some(mark)));
        }
        (writes, keys, records)
    }

    /// A room's settings. A logging configuration that it names and that does not exist is left out: its deletion
    /// and the room's change met while a node died.
    pub fn settings_of(&self, room: &RoomRecord) -> RoomSettings {
        let mut settings = room.settings(self.extensions.get());
        let known = room.logging_ids().filter(|id| self.logging.contains(*id));
        settings.archive = known.collect();
        settings
    }
}

fn row(id: String, value: Option<Vec<u8>>) -> Write {
    Write {
        table: Table::Cluster,
        id,
        value,
    }
}
