//! Chat logging (contract §5): the records of logged rooms, from the shards to their destinations.
//!
//! One thread. Its intake takes frames from the shards' mailboxes, writes their records to the spools of
//! the room's logging configurations and answers the shards, which deliver to viewers only then. One
//! task for each configuration takes records from its spool to its destination. Reading, compressing
//! and file writing happen beside the thread, so that the intake answers at once.
//!
//! At least once: the cursor moves when the destination has answered. A repeated delivery to object
//! storage is the same objects under the same keys.

pub mod batch;
pub mod body;
mod deliver;
pub mod destination;
#[cfg(fuzzing)]
pub mod fuzzing;
mod intake;
pub mod layout;
pub mod metrics;
pub mod parcel;
pub mod record;
mod shipment;
pub mod spool;
pub mod verdict;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use self::metrics::ArchiveMetrics;
use super::arn::Realm;
use super::client::{Client, Endpoint};
use super::record::Destination;
use crate::base::id::LoggingId;
use crate::base::limits::{LOG_ANSWER_BYTES_MAX, LOG_REQUEST_TIMEOUT};
use crate::protocol::sigv4::sign::Credentials;
use crate::shard::mesh::ArchiveEnd;
use crate::shard::run::Clock;
use crate::supervisor::{self, Supervisor, Thread};

/// How chat logs are kept and delivered.
#[derive(Debug, Clone)]
pub struct ArchiveSettings {
    /// Region and account: part of every key, and of every signature.
    pub realm: Realm,
    /// Where spools are: a directory for each configuration.
    pub spool: PathBuf,
    /// Where destinations without an endpoint are written.
    pub directory: PathBuf,
    /// Of each spool.
    pub spool_bytes_max: u64,
    /// How long undelivered records are kept.
    pub age_max: Duration,
    /// Time covered by an object.
    pub window: Duration,
    /// How long records for streams are collected.
    pub linger: Duration,
    /// Object storage.
    pub s3: Option<Endpoint>,
    /// CloudWatch Logs.
    pub cloudwatch: Option<Endpoint>,
    /// Firehose.
    pub firehose: Option<Endpoint>,
    /// For the endpoints.
    pub credentials: Option<Credentials>,
}

impl ArchiveSettings {
    fn window_ms(&self) -> u64 {
        u64::try_from(self.window.as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    fn client(&self) -> io::Result<Option<Client>> {
        let Some(credentials) = self.credentials.clone() else {
            return Ok(None);
        };
        let endpoints = [&self.s3, &self.cloudwatch, &self.firehose];
        let secure = endpoints.into_iter().flatten().any(Endpoint::is_secure);
        let region = self.realm.region.clone();
        Client::new(
            credentials,
            region,
            LOG_REQUEST_TIMEOUT,
            LOG_ANSWER_BYTES_MAX,
            secure,
        )
        .map(Some)
    }
}

/// What the control plane tells the archive. In the order in which it is told, and before a shard can
/// hand over frames that need it.
#[derive(Debug)]
enum Order {
    /// These are all; spools of others are removed.
    Load(Vec<(LoggingId, Destination)>),
    /// There is this configuration, or it delivers elsewhere now.
    Put(LoggingId, Destination),
    /// The configuration is gone, and its records with it.
    Remove(LoggingId),
    /// Spool what is in the mailboxes and end.
    Stop,
}

/// The control plane's end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive {
    orders: mpsc::UnboundedSender<Order>,
    metrics: Arc<ArchiveMetrics>,
}

/// The running thread.
#[derive(Debug)]
pub struct ArchiveThread {
    archive: Archive,
    thread: Thread,
}

/// Starts the thread. `configurations` are all there are; spools of others are removed.
pub fn start(
    settings: ArchiveSettings,
    configurations: Vec<(LoggingId, Destination)>,
    end: ArchiveEnd,
    clock: Clock,
    supervisor: &Supervisor,
) -> io::Result<ArchiveThread> {
    std::fs::create_dir_all(&settings.spool)?;
    let client = settings.client()?;
    let (orders, received) = mpsc::unbounded_channel();
    let metrics = Arc::<ArchiveMetrics>::default();
    let archive = Archive {
        orders,
        metrics: Arc::clone(&metrics),
    };
    archive.order(Order::Load(configurations));
    let runtime = supervisor::runtime()?;
    let (bell, own) = (Arc::clone(&end.bell), supervisor.clone());
    let thread = supervisor.thread(
        "archive",
        move || bell.press(),
        move |pulse| {
            let shipper = destination::Shipper {
                settings: Arc::new(settings),
                client,
            };
            let common = deliver::Common {
                shipper,
                metrics,
                clock,
                supervisor: own,
            };
            intake::run(runtime, common, end, received, pulse)
        },
    )?;
    Ok(ArchiveThread { archive, thread })
}

impl Archive {
    /// Tells of a new or changed configuration. Records in its spool go to the new destination.
    pub fn put(&self, id: LoggingId, destination: Destination) {
        self.order(Order::Put(id, destination));
    }

    /// Tells of a configuration that is no more. Its undelivered records are given up.
    pub fn remove(&self, id: LoggingId) {
        self.order(Order::Remove(id));
    }

    /// Its figures.
    pub fn metrics(&self) -> &ArchiveMetrics {
        &self.metrics
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("chat logs: the archive has ended");
        }
    }
}

impl ArchiveThread {
    /// For the control plane.
    pub fn archive(&self) -> Archive {
        self.archive.clone()
    }

    /// Call when the shards have ended: spools what they handed over, and ends. What is not delivered
    /// stays in the spools.
    pub fn stop(self) {
        self.archive.order(Order::Stop);
        self.thread.join();
    }
}
