//! A file that grows.

use std::fs::File;
use std::io;
use std::path::Path;

use super::operation;

/// The end of a file to which whole records are appended.
///
/// - [`Appender::append`] returned `Ok`: the record is in the page cache, after all earlier ones. It survives
///   a kill of the process; [`Appender::handle`] allows to sync it on another thread.
/// - `Err`: the record does not count. Any written part of it is cut off; if that fails too, the file is
///   damaged, and nothing is appended until the part could be cut off. So no record ever follows garbage.
/// - After a kill the file ends with the last record appended, and perhaps a part of the next. The reader must
///   detect that part (fixed length, or a checksum) and call [`Appender::recover`] with the end of the whole ones.
#[derive(Debug)]
pub(crate) struct Appender {
    file: File,
    // Bytes of the records that count.
    len: u64,
    // The file may be longer than `len`.
    damaged: bool,
}

impl Appender {
    /// A new, empty file with this mode.
    ///
    /// # Errors
    ///
    /// Also if a file of this name exists.
    pub(crate) fn create(path: &Path, mode: u32) -> io::Result<Self> {
        let file = operation::create_new(path, mode)?;
        Ok(Self {
            file,
            len: 0,
            damaged: false,
        })
    }

    /// An existing file whose first `len` bytes are whole records; the rest is cut off, now or before
    /// the first append.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub(crate) fn recover(path: &Path, len: u64) -> io::Result<Self> {
        let file = operation::open(path)?;
        let damaged = file.metadata()?.len() != len;
        let mut appender = Self { file, len, damaged };
        // Retried before the first append.
        let _damaged = appender.repair();
        Ok(appender)
    }

    /// Appends whole records; all of them or none.
    ///
    /// # Errors
    ///
    /// Those of the file system; none of the records counts then.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        self.repair()?;
        match operation::write(&mut self.file, records) {
            Ok(()) => {
                self.len += u64::try_from(records.len()).expect("a length in memory");
                Ok(())
            }
            Err(error) => {
                self.damaged = true;
                let _still_damaged = self.repair();
                Err(error)
            }
        }
    }

    /// Like [`Appender::append`], and synced to the disk when it returns.
    ///
    /// # Errors
    ///
    /// Those of the file system; none of the records counts then.
    pub(crate) fn append_synced(&mut self, records: &[u8]) -> io::Result<()> {
        let before = self.len;
        self.append(records)?;
        operation::sync(&self.file).inspect_err(|_| {
            (self.len, self.damaged) = (before, true);
            let _still_damaged = self.repair();
        })
    }

    /// Bytes of the records that count.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether no record counts.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A handle to sync the file elsewhere.
    ///
    /// # Errors
    ///
    /// No descriptor is available.
    pub(crate) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    fn repair(&mut self) -> io::Result<()> {
        if self.damaged {
            operation::set_len(&self.file, self.len)?;
            self.damaged = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
