//! Rooms and logging configurations of Amazon IVS Chat, or of anything that speaks its API, as records of this server: with the
//! same ids, so that ARNs stay.
//!
//! Each page is written as a whole before the next one is asked for, and a record that has not changed since is not asked
//! for again. So an import that was stopped anywhere goes on where it was, and a second one brings the changes.

mod convert;
mod error;
mod source;

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::arn::Account;
use super::record::{LoggingRecord, Record, RoomRecord};
use super::registry::Cached;
use super::store::{Store, StoreError, Write};
use convert::{Converted, logging_record, room_record};
pub use error::ImportError;
pub use source::{Source, SourceSettings};

/// What was found and done.
#[derive(Debug, Default)]
pub struct Imported {
    /// Rooms that are new here.
    pub rooms_new: usize,
    /// Rooms that have changed.
    pub rooms_changed: usize,
    /// Rooms that were here as they are there.
    pub rooms_same: usize,
    /// Logging configurations that are new here or have changed.
    pub logging: usize,
    /// Logging configurations that were here as they are there.
    pub logging_same: usize,
    /// Handlers of message review, by which rooms have them.
    pub handlers: BTreeSet<String>,
    /// What is not carried as it is, and why.
    pub notes: Vec<String>,
}

/// Where an import writes.
#[derive(Debug)]
pub struct Target {
    // `None`: nothing is written.
    store: Option<Store>,
    account: Account,
    rooms: HashMap<String, RoomRecord>,
    logging: HashMap<String, LoggingRecord>,
}

impl Target {
    /// A database, which is read and not written if it is a `dry_run`; `None`: an empty one.
    ///
    /// # Errors
    ///
    /// A record cannot be read.
    pub fn new(
        mut store: Option<Store>,
        account: Account,
        dry_run: bool,
    ) -> Result<Self, StoreError> {
        let (rooms, logging) = (read(store.as_mut())?, read(store.as_mut())?);
        Ok(Self {
            store: store.filter(|_| !dry_run),
            account,
            rooms,
            logging,
        })
    }

    async fn write<R: Record>(&self, records: &[R]) -> Result<(), StoreError> {
        let Some(store) = self.store.as_ref().filter(|_| !records.is_empty()) else {
            return Ok(());
        };
        let write = |record: &R| Write {
            table: R::TABLE,
            id: record.id().to_string(),
            value: Some(serde_json::to_vec(record).expect("a record of strings and numbers")),
        };
        store.write_all(records.iter().map(write).collect()).await
    }
}

fn read<R: Cached>(store: Option<&mut Store>) -> Result<HashMap<String, R>, StoreError> {
    let rows = store.map_or_else(Vec::new, |store| store.take(R::TABLE));
    let record = |(id, value): (String, Vec<u8>)| {
        let record = serde_json::from_slice(&value).map_err(|error| StoreError::Value {
            table: R::TABLE.name(),
            id: id.clone(),
            cause: error.to_string(),
        })?;
        Ok((id, record))
    };
    rows.into_iter().map(record).collect()
}

/// Brings everything over; `progress` hears how many rooms were seen.
///
/// # Errors
///
/// The first one that repeating does not mend.
pub async fn import(
    source: &Source,
    target: &mut Target,
    mut progress: impl FnMut(usize),
) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    // First, because rooms name them.
    logging_configurations(source, target, &mut imported).await?;
    let mut token = None;
    let mut seen = 0;
    loop {
        let page = source.rooms(token.as_deref()).await?;
        let mut changed = Vec::new();
        for summary in list(&page, "rooms")? {
            seen += 1;
            changed.extend(room(source, target, summary, &mut imported).await?);
        }
        target.write(&changed).await?;
        for room in changed {
            target.rooms.insert(room.id().to_string(), room);
        }
        progress(seen);
        token = next(&page, token.as_deref())?;
        if token.is_none() {
            return Ok(imported);
        }
    }
}

async fn logging_configurations(
    source: &Source,
    target: &mut Target,
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let mut token = None;
    loop {
        let page = source.logging_configurations(token.as_deref()).await?;
        let mut changed = Vec::new();
        for summary in list(&page, "loggingConfigurations")? {
            let Converted { record, notes } = logging_record(summary, &target.account)?;
            imported.notes.extend(notes);
            let Some(record) = record else { continue };
            if target.logging.get(&record.id().to_string()) == Some(&record) {
                imported.logging_same += 1;
            } else {
                imported.logging += 1;
                changed.push(record);
            }
        }
        target.write(&changed).await?;
        for record in changed {
            target.logging.insert(record.id().to_string(), record);
        }
        token = next(&page, token.as_deref())?;
        if token.is_none() {
            return Ok(());
        }
    }
}

/// The record of a room of a page, if it differs from what is here.
async fn room(
    source: &Source,
    target: &Target,
    summary: &Value,
    imported: &mut Imported,
) -> Result<Option<RoomRecord>, ImportError> {
    let arn = summary["arn"].as_str().unwrap_or_default();
    let id = super::arn::resource_id(arn);
    let known = target.rooms.get(id);
    // Tags change without an update time, and stand in the summary.
    let whole = known.filter(|known| convert::is_unchanged(summary, known));
    if let Some(known) = whole {
        note_handler(known, imported);
        imported.rooms_same += 1;
        return Ok(None);
    }
    let Some(full) = source.room(arn).await? else {
        // Deleted since the page was read.
        return Ok(None);
    };
    let has_logging = |id: &str| target.logging.contains_key(id);
    let Converted { record, notes } = room_record(&full, &target.account, has_logging)?;
    imported.notes.extend(notes);
    let Some(record) = record else {
        return Ok(None);
    };
    note_handler(&record, imported);
    match known {
        Some(known) if *known == record => imported.rooms_same += 1,
        Some(_) => imported.rooms_changed += 1,
        None => imported.rooms_new += 1,
    }
    Ok((known != Some(&record)).then_some(record))
}

fn note_handler(room: &RoomRecord, imported: &mut Imported) {
    if let Some(handler) = room.reviewer() {
        imported.handlers.insert(handler.uri.clone());
    }
}

fn list<'a>(page: &'a Value, name: &str) -> Result<&'a [Value], ImportError> {
    let list = page[name].as_array().map(Vec::as_slice);
    list.ok_or_else(|| ImportError::Foreign(format!("an answer has no list {name}")))
}

/// The token of the next page. A token that repeats would be asked for without an end.
fn next(page: &Value, before: Option<&str>) -> Result<Option<String>, ImportError> {
    let token = page["nextToken"].as_str().filter(|token| !token.is_empty());
    if token.is_some() && token == before {
        let text = "a page names itself as the next one: the other side's paging is broken";
        return Err(ImportError::Foreign(text.to_owned()));
    }
    Ok(token.map(str::to_owned))
}
