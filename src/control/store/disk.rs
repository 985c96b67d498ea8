//! The database behind the writer: commits, and what happens when the disk refuses one.
//!
//! redb is unusable after a failed write, so it is opened anew. The failed commit may be on disk all the same:
//! then it is taken back, because its callers are told that it failed. Three things make that certain:
//!
//! - Every commit has a number of its own, which no other ever has, and it carries what takes it back (the
//!   table [`UNDO`]). So whoever opens the database, now or after a restart, can tell and do it.
//! - Taking back is a commit with nothing to take back: if it fails, it is simply done again, as often as it
//!   takes, and nothing is written before it has succeeded.
//! - The number of a refused commit is noted beside the database before the refusal is told ([`mark`]), so that
//!   a restart knows of it.
//!
//! [`mark`]: super::mark

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redb::{Database, ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};

use super::mark::{Mark, Marks};
use super::schema::{META, UNDO};
use super::{StoreError, Table, Write, schema};

/// The number of the last commit.
const COUNTER: &str = "commits";
/// Tells this database from every other: a mark is of one.
const IDENTITY: &str = "identity";
/// The only row of [`UNDO`]: of the last commit.
const LAST: &str = "last";
/// Between two log lines about a disk that keeps refusing.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);
/// Attempts to note a refusal, or to make sure that there is nothing to note, before it is told all the same.
const SETTLE_ATTEMPTS: u32 = 4;
/// Between two of them.
const SETTLE_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 100 });

type Opener = Box<dyn FnMut() -> Result<Database, StoreError> + Send>;

/// A database that is opened again after it failed.
pub(super) struct Disk {
    opener: Opener,
    marks: Box<dyn Marks>,
    // `None`: it failed, and what is on disk is not known.
    database: Option<Database>,
    identity: u64,
    // Number of the last commit that counts.
    pub(super) commits: u64,
    // The highest number a commit ever had, refused ones included.
    tried: u64,
    // There may be a refused commit on disk of which a restart would not know.
    unnoted: bool,
    // Since when the disk refuses, and when that was last said.
    refusing: Option<(Instant, Instant)>,
}

/// What takes one write back.
#[derive(Serialize, Deserialize)]
struct Undo {
    table: String,
    id: String,
    // Base64; `None`: there was no such record.
    before: Option<String>,
}

