//! Copies of the database as text: a header line, one line for each record, a closing line.
//!
//! ```text
//! {"uproar":"store","schema":2}
//! {"table":"rooms","id":"TC6fLHr7ycLt","value":{"id":"TC6fLHr7ycLt",…}}
//! {"rows":1,"sha256":"…"}
//! ```
//!
//! The hash covers everything before the closing line. A server may run meanwhile: the copy is
//! the state after one of its commits.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use redb::{DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{StoreError, Table, builder, schema};
use crate::durable::{self, Access, Survives};
use uproar_proto::base::hex::hex;
use uproar_proto::base::limits::BACKUP_LINE_BYTES_MAX;

const WHAT: &str = "store";
const NO_COPY: &str = "this is no copy of a database, as `uproar store backup` makes them";

/// Why a copy could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file operation failed.
    #[error("{path}: {cause}")]
    File {
        /// The path.
        path: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The database failed.
    #[error("{path}: {cause}")]
    Store {
        /// The path.
        path: PathBuf,
        /// The cause.
        cause: StoreError,
    },
    /// The copy is incomplete or invalid.
    #[error("{path}, line {line}: {cause}. Nothing was restored")]
    Copy {
        /// The path.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The cause.
        cause: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    uproar: String,
    schema: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    table: String,
    id: String,
    value: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Footer {
    rows: usize,
    sha256: String,
}

/// A state of the database.
struct Content {
    schema: u64,
    rows: Vec<Row>,
}

/// Writes a copy of `database` to `target`, all of it or nothing; returns the number of records.
pub fn backup(database: &Path, target: &Path) -> Result<usize, BackupError> {
    let content = read_database(database).map_err(|cause| BackupError::Store {
        path: database.to_owned(),
        cause,
    })?;
    durable::replace_with(target, Access::PRIVATE, Survives::PowerLoss, |file| {
        write_copy(&mut BufWriter::new(file), &content)
    })
    .map_err(|cause| in_file(target, cause))?;
    Ok(content.rows.len())
}

/// Replaces `database` by the content of `source`, atomically. The previous database is kept beside
/// it; returns its path. No server may run on it: the caller holds the data directory's lock.
pub fn restore(source: &Path, database: &Path) -> Result<Option<PathBuf>, BackupError> {
    let file = File::open(source).map_err(|cause| in_file(source, cause))?;
    let content = read_copy(BufReader::new(file)).map_err(|(line, cause)| BackupError::Copy {
        path: source.to_owned(),
        line,
        cause,
    })?;
    let made = database.with_added_extension("restored");
    let _absent = fs::remove_file(&made);
    write_database(&made, &content).map_err(|cause| BackupError::Store {
        path: made.clone(),
        cause,
    })?;
    let swap = || {
        let kept = keep(database)?;
        durable::publish(&made, database)?;
        Ok(kept)
    };
    swap().map_err(|cause| in_file(database, cause))
}

/// These records of a database, which a server may have open: those that are there. Nothing is written, so that one whose server was
/// killed cannot be read.
///
/// # Errors
///
/// The database cannot be read as it is.
pub fn read_some(database: &Path, wanted: &[(Table, String)]) -> Result<Vec<Vec<u8>>, StoreError> {
    let read = builder().open_read_only(database)?.begin_read()?;
    let mut found = Vec::new();
    for (table, id) in wanted {
        let value = read.open_table(table.definition())?.get(&**id)?;
        found.extend(value.map(|value| value.value().to_vec()));
    }
    Ok(found)
}

/// The record of a database, which a server may have open.
pub fn read_one(database: &Path, table: Table, id: &str) -> Result<Option<Value>, BackupError> {
    let content = read_database(database).map_err(|cause| BackupError::Store {
        path: database.to_owned(),
        cause,
    })?;
    let mut rows = content.rows.into_iter();
    let found = rows.find(|row| row.table == table.name() && row.id == id);
    Ok(found.map(|row| row.value))
}

/// Gives an existing database an unused second name. It keeps its own name until the new one
/// replaces it: at no instant is there none.
fn keep(database: &Path) -> io::Result<Option<PathBuf>> {
    for number in 0..1000 {
        let kept = database.with_added_extension(format!("before-{number}"));
        match durable::keep(database, &kept) {
            Ok(()) => return Ok(Some(kept)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(
        "a thousand databases of before are kept: remove some",
    ))
}

pub(super) fn in_file(path: &Path, cause: io::Error) -> BackupError {
    BackupError::File {
        path: path.to_owned(),
        cause,
    }
}

fn read_database(path: &Path) -> Result<Content, StoreError> {
    match builder().open_read_only(path) {
        Ok(database) => read_state(&database),
        // A killed server leaves a database that the next opening repairs.
        Err(DatabaseError::RepairAborted) => read_state(&builder().open(path)?),
        Err(error) => Err(error.into()),
    }
}

fn read_state(database: &impl ReadableDatabase) -> Result<Content, StoreError> {
    let read = database.begin_read()?;
    let mut content = Content {
        schema: schema::version(&read.open_table(schema::META)?)?,
        rows: Vec::new(),
    };
    for handle in read.list_tables()? {
        if [schema::META.name(), schema::UNDO.name()].contains(&handle.name()) {
            continue;
        }
        let table = TableDefinition::<&str, &[u8]>::new(handle.name());
        for entry in read.open_table(table)?.iter()? {
            let (id, value) = entry?;
            let value = serde_json::from_slice(value.value());
            content.rows.push(Row {
                table: handle.name().to_owned(),
                id: id.value().to_owned(),
                value: value.map_err(|error| StoreError::Value {
                    table: "record",
                    id: id.value().to_owned(),
                    cause: error.to_string(),
                })?,
            });
        }
    }
    Ok(content)
}

fn write_database(path: &Path, content: &Content) -> Result<(), StoreError> {
    let database = builder().create(path)?;
    let write = database.begin_write()?;
    schema::set_version(&write, content.schema)?;
    for Row { table, id, value } in &content.rows {
        let table = TableDefinition::<&str, &[u8]>::new(table);
        let value = value.to_string();
        write
            .open_table(table)?
            .insert(id.as_str(), value.as_bytes())?;
    }
    write.commit()?;
    // Migrate now, so that an unusable copy is found now.
    schema::migrate(&database)
}

fn write_copy(out: &mut impl Write, content: &Content) -> io::Result<()> {
    let mut hash = Sha256::new();
    let mut line = |value: serde_json::Result<String>| {
        let line = value.map_err(io::Error::from)? + "\n";
        hash.update(&line);
        out.write_all(line.as_bytes())
    };
    line(serde_json::to_string(&Header {
        uproar: WHAT.to_owned(),
        schema: content.schema,
    }))?;
    for row in &content.rows {
        line(serde_json::to_string(row))?;
    }
    let footer = Footer {
        rows: content.rows.len(),
        sha256: hex(&hash.finalize()),
    };
    writeln!(out, "{}", serde_json::to_string(&footer)?)?;
    out.flush()
}

/// The error is a line's number and its fault.
fn read_copy(mut input: impl BufRead) -> Result<Content, (usize, String)> {
    let (mut hash, mut number) = (Sha256::new(), 0);
    let mut content: Option<Content> = None;
    loop {
        number += 1;
        let at = |cause: String| (number, cause);
        let mut line = String::new();
        let mut bounded = input.by_ref().take(BACKUP_LINE_BYTES_MAX);
        let read = bounded.read_line(&mut line);
        let is_header = content.is_none();
        if is_header && (read.is_err() || serde_json::from_str::<Header>(&line).is_err()) {
            return Err(at(NO_COPY.to_owned()));
        }
        read.map_err(|error| at(error.to_string()))?;
        if !line.ends_with('\n') {
            return Err(at("the copy ends here, or the line is too long".to_owned()));
        }
        let Some(content) = &mut content else {
            let header: Header =
                serde_json::from_str(&line).map_err(|error| at(error.to_string()))?;
            if header.uproar != WHAT || header.schema > schema::CURRENT {
                return Err(at(format!(
                    "a {} of schema {}",
                    header.uproar, header.schema
                )));
            }
            hash.update(&line);
            content = Some(Content {
                schema: header.schema,
                rows: Vec::new(),
            });
            continue;
        };
        if let Ok(footer) = serde_json::from_str::<Footer>(&line) {
            let found = hex(&hash.finalize_reset());
            if footer.rows != content.rows.len() || footer.sha256 != found {
                return Err(at("the records are not those that were copied".to_owned()));
            }
            break;
        }
        hash.update(&line);
        let row = serde_json::from_str(&line).map_err(|error| at(error.to_string()))?;
        content.rows.push(row);
    }
    content.ok_or((number, "empty".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::faults::{Plan, Scratch, plans, under};

    /// Goal: a number of many digits is restored exactly.
    #[test]
    fn long_numbers_are_read_as_they_were_written() {
        let content = |value: &str| Content {
            schema: schema::CURRENT,
            rows: vec![Row {
                table: "rooms".to_owned(),
                id: "a".to_owned(),
                value: serde_json::from_str(value).expect("JSON"),
            }],
        };
        for number in [
            "5.555555555555555e+63",
            "1e-300",
            "18446744073709551615",
            "0.1",
        ] {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            write_copy(&mut first, &content(number)).expect("memory");
            let read = read_copy(&first[..]).expect("our own copy");
            write_copy(&mut second, &read).expect("memory");
            assert_eq!(first, second, "{number}");
        }
    }

    fn made(path: &Path, id: &str) {
        let _absent = fs::remove_file(path);
        let content = Content {
            schema: schema::CURRENT,
            rows: vec![Row {
                table: "rooms".to_owned(),
                id: id.to_owned(),
                value: Value::Null,
            }],
        };
        write_database(path, &content).expect("writes");
    }

    fn id(path: &Path) -> String {
        read_database(path)
            .expect("a whole database")
            .rows
            .remove(0)
            .id
    }

    /// Goal: with any failure, and a kill anywhere: a copy is whole or absent, and the previous one
    /// whole.
    #[test]
    fn a_copy_is_whole_or_the_one_before_it() {
        let scratch = Scratch::new();
        let [database, copy, other] =
            ["rooms.redb", "copy", "other"].map(|name| scratch.0.join(name));
        made(&database, "new");
        made(&other, "old");
        let (_, operations) = under(Plan::default(), || backup(&database, &copy));
        for plan in plans(operations.len()) {
            backup(&other, &copy).expect("copies");
            let (outcome, _) = under(plan.clone(), || backup(&database, &copy));
            let read = |path: &Path| read_copy(BufReader::new(File::open(path).expect("opens")));
            let found = read(&copy).expect("a whole copy").rows.remove(0).id;
            assert!(found == "new" || outcome.is_err(), "{plan:?}: {found}");
        }
    }

    /// Goal: with any failure, and a kill anywhere: there is a whole database at every instant, the
    /// previous or the restored one, and the previous one is kept.
    #[test]
    fn a_restore_leaves_a_whole_database() {
        let scratch = Scratch::new();
        let [database, copy] = ["rooms.redb", "copy"].map(|name| scratch.0.join(name));
        made(&database, "restored");
        backup(&database, &copy).expect("copies");
        let (_, operations) = under(Plan::default(), || restore(&copy, &database));
        assert!(operations.len() > 3, "{operations:?}");
        for plan in plans(operations.len()) {
            made(&database, "before");
            let (outcome, _) = under(plan.clone(), || restore(&copy, &database));
            let found = id(&database);
            match outcome {
                Ok(kept) => {
                    assert_eq!(found, "restored", "{plan:?}");
                    assert_eq!(id(&kept.expect("there was one")), "before", "{plan:?}");
                }
                Err(_) => assert!(["before", "restored"].contains(&&*found), "{plan:?}"),
            }
            for name in scratch.names() {
                if name.contains("before-") {
                    fs::remove_file(scratch.0.join(name)).expect("removes");
                }
            }
        }
    }
}

/// An entry point for fuzz targets: copies as bytes, without files and databases.
#[cfg(fuzzing)]
pub mod fuzzing {
    use serde_json::Value;

    use super::{Content, Row, read_copy, schema, write_copy};

    /// The rows of a copy: table, id and value.
    pub fn read(copy: &[u8]) -> Result<Vec<(String, String, Value)>, (usize, String)> {
        let rows = read_copy(copy)?.rows.into_iter();
        Ok(rows.map(|row| (row.table, row.id, row.value)).collect())
    }

    /// A copy with these rows.
    pub fn write(rows: &[(String, String, Value)]) -> Vec<u8> {
        let rows = rows.iter().cloned();
        let row = |(table, id, value)| Row { table, id, value };
        let content = Content {
            schema: schema::CURRENT,
            rows: rows.map(row).collect(),
        };
        let mut out = Vec::new();
        write_copy(&mut out, &content).expect("memory");
        out
    }
}
