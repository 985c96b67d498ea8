//! The files of the audit: numbered, one of them growing, the oldest ones removed.
//!
//! A process appends only to a file whose lock it holds, so that two processes, one of which takes over from the other,
//! never write to the same one: the newer process begins a file of its own.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::durable::{self, Access, Appender, Owner};
use uproar_proto::base::limits::{AUDIT_FILE_BYTES, AUDIT_FILES_MAX};
use uproar_proto::base::number::wide;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// Where a file of this number is.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{PREFIX}{number:08}{SUFFIX}"))
}

/// The numbers and bytes of all files, oldest first.
pub(super) fn list(directory: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| {
            let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
            digits.parse().ok()
        });
        // One that goes away meanwhile was the oldest.
        if let (Some(number), Ok(metadata)) = (number, entry.metadata()) {
            found.push((number, metadata.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The files, for the thread that writes.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    bytes_max: u64,
    file_bytes_max: u64,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    file: Appender,
    // Held as long as the file is written.
    _lock: File,
}

impl Files {
    pub(super) fn new(directory: PathBuf, bytes_max: u64) -> Self {
        Self {
            directory,
            bytes_max,
            file_bytes_max: AUDIT_FILE_BYTES,
            current: None,
        }
    }

    #[cfg(test)]
    pub(super) fn with_file_bytes(mut self, file_bytes_max: u64) -> Self {
        self.file_bytes_max = file_bytes_max;
        self
    }

    /// Appends whole lines; all of them or none.
    ///
    /// # Errors
    ///
    /// Those of the file system; none of the lines counts then.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.room_for(wide(lines.len()))?.file.append(lines)
    }

    /// Syncs what was appended, for a loss of power.
    pub(super) fn sync(&self) -> io::Result<()> {
        let current = self.current.as_ref();
        current.map_or(Ok(()), |current| current.file.handle()?.sync_data())
    }

    /// The file to append to: the newest one if it has room, else a new one. A full one goes on if no other can be made.
    fn room_for(&mut self, bytes: u64) -> io::Result<&mut Current> {
        if self.current.is_none() {
            self.current = self.newest()?;
        }
        let is_full = |current: &Current| {
            !current.file.is_empty() && current.file.len() + bytes > self.file_bytes_max
        };
        if self.current.as_ref().is_none_or(is_full) {
            match self.next() {
                Ok(next) => {
                    self.current = Some(next);
                    self.remove_oldest();
                }
                Err(error) if self.current.is_none() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(self.current.as_mut().expect("made, or there before"))
    }

    /// The newest file, to go on with, if nobody else has it. A last line that a kill has cut off is removed.
    fn newest(&self) -> io::Result<Option<Current>> {
        durable::private_directory()
            .recursive(true)
            .create(&self.directory)?;
        let Some((number, _)) = list(&self.directory)?.pop() else {
            return Ok(None);
        };
        let path = path(&self.directory, number);
        let Some(lock) = durable::try_lock(&path, Owner::Process)? else {
            return Ok(None);
        };
        let content = fs::read(&path)?;
        let whole = content.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map_or(0, |at| wide(at) + 1);
        Ok(Some(Current {
            file: Appender::recover(&path, whole)?,
            _lock: lock,
        }))
    }

    /// A new file, with a number above all others.
    fn next(&self) -> io::Result<Current> {
        let newest = list(&self.directory)?.pop();
        let mut number = newest.map_or(1, |(number, _)| number + 1);
        loop {
            let path = path(&self.directory, number);
            match Appender::create(&path, Access::PRIVATE.mode) {
                Ok(file) => {
                    let lock = durable::try_lock(&path, Owner::Process)?;
                    let held = || io::Error::other("another process has the new file");
                    let lock = lock.ok_or_else(held)?;
                    return Ok(Current { file, _lock: lock });
                }
                // Another process was quicker.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps within the bounds; what cannot be removed now is when the next file begins.
    fn remove_oldest(&self) {
        let files = list(&self.directory).unwrap_or_default();
        let mut bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        let mut count = files.len();
        for (number, file_bytes) in files {
            // The new one will grow to this.
            let is_within = bytes + self.file_bytes_max <= self.bytes_max;
            if count <= 1 || (is_within && count <= AUDIT_FILES_MAX) {
                return;
            }
            let _stays = durable::remove(&path(&self.directory, number));
            (bytes, count) = (bytes - file_bytes, count - 1);
        }
    }
}
