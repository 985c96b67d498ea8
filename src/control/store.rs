//! Durable storage in redb: every write is on disk before it is acknowledged.
//!
//! One writer thread commits all waiting writes together, so that many writes share one sync. A
//! refused write has no effect, even if the disk failed after storing it and the server was killed
//! then; once the disk works again, so does the store.

pub mod backup;
mod disk;
mod error;
mod fresh;
pub mod keys;
mod metrics;
mod refused;
mod schema;
mod table;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use redb::{Builder, ConcurrencyMode};
use tokio::sync::oneshot;

pub use error::StoreError;
pub use metrics::StoreMetrics;
pub(crate) use schema::CURRENT as SCHEMA;
pub use table::{Table, Write};

use crate::durable::Survives;
use crate::supervisor::{Pulse, Stopped, Supervisor, Thread};
use disk::Disk;
use refused::RefusalFile;
use uproar_proto::base::limits::COMMIT_WRITES_MAX;

/// Writes that happen together or not at all, and the channel for their result.
struct Job {
    writes: Vec<Write>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// A request to the writer thread.
enum Request {
    Write(Job),
    /// A liveness check: take a turn.
    Turn,
    /// Close the database, and refuse writes until it is opened again.
    Close(oneshot::Sender<Result<(), StoreError>>),
    /// Open it again.
    Open,
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    found: Vec<(Table, String, Vec<u8>)>,
    // Both are `Some` until drop.
    jobs: Option<Arc<mpsc::Sender<Request>>>,
    thread: Option<Thread>,
    metrics: Arc<StoreMetrics>,
}

/// Path of the database of a data directory.
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
    /// Opens or creates the database, migrates it to the current schema and reads its content.
    pub fn open(path: &Path, supervisor: &Supervisor) -> Result<Self, StoreError> {
        let path = path.to_owned();
        let refusals = if path.try_exists()? {
            RefusalFile::beside(&path, Survives::PowerLoss)?
        } else {
            // The sync of the database's name also syncs this file's, and there is no refused
            // commit yet.
            let refusals = RefusalFile::beside(&path, Survives::Kill)?;
            fresh::make(&path)?;
            refusals
        };
        let disk = Disk::open(move || Ok(builder().create(&path)?), refusals)?;
        Self::of(disk, supervisor)
    }

