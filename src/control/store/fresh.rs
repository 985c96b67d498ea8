//! The database of a first start: built in memory, then written to its path as a whole.
//!
//! redb writes a new file step by step and syncs each step, nine times until the current schema is
//! there. Nothing refers to that file yet, so one replacement is enough: at every instant there is
//! no database or a whole one, and it survives a power failure before anything is written to it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use redb::backends::InMemoryBackend;
use redb::{Builder, StorageBackend};

use super::error::StoreError;
use super::{disk, schema};
use crate::durable::{self, Access, Survives};

/// Creates an empty database with the current schema and an identity of its own.
///
/// # Errors
///
/// Those of the file system; then there is no database, or, if the last operation failed, a whole
/// one.
pub(super) fn make(path: &Path) -> Result<(), StoreError> {
    let draft = Draft(Arc::new(InMemoryBackend::new()));
    let bytes = Arc::clone(&draft.0);
    let database = Builder::new().create_with_backend(draft)?;
    schema::migrate(&database)?;
    disk::identity(&database)?;
    drop(database);
    let mut content = vec![0; usize::try_from(bytes.len()?).map_err(io::Error::other)?];
    bytes.read(0, &mut content)?;
    durable::replace(path, &content, Access::PUBLIC, Survives::PowerLoss)?;
    Ok(())
}

/// A backend that outlives the database that writes to it.
#[derive(Debug)]
struct Draft(Arc<InMemoryBackend>);

impl StorageBackend for Draft {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::store::{Store, Table};
    use crate::durable::faults::{Plan, Scratch, plans, under};
    use crate::supervisor::Supervisor;

    /// Goal: a first start needs one barrier, and a later start writes nothing. The content is
    /// synced before it has its name, and the directory before any caller gets an answer.
    #[test]
    fn a_first_start_syncs_once_and_later_ones_make_nothing() {
        let scratch = Scratch::new();
        let path = scratch.0.join("rooms.redb");
        let open = || Store::open(&path, &Supervisor::new(|| {})).map(drop);
        let (first, operations) = under(Plan::default(), open);
        first.expect("opens");
        let syncs = |name: &&String| name.starts_with("sync");
        let synced: Vec<&String> = operations.iter().filter(syncs).collect();
        assert_eq!(synced, ["sync", "sync directory"], "{operations:?}");
        assert!(operations.ends_with(&["sync", "rename", "sync directory"].map(str::to_owned)));
        let (second, operations) = under(Plan::default(), open);
        second.expect("opens");
        assert!(operations.is_empty(), "{operations:?}");
    }

    /// Goal: with any failure at a first start, alone or in pairs, and a kill anywhere: the next
    /// start has a whole and empty database, the file of refused commits, and nothing else.
    #[test]
    fn a_first_start_that_fails_leaves_nothing_or_a_whole_database() {
        let scratch = Scratch::new();
        let open = |path: &Path| Store::open(path, &Supervisor::new(|| {}));
        let first = || open(&scratch.0.join("rooms.redb")).map(drop);
        let (_, operations) = under(Plan::default(), first);
        let mut failed = 0;
        for plan in plans(operations.len()) {
            let scratch = Scratch::new();
            let path = scratch.0.join("rooms.redb");
            let (outcome, _) = under(plan.clone(), || open(&path).map(drop));
            failed += usize::from(outcome.is_err());
            let mut store = open(&path).expect("the disk is good again");
            assert!(store.take(Table::Rooms).is_empty(), "{plan:?}");
            drop(store);
            assert_eq!(scratch.names(), ["rooms.redb", "rooms.refused"], "{plan:?}");
        }
        assert!(failed > operations.len(), "only {failed}");
    }
}
