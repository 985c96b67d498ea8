//! Durable storage in redb: every write is on disk before it is answered.
//!
//! One writer thread takes what waits and commits it together, so that many writes share one sync.

use std::path::Path;
use std::sync::mpsc;
use std::thread;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

const ROOMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rooms");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SCHEMA: u64 = 1;
/// Writes that share one commit.
const GROUP_MAX: usize = 256;

/// Why storage failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("database: {0}")]
    Database(Box<redb::Error>),
    /// Made by another version.
    #[error(
        "the database has schema {found}, this server knows {SCHEMA}: use the version that wrote it"
    )]
    Schema {
        /// In the file.
        found: u64,
    },
    /// A stored value cannot be read.
    #[error("room {id} cannot be read: {cause}")]
    Value {
        /// Which.
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

/// A write, and who waits for it.
struct Job {
    write: Write,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// One change.
#[derive(Debug)]
pub enum Write {
    /// Insert or replace.
    PutRoom {
        /// Room id.
        id: String,
        /// Encoded record.
        value: Vec<u8>,
    },
    /// Remove.
    DeleteRoom {
        /// Room id.
        id: String,
    },
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    rooms: Vec<(String, Vec<u8>)>,
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Opens or makes the database and reads what it holds.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path)?;
        let write = database.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            let found = meta.get("schema")?.map(|value| value.value());
            match found {
                None => drop(meta.insert("schema", SCHEMA)?),
                Some(SCHEMA) => {}
                Some(found) => return Err(StoreError::Schema { found }),
            }
            write.open_table(ROOMS)?;
        }
        write.commit()?;
        let read = database.begin_read()?;
        let mut rooms = Vec::new();
        for entry in read.open_table(ROOMS)?.iter()? {
            let (id, value) = entry?;
            rooms.push((id.value().to_owned(), value.value().to_vec()));
        }
        let (jobs, queue) = mpsc::channel();
        let spawned = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || write_all(&database, &queue));
        spawned.map_err(|error| StoreError::from(redb::StorageError::Io(error)))?;
        Ok(Self { rooms, jobs })
    }

    /// What the database held when it was opened; once.
    pub fn take_rooms(&mut self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.rooms)
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
        jobs.extend(queue.try_iter().take(GROUP_MAX - 1));
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
    let write = database.begin_write()?;
    {
        let mut rooms = write.open_table(ROOMS)?;
        for job in jobs {
            match &job.write {
                Write::PutRoom { id, value } => drop(rooms.insert(&**id, &**value)?),
                Write::DeleteRoom { id } => drop(rooms.remove(&**id)?),
            }
        }
    }
    write.commit()?;
    Ok(())
}
