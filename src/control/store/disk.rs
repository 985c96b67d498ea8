//! The database behind the writer: commits, and recovery when the disk refuses one.
//!
//! redb is unusable after a failed write, so it is reopened. The failed commit may still be on
//! disk: then it is rolled back, because its callers are told that it failed. Three rules ensure
//! this:
//!
//! - Every commit has a unique number, and it carries the data for its rollback (the table
//!   [`UNDO`]). So any later opening of the database, now or after a restart, can recognise it and
//!   roll it back.
//! - A rollback is a commit that needs no rollback itself: if it fails it is repeated until it
//!   succeeds, and nothing is written before that.
//! - The number of a refused commit is recorded beside the database before callers learn of the
//!   refusal ([`refused`]), so that a restart recognises it.
//!
//! [`refused`]: super::refused

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redb::{Database, ReadableDatabase, ReadableTable};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::random;
use uproar_proto::base::clock::Tick;

use super::error::StoreError;
use super::refused::{RefusalRecord, RefusedCommit};
use super::schema::{self, META, UNDO};
use super::table::{Table, Write};

/// Key of the last commit's number.
const COUNTER: &str = "commits";
/// Key of the identity that distinguishes this database from all others: a refused commit names it.
const IDENTITY: &str = "identity";
/// The only row of [`UNDO`], which belongs to the last commit.
const LAST: &str = "last";
/// Interval of log lines about a disk that keeps refusing.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Attempts to record a refusal, or to find that there is none to record, before callers get their
/// error anyway.
const RECORD_ATTEMPTS: u32 = 4;
/// Pause between two of them.
const RECORD_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 100 });

type Opener = Box<dyn FnMut() -> Result<Database, StoreError> + Send>;

/// A database that is reopened after a failure.
pub(super) struct Disk {
    // Opens the database again after a failure.
    opener: Opener,
    // The file that names the last refused commit.
    refusals: Box<dyn RefusalRecord>,
    // `None`: it failed, and the state on disk is unknown.
    pub(super) database: Option<Database>,
    // Distinguishes the database from all others.
    identity: u64,
    // Number of the last commit that counts.
    pub(super) commits: u64,
    // The highest number of any commit, refused ones included.
    last_number: u64,
    // A refused commit may be on disk that a restart would not recognise.
    unrecorded: bool,
    // When the disk began to refuse writes, and when that was last logged.
    failing_since: Option<(Tick, Tick)>,
    // Measures nothing but that.
    clock: Clock,
}

/// Data that rolls one write back.
#[derive(Serialize, Deserialize)]
struct Undo {
    table: String,
    id: String,
    // Base64; `None` if the record did not exist.
    before: Option<String>,
}

impl Disk {
    pub(super) fn open(
        mut opener: impl FnMut() -> Result<Database, StoreError> + Send + 'static,
        mut refusals: impl RefusalRecord + 'static,
    ) -> Result<Self, StoreError> {
        let database = opener()?;
        schema::migrate(&database)?;
        let identity = identity(&database)?;
        let found = counter(&database)?;
        let refused = refusals
            .read()
            .filter(|refused_commit| refused_commit.database == identity);
        let refused = refused.map_or(0, |refused_commit| refused_commit.refused);
        let mut disk = Self {
            opener: Box::new(opener),
            refusals: Box::new(refusals),
            database: None,
            identity,
            commits: found,
            last_number: found.max(refused),
            unrecorded: false,
            failing_since: None,
            clock: Clock::start(),
        };
        if refused == found && refused > 0 {
            disk.roll_back(&database)?;
        }
        disk.database = Some(database);
        Ok(disk)
    }

