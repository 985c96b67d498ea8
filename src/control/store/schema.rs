//! The database's schema, and the migrations from every earlier one.

use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle, WriteTransaction,
};

use super::error::StoreError;
use super::table::Table;
use uproar_proto::base::number::wide;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Data for the rollback of the last commit, as JSON.
pub(super) const UNDO: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("undo");
const VERSION: &str = "schema";

/// A migration from one schema to the next.
type Step = fn(&WriteTransaction) -> Result<(), StoreError>;

/// The step at index n migrates schema n to n + 1. Schema 0 is an empty file; 1 had rooms only. New
/// tables need no step: missing ones are created.
const STEPS: [Step; 2] = [|_| Ok(()), |_| Ok(())];

/// The schema this server writes.
pub(crate) const CURRENT: u64 = wide(STEPS.len());

/// Runs all missing steps in one transaction. Writes nothing if the schema is current.
pub(super) fn migrate(database: &Database) -> Result<(), StoreError> {
    if is_current(database)? {
        return Ok(());
    }
    let write = database.begin_write()?;
    let found = version(&write.open_table(META)?)?;
    let taken = usize::try_from(found).unwrap_or(usize::MAX);
    let left = STEPS.get(taken..).ok_or(StoreError::Schema {
        found,
        known: CURRENT,
    })?;
    for step in left {
        step(&write)?;
    }
    for table in Table::ALL {
        // Opening creates it.
        write.open_table(table.definition())?;
    }
    set_version(&write, CURRENT)?;
    write.commit()?;
    if found > 0 && found < CURRENT {
        tracing::info!(from = found, to = CURRENT, "the database was migrated");
    }
    Ok(())
}

/// Whether the schema is current and every table exists.
fn is_current(database: &Database) -> Result<bool, StoreError> {
    let read = database.begin_read()?;
    let tables: Vec<_> = read.list_tables()?.collect();
    let has = |name| tables.iter().any(|table| table.name() == name);
    if !has(META.name()) || !Table::ALL.iter().all(|table| has(table.name())) {
        return Ok(false);
    }
    Ok(version(&read.open_table(META)?)? == CURRENT)
}

/// The schema of a database.
pub(super) fn version(meta: &impl ReadableTable<&'static str, u64>) -> Result<u64, StoreError> {
    let found = meta.get(VERSION)?;
    Ok(found.map_or(0, |version| version.value()))
}

/// Sets the schema of a database.
pub(super) fn set_version(write: &WriteTransaction, version: u64) -> Result<(), StoreError> {
    write.open_table(META)?.insert(VERSION, version)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::store::Store;
    use crate::durable::faults::Scratch;
    use crate::supervisor::Supervisor;

    /// A database as the first version left it, with one room.
    fn of_schema_1(path: &std::path::Path) {
        const ROOM: &str = r#"{"id":"TC6fLHr7ycLt","name":"old","created_ms":5,"updated_ms":6,
            "message_rate":10,"message_length":500,"handler":null,"tags":{"k":"v"},"logging":null}"#;
        let database = Database::create(path).expect("creates");
        let write = database.begin_write().expect("begins");
        {
            let mut meta = write.open_table(META).expect("opens");
            meta.insert("schema", 1).expect("writes");
            let rooms = TableDefinition::<&str, &[u8]>::new("rooms");
            let mut rooms = write.open_table(rooms).expect("opens");
            rooms
                .insert("TC6fLHr7ycLt", ROOM.as_bytes())
                .expect("writes");
        }
        write.commit().expect("commits");
    }

    /// Goal: the records of an older server are there after an upgrade, and the file has the
    /// current schema.
    #[test]
    fn a_database_of_schema_1_is_migrated_and_keeps_its_rooms() {
        let scratch = Scratch::new();
        let path = scratch.0.join("old");
        of_schema_1(&path);
        let database = Database::open(&path).expect("opens");
        migrate(&database).expect("migrates");
        let read = database.begin_read().expect("begins");
        let version = read
            .open_table(META)
            .expect("opens")
            .get(VERSION)
            .expect("reads");
        assert_eq!(version.map(|version| version.value()), Some(CURRENT));
        for table in Table::ALL {
            read.open_table(table.definition())
                .expect("every table exists");
        }
        drop((read, database));
        let mut store = Store::open(&path, &Supervisor::new(|| {})).expect("opens");
        let registry_sees = store.take(Table::Rooms);
        assert_eq!(registry_sees.len(), 1);
        let room: crate::control::record::RoomRecord =
            serde_json::from_slice(&registry_sees[0].1).expect("today's record");
        assert_eq!(room.header.name.as_deref(), Some("old"));
        assert_eq!(room.header.tags.get("k").map(String::as_str), Some("v"));
    }

    /// Goal: a file of a later server is not changed.
    #[test]
    fn a_later_schema_is_refused() {
        let scratch = Scratch::new();
        let path = scratch.0.join("new");
        let database = Database::create(&path).expect("creates");
        let write = database.begin_write().expect("begins");
        write
            .open_table(META)
            .expect("opens")
            .insert(VERSION, CURRENT + 1)
            .expect("writes");
        write.commit().expect("commits");
        let refused = migrate(&database).expect_err("unknown");
        assert!(matches!(refused, StoreError::Schema { found, .. } if found == CURRENT + 1));
        let read = database.begin_read().expect("begins");
        assert_eq!(
            read.open_table(META)
                .expect("opens")
                .iter()
                .expect("reads")
                .count(),
            1
        );
    }
}
