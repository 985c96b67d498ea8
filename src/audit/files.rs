//! The files of the audit: numbered, one of them growing, the oldest ones removed.
//!
//! A process appends only to a file whose lock it holds, so that two processes, one of which takes over from the other,
//! never write to the same one: the newer process begins a file of its own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::durable::{self, Access, Appender, Owner};
use crate::logging::{Kind, local};
use uproar_proto::base::limits::{AUDIT_FILE_BYTES, AUDIT_FILES_MAX};
use uproar_proto::base::number::wide;

const PREFIX: &str = "audit-";
const SUFFIX: &str = ".jsonl";

/// The greatest number of a file: as many are not written in any server's life.
const NUMBER_MAX: u64 = u64::MAX >> 1;

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
            // A stranger's file of a greater number would leave none for the next.
            let number = digits.parse().ok();
            number.filter(|number| *number <= NUMBER_MAX)
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
    // Above those of files that somebody has removed: a number names one file.
    number_min: u64,
}

#[derive(Debug)]
struct Current {
    number: u64,
    file: Appender,
    // Of the same file, held as long as it is written.
    lock: File,
}

impl Current {
    /// Whether the file is still where it was made: another one, or none, is there once somebody has removed it.
    fn is_in_place(&self, directory: &Path) -> bool {
        let open = self.lock.metadata();
        match (open, fs::metadata(path(directory, self.number))) {
            (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => false,
            // Nobody knows; the next turn may.
            (Err(_), _) | (_, Err(_)) => true,
        }
    }
}

impl Files {
    pub(super) fn new(directory: PathBuf, bytes_max: u64) -> Self {
        Self {
            directory,
            bytes_max,
            file_bytes_max: AUDIT_FILE_BYTES,
            current: None,
            number_min: 1,
        }
    }

    /// Whether somebody has removed the file that was written; then a new one follows. What was in it is gone.
    pub(super) fn are_removed(&mut self) -> bool {
        let directory = &self.directory;
        let removed = self
            .current
            .take_if(|current| !current.is_in_place(directory));
        let Some(Current { number, .. }) = removed else {
            return false;
        };
        self.number_min = number + 1;
        true
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

    /// The file to append to: the newest one if it has room, else a new one. A full one goes on if no other can be made,
    /// to twice its bytes.
    fn room_for(&mut self, bytes: u64) -> io::Result<&mut Current> {
        // After a removal there may be older files, which are complete.
        if self.current.is_none() && self.number_min == 1 {
            self.current = self.newest()?;
        }
        let file_bytes_max = self.file_bytes_max;
        let is_beyond =
            |current: &Current, most| !current.file.is_empty() && current.file.len() + bytes > most;
        let current = self.current.as_ref();
        if current.is_none_or(|current| is_beyond(current, file_bytes_max)) {
            match self.next() {
                Ok(next) => {
                    self.current = Some(next);
                    self.remove_oldest();
                }
                Err(error) => {
                    let twice = file_bytes_max.saturating_mul(2);
                    let current = self.current.as_ref();
                    if current.is_none_or(|current| is_beyond(current, twice)) {
                        return Err(error);
                    }
                    if let Some(suppressed) = local::admit(Kind::Audit) {
                        let directory = self.directory.display();
                        tracing::error!(
                            %directory, %error, suppressed,
                            "no new audit file can be made: the full one goes on to twice its size"
                        );
                    }
                }
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
            number,
            file: Appender::recover(&path, whole)?,
            lock,
        }))
    }

    /// A new file, with a number above all others.
    fn next(&self) -> io::Result<Current> {
        durable::private_directory()
            .recursive(true)
            .create(&self.directory)?;
        let newest = list(&self.directory)?.pop();
        let mut number = newest.map_or(1, |(number, _)| number + 1);
        number = number.max(self.number_min);
        loop {
            let path = path(&self.directory, number);
            match Appender::create(&path, Access::PRIVATE.mode) {
                Ok(file) => {
                    let lock = durable::try_lock(&path, Owner::Process)?;
                    let held = || io::Error::other("another process has the new file");
                    let lock = lock.ok_or_else(held)?;
                    return Ok(Current { number, file, lock });
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
