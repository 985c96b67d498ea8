//! A small file beside the database that names the last refused commit.
//!
//! Its space on disk is allocated before it is needed, so that it can be written on a full disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable::{self, Access, Survives};
use uproar_proto::base::number::wide;

const BYTES: usize = 24;

/// A commit of a database that must not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RefusedCommit {
    /// The database's identity.
    pub(super) database: u64,
    /// The commit's number.
    pub(super) refused: u64,
}

/// Storage of the last refused commit.
pub(super) trait RefusalRecord: Send {
    /// The last one written; `None` if none is readable.
    fn read(&mut self) -> Option<RefusedCommit>;
    /// Replaces it; durable on return.
    fn write(&mut self, refused_commit: RefusedCommit) -> io::Result<()>;
}

/// A file beside the database.
#[derive(Debug)]
pub(super) struct RefusalFile(PathBuf);

impl RefusalFile {
    /// Creates the file, with an empty entry, unless it exists with the right length.
    pub(super) fn beside(database: &Path, made: Survives) -> io::Result<Self> {
        let path = database.with_extension("refused");
        let exists = fs::metadata(&path).is_ok_and(|found| found.len() == wide(BYTES));
        if !exists {
            let nothing = RefusedCommit::default().to_bytes();
            durable::replace(&path, &nothing, Access::PRIVATE, made)?;
        }
        Ok(Self(path))
    }
}

impl RefusalRecord for RefusalFile {
    fn read(&mut self) -> Option<RefusedCommit> {
        RefusedCommit::parse(&fs::read(&self.0).ok()?)
    }

    fn write(&mut self, refused_commit: RefusedCommit) -> io::Result<()> {
        durable::overwrite(&self.0, &refused_commit.to_bytes(), Survives::PowerLoss)
    }
}

impl RefusedCommit {
    fn to_bytes(self) -> [u8; BYTES] {
        let words = [self.database, self.refused, self.check()].map(u64::to_le_bytes);
        *words.as_flattened().first_chunk().expect("three words")
    }

    /// `None` if it is torn.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let [database, refused, check] = *words else {
            return None;
        };
        let refused_commit = Self {
            database: u64::from_le_bytes(database),
            refused: u64::from_le_bytes(refused),
        };
        (refused_commit.check() == u64::from_le_bytes(check)).then_some(refused_commit)
    }

    fn check(self) -> u64 {
        let mixed = self.database ^ self.refused.rotate_left(32);
        mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from_le_bytes(*b"uproar.m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::faults::{Plan, Scratch, plans, under};

    /// Goal: an entry is read back, a torn one is none, and after any failure or interruption the
    /// result is the old one, the new one or none.
    #[test]
    fn an_entry_is_read_back_or_is_none() {
        let scratch = Scratch::new();
        let path = scratch.0.join("rooms.redb");
        let [old, new] = [5, 6].map(|refused| RefusedCommit {
            database: 77,
            refused,
        });
        let mut refusals = RefusalFile::beside(&path, Survives::PowerLoss).expect("makes");
        assert_eq!(refusals.read(), Some(RefusedCommit::default()));
        let (outcome, operations) = under(Plan::default(), || refusals.write(new));
        outcome.expect("writes");
        for plan in plans(operations.len()) {
            refusals.write(old).expect("writes");
            let (outcome, _) = under(plan.clone(), || refusals.write(new));
            let mut again = RefusalFile::beside(&path, Survives::PowerLoss).expect("is there");
            let read = again.read();
            assert!(
                read == Some(new) || outcome.is_err() && (read == Some(old) || read.is_none()),
                "{plan:?}: {read:?}"
            );
        }
        fs::write(path.with_extension("refused"), [1; BYTES]).expect("writes");
        assert_eq!(refusals.read(), None);
    }
}
