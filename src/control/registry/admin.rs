//! The making of a cluster's registry from a node's records, and its restoring: `uproar cluster init` and `restore`.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::facts::{COPY_ROW, CopyMark, FACTS_KEY, Facts, SLOTS};
use super::key::{self, RING_KEY};
use super::node::Rows;
use super::secret::ClusterSecret;
use crate::cluster::bucket::{
    Bucket, BucketWrite, Expected, InspectFault, Inspected, Revision, WriteFault,
};
use crate::control::access::keyfile::ExportedKey;
use crate::control::arn::{Account, ResourceId};
use crate::control::store::{Store, StoreError, Table, Write};
use crate::random;
use uproar_proto::base::id::{BanId, LoggingId, RoomId, RuleSetId};
use uproar_proto::base::limits::BUCKET_RETRY;

/// Writes in progress at once.
const WRITES_MAX: usize = 256;
/// From the first attempt of a write to the last: longer than an election of the brokers takes.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// What a command needs of this node.
pub struct NodeRecords {
    /// The cluster's name.
    pub cluster: String,
    /// Region and account of the configuration.
    pub account: Account,
    /// Seals what brokers must not read.
    pub secret: ClusterSecret,
    /// The database, which no server uses.
    pub store: Store,
    /// The access keys of the data directory, by their ids, as JSON.
    pub access_keys: Vec<ExportedKey>,
    /// The ring of sealing keys, as text.
    pub ring: Zeroizing<Vec<u8>>,
    /// Is told how many records and keys of how many are in the bucket, each [`PROGRESS_RECORDS`].
    pub progress: fn(usize, usize),
}

/// How many records are written between two lines for whoever waits: a few seconds' worth.
pub const PROGRESS_RECORDS: usize = 5_000;

/// What a command has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Records and keys that the bucket had not.
    pub made: usize,
    /// Those that it had.
    pub found: usize,
    /// Whether there was nothing to do.
    pub was_whole: bool,
}

/// Why a command stopped. It can be run again.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nodes follow it already.
    #[error(
        "cluster {0} exists on these brokers already: this node joins it by starting with an empty server.data_dir; for \
         another cluster choose another cluster.name"
    )]
    Exists(String),
    /// It was one.
    #[error(
        "the data directory is a copy of cluster {0}, whose registry the brokers have not: if its data is lost, run \
         `uproar cluster restore --config FILE` here"
    )]
    WasCopy(String),
    /// It never was one.
    #[error("the data directory is no copy of cluster {0}: restore from a node that was in it")]
    NoCopy(String),
    /// Another one.
    #[error(
        "the data directory is a copy of another cluster than that of these brokers, both named {0}"
    )]
    OtherCluster(String),
    /// It would seal what no other node opens.
    #[error(
        "the sealing keys of cluster {0} do not open: cluster.secret_file is not that of the cluster; copy it from another \
         node"
    )]
    OtherSecret(String),
    /// Somebody else has written there.
    #[error(
        "the bucket has another value of {0} already: is another `cluster init` running, or of a cluster that was?"
    )]
    Differs(String),
    /// They do not answer.
    #[error("the brokers do not answer: {0}. What was written stays; run the command again")]
    Silent(String),
    /// The database.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// No random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] io::Error),
}