impl Disk {
    pub(super) fn open(
        mut opener: impl FnMut() -> Result<Database, StoreError> + Send + 'static,
        mut marks: impl Marks + 'static,
    ) -> Result<Self, StoreError> {
        let database = opener()?;
        schema::migrate(&database)?;
        let identity = identity(&database)?;
        let found = counter(&database)?;
        let refused = marks.read().filter(|mark| mark.database == identity);
        let refused = refused.map_or(0, |mark| mark.refused);
        let mut disk = Self {
            opener: Box::new(opener),
            marks: Box::new(marks),
            database: None,
            identity,
            commits: found,
            tried: found.max(refused),
            unnoted: false,
            refusing: None,
        };
        if refused == found && refused > 0 {
            disk.take_back(&database)?;
        }
        disk.database = Some(database);
        Ok(disk)
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

    /// All of the writes, or none; `false`: none, also after a restart, and the log says why.
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
                self.settle();
                false
            }
        }
    }

    fn try_commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.reopen()?;
        let Some(database) = self.database.take() else {
            return Err(StoreError::Refused);
        };
        self.tried += 1;
        // Until it is known to be there it is not.
        self.unnoted = true;
        write(&database, writes, self.tried)?;
        self.unnoted = false;
        self.commits = self.tried;
        self.database = Some(database);
        Ok(())
    }

    /// The database as its callers know it, open.
    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.database.is_none() {
            let database = (self.opener)()?;
            if counter(&database)? > self.commits {
                self.take_back(&database)?;
            }
            self.unnoted = false;
            self.database = Some(database);
        }
        Ok(())
    }

    /// Undoes the last commit. May be done again after it failed, whether or not it took effect.
    fn take_back(&mut self, database: &Database) -> Result<(), StoreError> {
        self.tried += 1;
        let transaction = database.begin_write()?;
        let undo: Vec<Undo> = {
            let mut last = transaction.open_table(UNDO)?;
            let undo = last.remove(LAST)?;
            let undo = undo.map(|undo| serde_json::from_slice(undo.value()));
            undo.transpose()
                .map_err(|error| unreadable(&error))?
                .unwrap_or_default()
        };
        let writes = undo.len();
        for Undo { table, id, before } in undo {
            let table = Table::ALL.into_iter().find(|known| known.name() == table);
            let table = table.ok_or_else(|| unreadable(&"no such table"))?;
            let mut table = transaction.open_table(table.definition())?;
            match before {
                Some(before) => {
                    let before = STANDARD
                        .decode(before)
                        .map_err(|error| unreadable(&error))?;
                    table.insert(&*id, &*before)?;
                }
                None => drop(table.remove(&*id)?),
            }
        }
        transaction.open_table(META)?.insert(COUNTER, self.tried)?;
        transaction.commit()?;
        self.commits = self.tried;
        tracing::warn!(writes, "a refused commit was on disk; taken back");
        Ok(())
    }

    /// Sees to it that a refused commit stays refused, if the process is killed now, too.
    fn settle(&mut self) {
        let mark = Mark {
            database: self.identity,
            refused: self.tried,
        };
        for attempt in 0..SETTLE_ATTEMPTS {
            if !self.unnoted {
                return;
            }
            if attempt > 0 {
                std::thread::sleep(SETTLE_PAUSE);
            }
            match self.marks.write(mark) {
                Ok(()) => self.unnoted = false,
                // Or there is nothing to be noted any more.
                Err(_) => drop(self.reopen()),
            }
        }
        if self.unnoted {
            tracing::error!(
                "a refused write could not be noted beside the database: should the server be killed before \
                 the disk works again, look whether the write has happened"
            );
        }
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

fn unreadable(cause: &dyn std::fmt::Display) -> StoreError {
    StoreError::Value {
        table: "undo",
        id: LAST.to_owned(),
        cause: cause.to_string(),
    }
}

fn counter(database: &Database) -> Result<u64, StoreError> {
    let read = database.begin_read()?;
    let commits = read.open_table(META)?.get(COUNTER)?;
    Ok(commits.map_or(0, |commits| commits.value()))
}

/// The database's identity, made if it has none.
pub(super) fn identity(database: &Database) -> Result<u64, StoreError> {
    let transaction = database.begin_write()?;
    let identity = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get(IDENTITY)?.map(|identity| identity.value());
        if let Some(found) = found {
            return Ok(found);
        }
        let made = getrandom::u64().map_err(std::io::Error::from)?;
        meta.insert(IDENTITY, made)?;
        made
    };
    transaction.commit()?;
    Ok(identity)
}

/// Commits, with what takes it back.
fn write(database: &Database, writes: &[Write], number: u64) -> Result<(), StoreError> {
    let transaction = database.begin_write()?;
    let mut undo = Vec::with_capacity(writes.len());
    for write in writes {
        let mut table = transaction.open_table(write.table.definition())?;
        let before = match &write.value {
            Some(value) => table.insert(&*write.id, &**value)?,
            None => table.remove(&*write.id)?,
        };
        undo.push(Undo {
            table: write.table.name().to_owned(),
            id: write.id.clone(),
            before: before.map(|before| STANDARD.encode(before.value())),
        });
    }
    // The last first.
    undo.reverse();
    let undo = serde_json::to_vec(&undo).expect("strings");
    transaction.open_table(UNDO)?.insert(LAST, &*undo)?;
    transaction.open_table(META)?.insert(COUNTER, number)?;
    transaction.commit()?;
    Ok(())
}
