//! The database behind the writer: commits, and what happens when the disk refuses one.
//!
//! redb is unusable after a failed write, so it is opened anew. Whether the failed commit reached the
//! disk is then read off a counter that every commit writes; if it did, it is taken back, because its
//! callers were told that it failed.

use std::time::{Duration, Instant};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{StoreError, Table, Write, schema};

const META: TableDefinition<'_, &str, u64> = schema::META;
/// How many commits there were.
const COUNTER: &str = "commits";
/// Between two log lines about a disk that keeps refusing.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);

type Opener = Box<dyn FnMut() -> Result<Database, StoreError> + Send>;

/// A database that is opened again after it failed.
pub(super) struct Disk {
    opener: Opener,
    database: Option<Database>,
    pub(super) commits: u64,
    // How to take the failed commit back, should it turn out to be on disk.
    undo: Vec<Write>,
    // Since when the disk refuses, and when that was last said.
    refusing: Option<(Instant, Instant)>,
}

impl Disk {
    pub(super) fn open(
        mut opener: impl FnMut() -> Result<Database, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let database = opener()?;
        schema::migrate(&database)?;
        Ok(Self {
            commits: counter(&database)?,
            opener: Box::new(opener),
            database: Some(database),
            undo: Vec::new(),
            refusing: None,
        })
    }

    /// Every record of every table.
    pub(super) fn read_all(&self) -> Result<Vec<(Table, String, Vec<u8>)>, StoreError> {
        let Some(database) = &self.database else {
            return Err(StoreError::Refused);
        };
        let read = database.begin_read()?;
        let mut found = Vec::new();
        for table in Table::ALL {
            for entry in read.open_table(table.definition())?.iter()? {
                let (id, value) = entry?;
                found.push((table, id.value().to_owned(), value.value().to_vec()));
            }
        }
        Ok(found)
    }

    /// All of the writes, or none; `false`: none, and the log says why.
    pub(super) fn commit(&mut self, writes: &[Write]) -> bool {
        match self.try_commit(writes) {
            Ok(()) => {
                if let Some((since, _)) = self.refusing.take() {
                    let secs = since.elapsed().as_secs();
                    tracing::info!(secs, "the disk takes writes again");
                }
                true
            }
            Err(error) => {
                self.complain(&error, writes.len());
                false
            }
        }
    }

    fn try_commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.reopen()?,
        };
        match write(&database, writes, self.commits + 1) {
            (Ok(()), _) => {
                self.commits += 1;
                self.database = Some(database);
                Ok(())
            }
            (Err(error), undo) => {
                self.undo = undo;
                Err(error)
            }
        }
    }

    /// The database as its callers know it.
    fn reopen(&mut self) -> Result<Database, StoreError> {
        let database = (self.opener)()?;
        let found = counter(&database)?;
        if found > self.commits {
            let undo = std::mem::take(&mut self.undo);
            write(&database, &undo, found + 1).0?;
            self.commits = found + 1;
            tracing::warn!(
                writes = undo.len(),
                "a refused commit was on disk; taken back"
            );
        }
        Ok(database)
    }

    fn complain(&mut self, error: &StoreError, writes: usize) {
        let now = Instant::now();
        let (since, said) = self.refusing.unwrap_or((now, now));
        if self.refusing.is_some() && now - said < COMPLAINT_INTERVAL {
            return;
        }
        self.refusing = Some((since, now));
        tracing::error!(
            %error,
            writes,
            "the disk refuses writes; callers get InternalServerException. Free space on the data directory's disk"
        );
    }
}

fn counter(database: &Database) -> Result<u64, StoreError> {
    let read = database.begin_read()?;
    let commits = read.open_table(META)?.get(COUNTER)?;
    Ok(commits.map_or(0, |commits| commits.value()))
}

/// Commits, and says how to take it back.
fn write(
    database: &Database,
    writes: &[Write],
    number: u64,
) -> (Result<(), StoreError>, Vec<Write>) {
    let mut undo = Vec::with_capacity(writes.len());
    let outcome = write_into(database, writes, number, &mut undo);
    undo.reverse();
    (outcome, undo)
}

fn write_into(
    database: &Database,
    writes: &[Write],
    number: u64,
    undo: &mut Vec<Write>,
) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    for write in writes {
        let mut table = transaction.open_table(write.table.definition())?;
        let before = match &write.value {
            Some(value) => table.insert(&*write.id, &**value)?,
            None => table.remove(&*write.id)?,
        };
        undo.push(Write {
            table: write.table,
            id: write.id.clone(),
            value: before.map(|before| before.value().to_vec()),
        });
    }
    transaction.open_table(META)?.insert(COUNTER, number)?;
    transaction.commit()?;
    Ok(())
}
