//! The operations on files, each in one place, where tests can make them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, fchown};
use std::path::Path;

#[cfg(test)]
use super::faults::attempt;

/// Tests of thousands of plans need no disk; only a sync's place among the operations matters.
const SYNCS: bool = !cfg!(test);

/// Executes one operation; tests replace it, see `faults`.
#[cfg(not(test))]
fn attempt<T>(_operation: &str, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

/// Creates a new file with this mode; the umask applies.
pub(super) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    attempt("create", || {
        let mut options = OpenOptions::new();
        let options = options.create_new(true).append(true).mode(mode);
        options.open(path)
    })
}

/// Opens a file, or creates it with this mode.
pub(super) fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
    attempt("open", || {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(mode).open(path)
    })
}

/// Opens a file to append to it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    attempt("open", || OpenOptions::new().append(true).open(path))
}

/// Changes the file's owner.
pub(super) fn own(file: &File, user: u32, group: u32) -> io::Result<()> {
    attempt("chown", || fchown(file, Some(user), Some(group)))
}

/// Appends all bytes; after a failure, an unknown part of them.
pub(super) fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    // In two halves in tests, so that a failure can leave a part.
    #[cfg(test)]
    let (first, bytes) = bytes.split_at(bytes.len() / 2);
    #[cfg(test)]
    attempt("write", || file.write_all(first))?;
    attempt("write", || file.write_all(bytes))
}

/// Truncates the file.
pub(super) fn set_len(file: &File, len: u64) -> io::Result<()> {
    attempt("truncate", || file.set_len(len))
}

/// Syncs the content to the disk.
pub(super) fn sync(file: &File) -> io::Result<()> {
    attempt("sync", || if SYNCS { file.sync_all() } else { Ok(()) })
}

/// Renames a file, replacing any file of that name.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    attempt("rename", || fs::rename(from, to))
}

/// Syncs a directory's names to the disk.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    attempt("sync directory", || {
        let directory = File::open(path)?;
        if SYNCS { directory.sync_all() } else { Ok(()) }
    })
}

/// Gives a file a second, unused name.
///
/// # Errors
///
/// `AlreadyExists` if the name is in use.
pub(crate) fn keep(path: &Path, second: &Path) -> io::Result<()> {
    attempt("link", || fs::hard_link(path, second))
}

/// Overwrites the first bytes of a file.
pub(super) fn write_over(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let file = attempt("open", || OpenOptions::new().write(true).open(path))?;
    attempt("write", || file.write_all_at(bytes, 0))?;
    Ok(file)
}

/// Removes a file; succeeds if it does not exist.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    attempt("remove", || match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    })
}
