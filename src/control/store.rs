//! Durable storage in redb: every write is on disk before it is answered.
//!
//! One writer thread takes what waits and commits it together, so that many writes share one sync. A
//! write that was refused has no effect, also if the disk failed after it took it and the server was killed
//! then; once the disk works again, so does the store.

pub mod backup;
mod disk;
mod fresh;
pub mod keys;
mod mark;
mod schema;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use redb::{Builder, ConcurrencyMode, TableDefinition};
use tokio::sync::oneshot;

use crate::base::limits::COMMIT_WRITES_MAX;
use crate::durable::Survives;
use crate::supervisor::{Pulse, Supervisor, Thread, Told};
use disk::Disk;
use mark::MarkFile;

/// Why storage failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("database: {0}")]
    Database(Box<redb::Error>),
    /// Made by a later version.
    #[error(
        "the database has schema {found}, this server knows up to {}: use the version that wrote it",
        schema::CURRENT
    )]
    Schema {
        /// In the file.
        found: u64,
    },
    /// A stored value cannot be read.
    #[error("{table} {id} cannot be read: {cause}")]
    Value {
        /// Which table.
        table: &'static str,
        /// Which record.
        id: String,
        /// Why.
        cause: String,
    },
    /// The write did not happen; the log says why.
    #[error("the write failed")]
    Refused,
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// One kind of record, each by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Rooms.
    Rooms,
    /// Logging configurations.
    Logging,
}

impl Table {
    const ALL: [Self; 2] = [Self::Rooms, Self::Logging];

    /// Its name in the database, and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rooms => "rooms",
            Self::Logging => "logging-configurations",
        }
    }

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// One change.
#[derive(Debug, Clone)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// Which record.
    pub id: String,
    /// What it is from now on; `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// A write, and who waits for it.
struct Job {
    write: Write,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// What the writer is asked.
enum Asked {
    Write(Job),
    /// To take a turn: is it alive?
    Turn,
}

impl Asked {
    fn job(self) -> Option<Job> {
        match self {
            Self::Write(job) => Some(job),
            Self::Turn => None,
        }
    }
}

/// Figures of the writer.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// Commits that are on disk.
    pub commits: AtomicU64,
    /// Writes that are on disk.
    pub writes: AtomicU64,
    /// Writes that were refused because the disk was.
    pub refused: AtomicU64,
}

impl StoreMetrics {
    /// As Prometheus reads them.
    pub fn render(&self, out: &mut String) {
        for (name, help, value) in [
            (
                "commits",
                "Commits of the database that are on disk.",
                &self.commits,
            ),
            (
                "writes",
                "Writes to the database that are on disk.",
                &self.writes,
            ),
            (
                "refused_writes",
                "Writes that the disk refused.",
                &self.refused,
            ),
        ] {
            let value = value.load(Ordering::Relaxed);
            let name = format!("uproar_store_{name}_total");
            let _infallible = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n"
            );
        }
    }
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    found: Vec<(Table, String, Vec<u8>)>,
    // Both are there until it is dropped.
    jobs: Option<Arc<mpsc::Sender<Asked>>>,
    thread: Option<Thread>,
    metrics: Arc<StoreMetrics>,
}

/// Where the database of a data directory is.
pub fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join("rooms.redb")
}

/// One process writes; `uproar store backup` may read meanwhile.
fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    builder
}

impl Store {
    /// Opens or makes the database, brings it to the current schema and reads what it holds.
    pub fn open(path: &Path, supervisor: &Supervisor) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let marks = if path.try_exists()? {
            MarkFile::beside(&path, Survives::PowerLoss)?
        } else {
            // What syncs the database's name syncs the mark's; and there is nothing to be marked yet.
            let marks = MarkFile::beside(&path, Survives::Kill)?;
            fresh::make(&path)?;
            marks
        };
        let disk = Disk::open(move || Ok(builder().create(&path)?), marks)?;
        Self::of(disk, supervisor)
    }

    fn of(disk: Disk, supervisor: &Supervisor) -> Result<Self, StoreError> {
        let found = disk.read_all()?;
        let metrics = Arc::new(StoreMetrics::default());
        let (jobs, queue) = mpsc::channel();
        let (jobs, own) = (Arc::new(jobs), Arc::clone(&metrics));
        // The thread is told to end by the last sender's end.
        let asker = Arc::downgrade(&jobs);
        let thread = supervisor.thread(
            "store",
            move || {
                // Gone: the server is stopping.
                if let Some(jobs) = asker.upgrade() {
                    let _ended = jobs.send(Asked::Turn);
                }
            },
            move |pulse| Ok::<_, Infallible>(write_all(disk, &queue, &own, pulse)),
        );
        let thread = thread.map_err(|error| StoreError::from(redb::StorageError::Io(error)))?;
        Ok(Self {
            found,
            jobs: Some(jobs),
            thread: Some(thread),
            metrics,
        })
    }

    /// What a table held when the database was opened; once.
    pub fn take(&mut self, table: Table) -> Vec<(String, Vec<u8>)> {
        let of_table = self.found.extract_if(.., |(other, _, _)| *other == table);
        of_table.map(|(_, id, value)| (id, value)).collect()
    }

    /// Writes; on disk when it answers. Refused, it has no effect.
    ///
    /// # Cancel safety
    ///
    /// The write happens or not, whoever waits.
    pub async fn write(&self, write: Write) -> Result<(), StoreError> {
        let (done, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or(StoreError::Refused)?;
        jobs.send(Asked::Write(Job { write, done }))
            .map_err(|_| StoreError::Refused)?;
        answered.await.map_err(|_| StoreError::Refused)?
    }

    /// Figures of the writer.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }
}

impl Drop for Store {
    /// Waits until what was asked for is written and the database closed.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

fn write_all(
    mut disk: Disk,
    queue: &mpsc::Receiver<Asked>,
    metrics: &StoreMetrics,
    pulse: &Pulse,
) -> Told {
    while let Ok(first) = queue.recv() {
        pulse.beat();
        let jobs = std::iter::once(first).chain(queue.try_iter().take(COMMIT_WRITES_MAX - 1));
        let (writes, waiting): (Vec<Write>, Vec<_>) = jobs
            .filter_map(Asked::job)
            .map(|Job { write, done }| (write, done))
            .unzip();
        if writes.is_empty() {
            continue;
        }
        let kept = disk.commit(&writes);
        let count = u64::try_from(writes.len()).unwrap_or(u64::MAX);
        if kept {
            metrics.commits.fetch_add(1, Ordering::Relaxed);
            metrics.writes.fetch_add(count, Ordering::Relaxed);
        } else {
            metrics.refused.fetch_add(count, Ordering::Relaxed);
        }
        for done in waiting {
            // Whoever asked may be gone; the write stands.
            let _gone = done.send(if kept {
                Ok(())
            } else {
                Err(StoreError::Refused)
            });
        }
    }
    Told
}