    /// Closes the database in the state that its callers know, for another process to open.
    /// [`Disk::open_again`] or the next commit opens it again.
    ///
    /// # Errors
    ///
    /// A refused commit may be on disk and cannot be rolled back now.
    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        self.reopen()?;
        self.database = None;
        Ok(())
    }

    /// Opens the database again after [`Disk::close`]; if that fails, the next commit tries it.
    pub(super) fn open_again(&mut self) {
        if let Err(error) = self.reopen() {
            self.log_refusal(&error, 0);
        }
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

    /// Commits all of the writes or none. `false` means none, also after a restart; the reason is
    /// logged.
    pub(super) fn commit(&mut self, writes: &[Write]) -> bool {
        match self.try_commit(writes) {
            Ok(()) => {
                if let Some((since, _)) = self.failing_since.take() {
                    let secs = self.clock.now().tick.since(since).as_secs();
                    tracing::info!(secs, "the disk takes writes again");
                }
                true
            }
            Err(error) => {
                self.log_refusal(&error, writes.len());
                self.record_refusal();
                false
            }
        }
    }

    fn try_commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        self.reopen()?;
        let Some(database) = self.database.take() else {
            return Err(StoreError::Refused);
        };
        self.last_number += 1;
        // Counts as refused until it is known to be on disk.
        self.unrecorded = true;
        write(&database, writes, self.last_number)?;
        self.unrecorded = false;
        self.commits = self.last_number;
        self.database = Some(database);
        Ok(())
    }

    /// Opens the database in the state that its callers know.
    fn reopen(&mut self) -> Result<(), StoreError> {
        if self.database.is_none() {
            let database = (self.opener)()?;
            if counter(&database)? > self.commits {
                self.roll_back(&database)?;
            }
            self.unrecorded = false;
            self.database = Some(database);
        }
        Ok(())
    }

    /// Undoes the last commit. May be repeated after a failure, whether or not it took effect.
    fn roll_back(&mut self, database: &Database) -> Result<(), StoreError> {
        self.last_number += 1;
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
        transaction
            .open_table(META)?
            .insert(COUNTER, self.last_number)?;
        transaction.commit()?;
        self.commits = self.last_number;
        tracing::warn!(writes, "a refused commit was on disk; rolled back");
        Ok(())
    }

    /// Makes a refused commit stay refused, even if the process is killed now.
    fn record_refusal(&mut self) {
        let refused_commit = RefusedCommit {
            database: self.identity,
            refused: self.last_number,
        };
        for attempt in 0..RECORD_ATTEMPTS {
            if !self.unrecorded {
                return;
            }
            if attempt > 0 {
                std::thread::sleep(RECORD_PAUSE);
            }
            match self.refusals.write(refused_commit) {
                Ok(()) => self.unrecorded = false,
                // If reopening succeeds there is nothing left to record.
                Err(_) => drop(self.reopen()),
            }
        }
        if self.unrecorded {
            tracing::error!(
                "a refused write could not be noted beside the database: should the server be killed before \
                 the disk works again, look whether the write has happened"
            );
        }
    }

    fn log_refusal(&mut self, error: &StoreError, writes: usize) {
        let now = self.clock.now().tick;
        let (since, logged) = self.failing_since.unwrap_or((now, now));
        if self.failing_since.is_some() && now.since(logged) < LOG_INTERVAL {
            return;
        }
        self.failing_since = Some((since, now));
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

/// The database's identity, created if it has none.
pub(super) fn identity(database: &Database) -> Result<u64, StoreError> {
    let transaction = database.begin_write()?;
    let identity = {
        let mut meta = transaction.open_table(META)?;
        let found = meta.get(IDENTITY)?.map(|identity| identity.value());
        if let Some(found) = found {
            return Ok(found);
        }
        let made = u64::from_ne_bytes(random::bytes()?);
        meta.insert(IDENTITY, made)?;
        made
    };
    transaction.commit()?;
    Ok(identity)
}

/// Commits, together with the data for a rollback.
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
    // In reverse order.
    undo.reverse();
    let undo = serde_json::to_vec(&undo).expect("strings");
    transaction.open_table(UNDO)?.insert(LAST, &*undo)?;
    transaction.open_table(META)?.insert(COUNTER, number)?;
    transaction.commit()?;
    Ok(())
}