/// Makes a cluster's registry of what this node has. The facts come last: before, no node can start. After an
/// interruption it goes on.
///
/// # Errors
///
/// See [`AdminError`].
pub async fn init(bucket: &Bucket, mut node: NodeRecords) -> Result<Written, AdminError> {
    let rows = Rows::read(node.store.take(Table::Cluster));
    let facts = facts(bucket).await?.map(|(_, facts)| facts);
    let identity = match (facts, rows.copy) {
        (Some(facts), Some(copy)) if facts.identity == copy.identity => {
            check_secret(bucket, &node).await?;
            return Ok(Written {
                was_whole: true,
                ..Written::default()
            });
        }
        (Some(_), _) => return Err(AdminError::Exists(node.cluster)),
        (None, Some(copy)) if copy.revision > 0 => return Err(AdminError::WasCopy(copy.cluster)),
        // It was interrupted.
        (None, Some(copy)) => copy.identity,
        (None, None) => {
            format!("{:032x}", u128::from_ne_bytes(random::bytes()?))
        }
    };
    let facts = Facts {
        cluster: node.cluster.clone(),
        identity,
        era: 1,
        region: node.account.region.clone(),
        account: node.account.id.clone(),
        slots: SLOTS,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    mark(&node.store, &facts).await?;
    let written = write_all(bucket, &mut node, Existing::MustBeEqual).await?;
    write_facts(bucket, &facts, Expected::Unused).await?;
    Ok(written)
}

/// Puts what the bucket has lost back, as this node has it. What the bucket has, or once removed, stays as it is. The
/// era begins anew, so that every node looks at all of it.
///
/// # Errors
///
/// See [`AdminError`].
pub async fn restore(bucket: &Bucket, mut node: NodeRecords) -> Result<Written, AdminError> {
    let Some(copy) = Rows::read(node.store.take(Table::Cluster)).copy else {
        return Err(AdminError::NoCopy(node.cluster));
    };
    if copy.cluster != node.cluster {
        return Err(AdminError::NoCopy(node.cluster));
    }
    let found = facts(bucket).await?;
    if let Some((_, found)) = &found
        && found.identity != copy.identity
    {
        return Err(AdminError::OtherCluster(node.cluster));
    }
    check_secret(bucket, &node).await?;
    let last = inspect(bucket, FACTS_KEY).await?.last;
    let written = write_all(bucket, &mut node, Existing::Stays).await?;
    let is_ahead = found.is_some() && last >= Revision(copy.revision);
    if written.made == 0 && is_ahead {
        let was_whole = true;
        return Ok(Written {
            was_whole,
            ..written
        });
    }
    let (expected, era) = match &found {
        Some((revision, facts)) => (Expected::At(*revision), facts.era.max(copy.era)),
        None => (Expected::Unused, copy.era),
    };
    let facts = Facts {
        cluster: node.cluster.clone(),
        identity: copy.identity,
        era: era + 1,
        region: node.account.region.clone(),
        account: node.account.id.clone(),
        slots: SLOTS,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    mark(&node.store, &facts).await?;
    write_facts(bucket, &facts, expected).await?;
    Ok(written)
}

/// Whether this node's secret opens what the bucket has sealed, if it has anything.
async fn check_secret(bucket: &Bucket, node: &NodeRecords) -> Result<(), AdminError> {
    let found = inspect(bucket, RING_KEY).await?.found;
    let sealed = found.and_then(|(_, value)| value);
    if sealed.is_some_and(|sealed| node.secret.open(RING_KEY, &sealed).is_none()) {
        return Err(AdminError::OtherSecret(node.cluster.clone()));
    }
    Ok(())
}

/// What to do about a key that the bucket has with another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    MustBeEqual,
    Stays,
}

/// Marks the database as a copy that is not whole yet: its node fetches everything at its start.
async fn mark(store: &Store, facts: &Facts) -> Result<(), AdminError> {
    let copy = CopyMark {
        cluster: facts.cluster.clone(),
        identity: facts.identity.clone(),
        era: facts.era,
        revision: 0,
    };
    let write = Write {
        table: Table::Cluster,
        id: COPY_ROW.to_owned(),
        value: Some(serde_json::to_vec(&copy).expect("strings and numbers")),
    };
    Ok(store.write(write).await?)
}

async fn write_facts(bucket: &Bucket, facts: &Facts, expected: Expected) -> Result<(), AdminError> {
    let value: Bytes = serde_json::to_vec(facts)
        .expect("strings and numbers")
        .into();
    let same =
        |found: &Bytes| serde_json::from_slice::<Facts>(found).is_ok_and(|found| found == *facts);
    let write = BucketWrite {
        key: FACTS_KEY.to_owned(),
        value: Some(value),
        expected,
    };
    match write_one(bucket, write).await? {
        Outcome::Made => Ok(()),
        Outcome::Found(Some(found)) if same(&found) => Ok(()),
        Outcome::Found(_) => Err(AdminError::Exists(facts.cluster.clone())),
    }
}

/// Writes each record and key that the bucket never had.
async fn write_all(
    bucket: &Bucket,
    node: &mut NodeRecords,
    existing: Existing,
) -> Result<Written, AdminError> {
    let mut left = VecDeque::new();
    for (id, value) in node.store.take(Table::Rooms) {
        left.extend(RoomId::parse(&id).map(|id| plain(id, value)));
    }
    for (id, value) in node.store.take(Table::Logging) {
        left.extend(LoggingId::parse(&id).map(|id| plain(id, value)));
    }
    for (id, value) in node.store.take(Table::Bans) {
        left.extend(BanId::parse(&id).map(|id| plain(id, value)));
    }
    for (id, value) in node.store.take(Table::RuleSets) {
        left.extend(RuleSetId::parse(&id).map(|id| plain(id, value)));
    }
    let keys = node.access_keys.drain(..);
    let secrets = keys.map(|(id, value)| (key::of_access_key(&id), value));
    let ring = std::mem::take(&mut node.ring);
    for (key, value) in secrets.chain([(RING_KEY.to_owned(), ring)]) {
        let sealed = node.secret.seal(&key, &value)?.into();
        left.push_back((key, sealed, Some(value)));
    }
    let (mut written, mut pending) = (Written::default(), JoinSet::new());
    let (mut done_so_far, all) = (0, left.len());
    loop {
        while pending.len() < WRITES_MAX
            && let Some((key, value, opened)) = left.pop_front()
        {
            let (bucket, write) = (bucket.clone(), create(&key, &value));
            pending.spawn(async move { (key, value, opened, write_one(&bucket, write).await) });
        }
        let Some(done) = pending.join_next().await else {
            return Ok(written);
        };
        let (key, value, opened, outcome) = done.map_err(io::Error::other)?;
        done_so_far += 1;
        if done_so_far % PROGRESS_RECORDS == 0 {
            (node.progress)(done_so_far, all);
        }
        match outcome? {
            Outcome::Made => written.made += 1,
            Outcome::Found(found) => {
                let is_same = found.is_some_and(|found| match opened {
                    None => found == value,
                    Some(ours) => node
                        .secret
                        .open(&key, &found)
                        .is_some_and(|theirs| theirs == ours),
                });
                if existing == Existing::MustBeEqual && !is_same {
                    return Err(AdminError::Differs(key));
                }
                written.found += 1;
            }
        }
    }
}

/// A key of the bucket, its value, and for a secret the value before it was sealed.
type Item = (String, Bytes, Option<Zeroizing<Vec<u8>>>);

fn plain(id: impl ResourceId, value: Vec<u8>) -> Item {
    (key::of_record(id), value.into(), None)
}

fn create(key: &str, value: &Bytes) -> BucketWrite {
    BucketWrite {
        key: key.to_owned(),
        value: Some(value.clone()),
        expected: Expected::Unused,
    }
}

enum Outcome {
    Made,
    /// Its condition does not hold: the key's value.
    Found(Option<Bytes>),
}

async fn write_one(bucket: &Bucket, write: BucketWrite) -> Result<Outcome, AdminError> {
    let until = Instant::now() + WRITE_MAX;
    loop {
        match bucket.write(write.clone()).await {
            Ok(_) => return Ok(Outcome::Made),
            Err(WriteFault::Conflict) => {
                let found = inspect(bucket, &write.key).await?.found;
                let is_as_expected = match write.expected {
                    Expected::Any => false,
                    Expected::Unused => found.is_none(),
                    Expected::At(at) => found.as_ref().is_some_and(|(there, _)| *there == at),
                };
                if !is_as_expected {
                    return Ok(Outcome::Found(found.and_then(|(_, value)| value)));
                }
                // It came behind an attempt of our own that is not committed yet.
                if Instant::now() >= until {
                    return Err(AdminError::Silent(WriteFault::Conflict.to_string()));
                }
                sleep(BUCKET_RETRY).await;
            }
            Err(WriteFault::Unknown(_)) if Instant::now() < until => sleep(BUCKET_RETRY).await,
            Err(WriteFault::Unknown(cause)) => return Err(AdminError::Silent(cause)),
        }
    }
}

async fn inspect(bucket: &Bucket, key: &str) -> Result<Inspected, AdminError> {
    let until = Instant::now() + WRITE_MAX;
    loop {
        match bucket.inspect(key).await {
            Ok(inspected) => return Ok(inspected),
            Err(InspectFault::Unknown(_)) if Instant::now() < until => sleep(BUCKET_RETRY).await,
            Err(fault) => return Err(AdminError::Silent(fault.to_string())),
        }
    }
}

async fn facts(bucket: &Bucket) -> Result<Option<(Revision, Facts)>, AdminError> {
    let found = inspect(bucket, FACTS_KEY).await?.found;
    Ok(found.and_then(|(revision, value)| {
        let facts = serde_json::from_slice(&value?).ok()?;
        Some((revision, facts))
    }))
}
