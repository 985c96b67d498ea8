//! Durable storage in redb: every write is on disk before it is answered.
//!
//! One writer thread takes what waits and commits it together, so that many writes share one sync.

mod schema;

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use crate::base::limits::COMMIT_WRITES_MAX;

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
    /// The writer is gone.
    #[error("the database writer ended")]
    Ended,
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
#[derive(Debug)]
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

/// The open database.
#[derive(Debug)]
pub struct Store {
    found: Vec<(Table, String, Vec<u8>)>,
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Opens or makes the database, brings it to the current schema and reads what it holds.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path)?;
        schema::migrate(&database)?;
        let read = database.begin_read()?;
        let mut found = Vec::new();
        for table in Table::ALL {
            for entry in read.open_table(table.definition())?.iter()? {
                let (id, value) = entry?;
                found.push((table, id.value().to_owned(), value.value().to_vec()));
            }
        }
        let (jobs, queue) = mpsc::channel();
        let spawned = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write_all(&database, &queue));
        spawned.map_err(|error| StoreError::from(redb::StorageError::Io(error)))?;
        Ok(Self { found, jobs })
    }

    /// What a table held when the database was opened; once.
    pub fn take(&mut self, table: Table) -> Vec<(String, Vec<u8>)> {
        let of_table = self.found.extract_if(.., |(other, _, _)| *other == table);
        of_table.map(|(_, id, value)| (id, value)).collect()
    }

    /// Writes; on disk when it answers.
    pub async fn write(&self, write: Write) -> Result<(), StoreError> {
        let (done, answered) = oneshot::channel();
        self.jobs
            .send(Job { write, done })
            .map_err(|_| StoreError::Ended)?;
        answered.await.map_err(|_| StoreError::Ended)?
    }
}

fn write_all(database: &Database, queue: &mpsc::Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let mut jobs = vec![first];
        jobs.extend(queue.try_iter().take(COMMIT_WRITES_MAX - 1));
        let outcome = commit(database, &jobs);
        if let Err(error) = &outcome {
            tracing::error!(%error, writes = jobs.len(), "a commit failed; nothing of it took effect");
        }
        for job in jobs {
            let answer = match &outcome {
                Ok(()) => Ok(()),
                Err(_) => Err(StoreError::Ended),
            };
            // Whoever asked may be gone; the write stands.
            let _gone = job.done.send(answer);
        }
    }
}

fn commit(database: &Database, jobs: &[Job]) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    for Job { write, .. } in jobs {
        let mut table = transaction.open_table(write.table.definition())?;
        match &write.value {
            Some(value) => drop(table.insert(&*write.id, &**value)?),
            None => drop(table.remove(&*write.id)?),
        }
    }
    transaction.commit()?;
    Ok(())
}
