//! Chat logging: the records of logged rooms, from the shards to their destinations.
//!
//! One thread. Its ingest task takes frames from the shards' mailboxes, writes their records to the
//! spools of the room's logging configurations and acknowledges them to the shards, which deliver
//! to viewers only then. One task per configuration moves records from its spool to its
//! destination. Reading, compression and file writes run on blocking threads, so that ingest
//! acknowledges at once.
//!
//! At least once: the cursor moves when the destination has answered. A repeated delivery to object
//! storage writes the same objects under the same keys.

pub mod batch;
pub mod body;
mod deliver;
mod due;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hold;
mod ingest;
pub mod layout;
pub mod metrics;
pub mod record;
mod settings;
mod shipment;
mod sink;
mod sink_client;
pub mod spool;
pub mod upload;
pub mod verdict;

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

pub use settings::ArchiveSettings;

use self::ingest::ArchiveCommand;
use self::metrics::ArchiveMetrics;
use self::sink_client::SinkClient;
use super::record::Destination;
use crate::clock::Clock;
use crate::shard::mesh::ArchiveEnd;
use crate::supervisor::{self, Supervisor, Thread};
use uproar_proto::base::id::LoggingId;

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

/// Starts the thread. It touches no spool before [`Archive::load`].
pub fn start(
    settings: ArchiveSettings,
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
    let runtime = supervisor::runtime()?;
    let (bell, own) = (Arc::clone(&end.bell), supervisor.clone());
    let thread = supervisor.thread(
        "archive",
        move || bell.press(),
        move |pulse| {
            let client = SinkClient {
                settings: Arc::new(settings),
                client,
            };
            let common = deliver::Common::new(client, metrics, clock, own);
            ingest::run(runtime, common, end, received, pulse)
        },
    )?;
    Ok(ArchiveThread { archive, thread })
}

/// Settings that a running archive takes over, with all that can fail done.
#[derive(Debug)]
pub struct ArchiveChange(Box<SinkClient>);

impl ArchiveChange {
    /// Makes what sends by these settings. The spools stay where they are.
    ///
    /// # Errors
    ///
    /// The system's certificates cannot be read, and an endpoint needs them.
    pub fn new(settings: ArchiveSettings) -> io::Result<Self> {
        Ok(Self(Box::new(SinkClient {
            client: settings.client()?,
            settings: Arc::new(settings),
        })))
    }
}

impl Archive {
    /// Takes changed settings over, for what is sent and spooled from now on.
    pub fn adopt(&self, change: ArchiveChange) {
        self.send(ArchiveCommand::Adopt(change.0));
    }

    /// Announces all configurations: spools of others are removed, the rest is opened, and deliveries
    /// begin at the cursors. Call once, before a shard has frames, when no other process uses the
    /// spools.
    pub fn load(&self, configurations: Vec<(LoggingId, Destination)>) {
        self.send(ArchiveCommand::Load(configurations));
    }

    /// Stops deliveries, so that another process can go on from the cursors; frames are spooled as
    /// ever. [`Archive::resume`] undoes it.
    ///
    /// # Errors
    ///
    /// A file of the chat logs takes longer than twice `LOG_PAUSE_MAX`. Deliveries go on.
    ///
    /// # Cancel safety
    ///
    /// Deliveries stop all the same.
    pub async fn pause(&self) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.send(ArchiveCommand::Pause(answer));
        answered.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Returns when every frame that shards have sent until now is in its spools, or counted as lost.
    /// Takes as long as the disk does.
    ///
    /// # Errors
    ///
    /// The archive has ended.
    pub async fn settle(&self) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.send(ArchiveCommand::Settle(answer));
        answered.await.map_err(|_| ended())
    }

    /// Deliveries go on from the cursors.
    pub fn resume(&self) {
        self.send(ArchiveCommand::Resume);
    }

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

fn ended() -> io::Error {
    io::Error::other("the archive of chat logs has ended")
}

impl ArchiveThread {
    /// A handle for the control plane.
    pub fn archive(&self) -> Archive {
        self.archive.clone()
    }

    /// Call after the shards have ended: spools the frames they sent, then stops. Undelivered
    /// records stay in the spools.
    pub fn stop(self) {
        self.archive.send(ArchiveCommand::Stop);
        self.thread.join();
    }
}