    fn of(disk: Disk, supervisor: &Supervisor) -> Result<Self, StoreError> {
        let found = disk.read_all()?;
        let metrics = Arc::new(StoreMetrics::default());
        let (jobs, queue) = mpsc::channel();
        let (jobs, own) = (Arc::new(jobs), Arc::clone(&metrics));
        // The thread ends when the last sender is dropped.
        let weak_jobs = Arc::downgrade(&jobs);
        let thread = supervisor.thread(
            "store",
            move || {
                // If it is gone the server is stopping.
                if let Some(jobs) = weak_jobs.upgrade() {
                    let _ended = jobs.send(Request::Turn);
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

    /// The records of a table when the database was opened; once.
    pub fn take(&mut self, table: Table) -> Vec<(String, Vec<u8>)> {
        let of_table = self.found.extract_if(.., |(other, _, _)| *other == table);
        of_table.map(|(_, id, value)| (id, value)).collect()
    }

    /// Writes; on disk when it returns. A refused write has no effect.
    ///
    /// # Cancel safety
    ///
    /// The write happens or not, independent of the waiting caller.
    pub async fn write(&self, write: Write) -> Result<(), StoreError> {
        self.write_all(vec![write]).await
    }

    /// Like [`Store::write`], of several records: all are written or none, also if the machine stops.
    pub async fn write_all(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let (done, answered) = oneshot::channel();
        self.send(Request::Write(Job { writes, done }))?;
        answered.await.map_err(|_| StoreError::Refused)?
    }

    /// Whether a table had records when the database was opened.
    pub fn has(&self, table: Table) -> bool {
        self.found.iter().any(|(other, _, _)| *other == table)
    }

    /// Removes all records of a table that it had when the database was opened; waits for the disk.
    pub fn clear(&mut self, table: Table) -> Result<(), StoreError> {
        let remove = |(id, _)| Write {
            table,
            id,
            value: None,
        };
        let writes = self.take(table).into_iter().map(remove).collect();
        let (done, answered) = oneshot::channel();
        self.send(Request::Write(Job { writes, done }))?;
        answered.blocking_recv().map_err(|_| StoreError::Refused)?
    }

    /// Closes the database once the requested writes are done, so that another process can open it.
    /// What is on disk then is what the callers of all writes were told. Later writes are refused
    /// until [`Store::reopen`]. The writer's thread lives on: it needs no start to open it again.
    ///
    /// # Errors
    ///
    /// If the disk does not let a refused write be rolled back; the database is not closed then.
    ///
    /// # Cancel safety
    ///
    /// It is closed all the same; [`Store::reopen`] undoes that.
    pub async fn close(&self) -> Result<(), StoreError> {
        let (done, answered) = oneshot::channel();
        self.send(Request::Close(done))?;
        answered.await.map_err(|_| StoreError::Refused)?
    }

    /// Opens the database again. If that fails, each write tries again and is refused meanwhile.
    pub fn reopen(&self) {
        // The writer ends with the process only.
        let _ended = self.send(Request::Open);
    }

    fn send(&self, request: Request) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or(StoreError::Refused)?;
        jobs.send(request).map_err(|_| StoreError::Refused)
    }

    /// Metrics of the writer.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }
}

impl Drop for Store {
    /// Waits until the requested writes are done and the database is closed.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

fn write_all(
    mut disk: Disk,
    queue: &mpsc::Receiver<Request>,
    metrics: &StoreMetrics,
    pulse: &Pulse,
) -> Stopped {
    let mut closed = false;
    while let Ok(first) = queue.recv() {
        pulse.beat();
        let mut jobs = Vec::new();
        let mut turned = None;
        for request in std::iter::once(first).chain(queue.try_iter().take(COMMIT_WRITES_MAX - 1)) {
            match request {
                Request::Write(job) => jobs.push(job),
                Request::Turn => {}
                // What was requested before it is written before it.
                Request::Close(_) | Request::Open => {
                    turned = Some(request);
                    break;
                }
            }
        }
        write_together(jobs, (!closed).then_some(&mut disk), metrics);
        match turned {
            Some(Request::Close(done)) => {
                let outcome = disk.close();
                closed = outcome.is_ok();
                // A caller that has gone opens it again.
                let _gone = done.send(outcome);
            }
            Some(Request::Open) => {
                closed = false;
                disk.open_again();
            }
            Some(Request::Write(_) | Request::Turn) | None => {}
        }
    }
    Stopped
}

/// Commits the writes and answers their callers. Without a disk all are refused.
fn write_together(jobs: Vec<Job>, disk: Option<&mut Disk>, metrics: &StoreMetrics) {
    if jobs.is_empty() {
        return;
    }
    let (writes, waiting): (Vec<Vec<Write>>, Vec<_>) = jobs
        .into_iter()
        .map(|Job { writes, done }| (writes, done))
        .unzip();
    let writes = writes.concat();
    let committed = disk.is_some_and(|disk| disk.commit(&writes));
    let count = u64::try_from(writes.len()).unwrap_or(u64::MAX);
    if committed {
        metrics.commits.fetch_add(1, Ordering::Relaxed);
        metrics.writes.fetch_add(count, Ordering::Relaxed);
    } else {
        metrics.refused.fetch_add(count, Ordering::Relaxed);
    }
    for done in waiting {
        // The caller may be gone; the result stands.
        let _gone = done.send(if committed {
            Ok(())
        } else {
            Err(StoreError::Refused)
        });
    }
}
