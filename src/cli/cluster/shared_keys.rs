//! Access keys and sealing keys of a cluster: in its bucket, sealed, from where they reach every node.

use std::time::Duration;

use super::records::with_brokers;
use crate::cli::failure::Failure;
use crate::cli::place::Placed;
use crate::clock;
use crate::cluster::bucket::{Bucket, BucketWrite, Expected, Revision, WriteFault};
use crate::cluster::{self, ClusterSettings};
use crate::control::registry::key::{RING_KEY, of_access_key};
use crate::control::registry::{ClusterSecret, copied_cluster};
use crate::control::store::path_in;
use crate::random;
use uproar_proto::base::limits::TOKEN_LIFE_MAX;
use uproar_proto::token::{KEY_BYTES, Key, Keyring};
use zeroize::Zeroizing;

/// A node that has not got a new key by then is not well; the old one seals on.
const KEY_SPREADS_MAX: Duration = Duration::from_secs(20);

/// The cluster that a command's server is a node of.
///
/// # Errors
///
/// The data directory is a copy of a cluster, and no configuration tells how to reach it.
pub(in crate::cli) fn of(placed: &Placed) -> Result<Option<&ClusterSettings>, Failure> {
    if placed.cluster.is_some() {
        return Ok(placed.cluster.as_ref());
    }
    match copied_cluster(&path_in(&placed.data_dir)) {
        Some(cluster) => Err(Failure::Usage(format!(
            "{} is a copy of cluster {cluster}, whose keys are on its brokers: pass --config FILE with its table [cluster]",
            placed.data_dir.display()
        ))),
        None => Ok(None),
    }
}

/// Gives an access key to every node.
pub(in crate::cli) fn put_access_key(
    cluster: &ClusterSettings,
    id: &str,
    plain: &[u8],
) -> Result<(), Failure> {
    let key = of_access_key(id);
    let sealed = secret(cluster)?
        .seal(&key, plain)
        .map_err(|error| run(&error))?;
    with_brokers(async {
        let bucket = open(cluster).await?;
        // Its id is random. An attempt that arrives late does not bring a key back that was revoked.
        write(&bucket, key, Some(sealed), Expected::Unused)
            .await
            .map(drop)
    })
}

/// Takes an access key from every node; `false` if the cluster has none with this id.
pub(in crate::cli) fn revoke_access_key(
    cluster: &ClusterSettings,
    id: &str,
) -> Result<bool, Failure> {
    let key = of_access_key(id);
    with_brokers(async {
        let bucket = open(cluster).await?;
        let found = bucket
            .inspect(&key)
            .await
            .map_err(|error| run(&error))?
            .found;
        let Some((revision, Some(_))) = found else {
            return Ok(false);
        };
        write(&bucket, key, None, Expected::At(revision)).await?;
        Ok(true)
    })
}

/// Adds a sealing key, waits until every node that lives opens tokens with it, and then seals with it.
pub(in crate::cli) fn rotate(cluster: &ClusterSettings) -> Result<(), Failure> {
    let secret = secret(cluster)?;
    let bytes = random::bytes::<KEY_BYTES>().map_err(|error| run(&error))?;
    with_brokers(async {
        let bucket = open(cluster).await?;
        let (revision, mut ring) = ring(&bucket, &secret).await?;
        let now = clock::unix_now();
        let key = Key::new(bytes, now);
        let id = key.id();
        ring.retire(now, TOKEN_LIFE_MAX);
        ring.push_behind(key);
        let revision = write_ring(&bucket, &secret, &ring, revision).await?;
        let lacking = cluster::await_key(cluster, id, KEY_SPREADS_MAX).await;
        let lacking = lacking.map_err(|error| run(&error))?;
        if !lacking.is_empty() {
            return Err(Failure::Run(format!(
                "these nodes do not open tokens with the new key after {} s: {}. The old key seals on, and nothing is refused; \
                 see what is wrong with them, then run this again",
                KEY_SPREADS_MAX.as_secs(),
                lacking.join(", ")
            )));
        }
        ring.promote();
        write_ring(&bucket, &secret, &ring, revision)
            .await
            .map(drop)
    })
}

async fn ring(bucket: &Bucket, secret: &ClusterSecret) -> Result<(Revision, Keyring), Failure> {
    let found = bucket
        .inspect(RING_KEY)
        .await
        .map_err(|error| run(&error))?
        .found;
    let Some((revision, Some(sealed))) = found else {
        return Err(Failure::Run(
            "the cluster has no sealing keys: run `uproar cluster init`".to_owned(),
        ));
    };
    let text = secret.open(RING_KEY, &sealed);
    let text = text.ok_or_else(|| {
        Failure::Run("the cluster's sealing keys do not open: cluster.secret_file is not that of the cluster".to_owned())
    })?;
    let text = Zeroizing::new(String::from_utf8_lossy(&text).into_owned());
    let ring = Keyring::parse(&text).map_err(|error| run(&error))?;
    Ok((revision, ring))
}

async fn write_ring(
    bucket: &Bucket,
    secret: &ClusterSecret,
    ring: &Keyring,
    before: Revision,
) -> Result<Revision, Failure> {
    let sealed = secret.seal(RING_KEY, ring.to_text().as_bytes());
    let sealed = sealed.map_err(|error| run(&error))?;
    write(
        bucket,
        RING_KEY.to_owned(),
        Some(sealed),
        Expected::At(before),
    )
    .await
}

async fn write(
    bucket: &Bucket,
    key: String,
    value: Option<Vec<u8>>,
    expected: Expected,
) -> Result<Revision, Failure> {
    let write = BucketWrite {
        key,
        value: value.map(Into::into),
        expected,
    };
    bucket.write(write).await.map_err(|fault| match fault {
        WriteFault::Conflict => {
            Failure::Run("somebody else is changing the cluster's keys: run this again".to_owned())
        }
        WriteFault::Unknown(cause) => Failure::Run(format!(
            "the brokers do not answer: {cause}. It may have happened all the same; run this again"
        )),
    })
}

async fn open(cluster: &ClusterSettings) -> Result<Bucket, Failure> {
    cluster::open(cluster).await.map_err(|error| run(&error))
}

fn secret(cluster: &ClusterSettings) -> Result<ClusterSecret, Failure> {
    ClusterSecret::read(&cluster.secret_file).map_err(|error| run(&error))
}

fn run(error: &dyn std::error::Error) -> Failure {
    Failure::Run(error.to_string())
}
