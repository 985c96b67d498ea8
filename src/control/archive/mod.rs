//! Chat logging (contract §5): the records of logged rooms, from the shards to their destinations.
//!
//! One thread. Its ingest task takes frames from the shards' mailboxes, writes their records to the spools of the
//! room's logging configurations and acknowledges them to the shards, which deliver to viewers only then. One task
//! per configuration moves records from its spool to its destination. Reading, compression and file writes run on
//! blocking threads, so that ingest acknowledges at once.
//!
//! At least once: the cursor moves when the destination has answered. A repeated delivery to object storage writes
//! the same objects under the same keys.

pub mod batch;
pub mod body;
mod deliver;
pub mod destination;
#[cfg(fuzzing)]
pub mod fuzzing;
mod ingest;
pub mod layout;
pub mod metrics;
pub mod record;
mod shipment;
pub mod spool;
pub mod upload;
pub mod verdict;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use self::metrics::ArchiveMetrics;
use super::arn::Account;
use super::aws_client::{Client, Endpoint};
use super::record::Destination;
use crate::clock::Clock;
use crate::shard::mesh::ArchiveEnd;
use crate::supervisor::{self, Supervisor, Thread};
use uproar_proto::base::id::LoggingId;
use uproar_proto::base::limits::{LOG_ANSWER_BYTES_MAX, LOG_REQUEST_TIMEOUT};
use uproar_proto::sigv4::sign::Credentials;

/// How chat logs are kept and delivered.
#[derive(Debug, Clone)]
pub struct ArchiveSettings {
    /// Region and account: part of every key, and of every signature.
    pub account: Account,
    /// Directory of the spools, one subdirectory per configuration.
    pub spool: PathBuf,
    /// Directory for destinations without an endpoint.
    pub directory: PathBuf,
    /// Bound of each spool, in bytes.
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
    /// Credentials for the endpoints.
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
        let region = self.account.region.clone();
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

/// A command from the control plane. Commands arrive in order, and before any shard sends frames that depend on
/// them.
#[derive(Debug)]
enum ArchiveCommand {
    /// All configurations; spools of others are removed.
    Load(Vec<(LoggingId, Destination)>),
    /// The configuration is new, or its destination has changed.
    Put(LoggingId, Destination),
    /// The configuration was deleted; its records are deleted too.
    Remove(LoggingId),
    /// Spool the contents of the mailboxes and stop.
    Stop,
}

/// The control plane's handle. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Archive {
    commands: mpsc::UnboundedSender<ArchiveCommand>,
    metrics: Arc<ArchiveMetrics>,
}

/// The running thread.
#[derive(Debug)]
pub struct ArchiveThread {
    archive: Archive,
    thread: Thread,
}

/// Starts the thread. `configurations` is complete: spools of others are removed.
pub fn start(
    settings: ArchiveSettings,
    configurations: Vec<(LoggingId, Destination)>,
    end: ArchiveEnd,
    clock: Clock,
    supervisor: &Supervisor,
) -> io::Result<ArchiveThread> {
    std::fs::create_dir_all(&settings.spool)?;
    let client = settings.client()?;
    let (commands, received) = mpsc::unbounded_channel();
    let metrics = Arc::<ArchiveMetrics>::default();
    let archive = Archive {
        commands,
        metrics: Arc::clone(&metrics),
    };
    archive.send(ArchiveCommand::Load(configurations));
    let runtime = supervisor::runtime()?;
    let (bell, own) = (Arc::clone(&end.bell), supervisor.clone());
    let thread = supervisor.thread(
        "archive",
        move || bell.press(),
        move |pulse| {
            let client = destination::SinkClient {
                settings: Arc::new(settings),
                client,
            };
            let common = deliver::Common {
                client,
                metrics,
                clock,
                supervisor: own,
            };
            ingest::run(runtime, common, end, received, pulse)
        },
    )?;
    Ok(ArchiveThread { archive, thread })
}

impl Archive {
    /// Announces a new or changed configuration. Records in its spool go to the new destination.
    pub fn put(&self, id: LoggingId, destination: Destination) {
        self.send(ArchiveCommand::Put(id, destination));
    }

    /// Announces a deleted configuration. Its undelivered records are dropped.
    pub fn remove(&self, id: LoggingId) {
        self.send(ArchiveCommand::Remove(id));
    }

    /// The archive's metrics.
    pub fn metrics(&self) -> &ArchiveMetrics {
        &self.metrics
    }

    fn send(&self, command: ArchiveCommand) {
        if self.commands.send(command).is_err() {
            tracing::error!("chat logs: the archive has ended");
        }
    }
}

impl ArchiveThread {
    /// A handle for the control plane.
    pub fn archive(&self) -> Archive {
        self.archive.clone()
    }

    /// Call after the shards have ended: spools the frames they sent, then stops. Undelivered records stay in the
    /// spools.
    pub fn stop(self) {
        self.archive.send(ArchiveCommand::Stop);
        self.thread.join();
    }
}
