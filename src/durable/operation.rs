//! The operations on files, each in one place, where tests make them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, fchown};
use std::path::Path;

#[cfg(test)]
use super::faults::attempt;

/// Tests of thousands of plans need no disk; what a sync is for is its place among the operations.
const SYNCS: bool = !cfg!(test);

/// Does one operation; see `faults` for what tests do instead.
#[cfg(not(test))]
fn attempt<T>(_operation: &str, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

/// Makes a file that was not there, with this mode whatever the umask adds.
pub(super) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    attempt("create", || {
        let mut options = OpenOptions::new();
        let options = options.create_new(true).append(true).mode(mode);
        options.open(path)
    })
}

/// Opens a file, or makes it with this mode.
pub(super) fn open_or_create(path: &Path, mode: u32) -> io::Result<File> {
    attempt("open", || {
        let mut options = OpenOptions::new();
        options.create(true).append(true).mode(mode).open(path)
    })
}

/// Opens a file at whose end is written.
pub(super) fn open(path: &Path) -> io::Result<File> {
    attempt("open", || OpenOptions::new().append(true).open(path))
}

/// Gives the file to somebody.
pub(super) fn own(file: &File, user: u32, group: u32) -> io::Result<()> {
    attempt("chown", || fchown(file, Some(user), Some(group)))
}

/// Writes all of it behind the file's end; after a failure, an unknown part.
pub(super) fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    // In two halves where operations can fail, so that a part is written.
    #[cfg(test)]
    let (first, bytes) = bytes.split_at(bytes.len() / 2);
    #[cfg(test)]
    attempt("write", || file.write_all(first))?;
    attempt("write", || file.write_all(bytes))
}

/// Cuts the file off.
pub(super) fn set_len(file: &File, len: u64) -> io::Result<()> {
    attempt("truncate", || file.set_len(len))
}

/// Brings the content to the disk itself.
pub(super) fn sync(file: &File) -> io::Result<()> {
    attempt("sync", || if SYNCS { file.sync_all() } else { Ok(()) })
}

/// Gives a file another name, in the place of what had it.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    attempt("rename", || fs::rename(from, to))
}

/// Brings a directory's names to the disk itself.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    attempt("sync directory", || {
        let directory = File::open(path)?;
        if SYNCS { directory.sync_all() } else { Ok(()) }
    })
}

/// Gives a file a second name, which nothing has yet.
///
/// # Errors
///
/// `AlreadyExists` if something has it.
pub fn keep(path: &Path, second: &Path) -> io::Result<()> {
    attempt("link", || fs::hard_link(path, second))
}

/// Writes over the first bytes of a file.
pub(super) fn write_over(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let file = attempt("open", || OpenOptions::new().write(true).open(path))?;
    attempt("write", || file.write_all_at(bytes, 0))?;
    Ok(file)
}

/// Removes a file; one that is not there is no failure.
pub fn remove(path: &Path) -> io::Result<()> {
    attempt("remove", || match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    })
}
