//! The note beside the database of the last commit that was refused.
//!
//! It has its place on disk before it is needed: a disk that is full still takes it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::durable::{self, Access, Survives};

const BYTES: usize = 24;

/// Which commit of which database does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Its identity.
    pub(super) database: u64,
    /// The commit's number.
    pub(super) refused: u64,
}

/// Where the mark is kept.
pub(super) trait Marks: Send {
    /// The last mark written; `None` if there is none that can be read.
    fn read(&mut self) -> Option<Mark>;
    /// Replaces the mark; durable when it returns.
    fn write(&mut self, mark: Mark) -> io::Result<()>;
}

/// In a file beside the database.
#[derive(Debug)]
pub(super) struct MarkFile(PathBuf);

impl MarkFile {
    /// Makes the file, without a mark, if there is none of its length.
    pub(super) fn beside(database: &Path, made: Survives) -> io::Result<Self> {
        let path = database.with_extension("refused");
        let there = fs::metadata(&path).is_ok_and(|found| found.len() == BYTES as u64);
        if !there {
            let nothing = Mark::default().to_bytes();
            durable::replace(&path, &nothing, Access::PRIVATE, made)?;
        }
        Ok(Self(path))
    }
}

impl Marks for MarkFile {
    fn read(&mut self) -> Option<Mark> {
        Mark::parse(&fs::read(&self.0).ok()?)
    }

    fn write(&mut self, mark: Mark) -> io::Result<()> {
        durable::overwrite(&self.0, &mark.to_bytes())
    }
}

impl Mark {
    fn to_bytes(self) -> [u8; BYTES] {
        let words = [self.database, self.refused, self.check()].map(u64::to_le_bytes);
        *words.as_flattened().first_chunk().expect("three words")
    }

    /// `None` if it was torn.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let [database, refused, check] = *words else {
            return None;
        };
        let mark = Self {
            database: u64::from_le_bytes(database),
            refused: u64::from_le_bytes(refused),
        };
        (mark.check() == u64::from_le_bytes(check)).then_some(mark)
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

    /// Goal: a mark is kept, a torn one is none, and whatever fails or is cut short, the one read back is the
    /// old one, the new one or none.
    #[test]
    fn a_mark_is_read_back_or_is_none() {
        let scratch = Scratch::new();
        let path = scratch.0.join("rooms.redb");
        let [old, new] = [5, 6].map(|refused| Mark {
            database: 77,
            refused,
        });
        let mut marks = MarkFile::beside(&path, Survives::PowerLoss).expect("makes");
        assert_eq!(marks.read(), Some(Mark::default()));
        let (outcome, operations) = under(Plan::default(), || marks.write(new));
        outcome.expect("writes");
        for plan in plans(operations.len()) {
            marks.write(old).expect("writes");
            let (outcome, _) = under(plan.clone(), || marks.write(new));
            let mut again = MarkFile::beside(&path, Survives::PowerLoss).expect("is there");
            let read = again.read();
            assert!(
                read == Some(new) || outcome.is_err() && (read == Some(old) || read.is_none()),
                "{plan:?}: {read:?}"
            );
        }
        fs::write(path.with_extension("refused"), [1; BYTES]).expect("writes");
        assert_eq!(marks.read(), None);
    }
}
