//! A file with one content at a time.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::operation;

/// Suffix of the name of an incomplete file.
const TEMPORARY: &str = ".new";
/// Attempts to create a temporary file. One fails only if another process removes it right after its creation.
const ATTEMPTS_MAX: u32 = 16;

/// Mode and owner of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    /// Mode bits; the umask may take some away.
    pub mode: u32,
    /// The owner.
    pub owner: Owner,
}

/// The owner of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The user of this process.
    Process,
    /// The directory's owner: the server can read a file that root creates in its directory.
    Directory,
}

/// The failures a replaced file survives once [`replace`] has returned `Ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survives {
    /// A kill of the process. After a power failure the file may have the old content, the new one, or be
    /// damaged: its reader must detect that.
    Kill,
    /// A power failure too: content and name are synced. Takes as long as the disk does.
    PowerLoss,
}

impl Access {
    /// Readable by its user alone.
    pub(crate) const PRIVATE: Self = Self {
        mode: 0o600,
        owner: Owner::Process,
    };
    /// Readable by the directory's owner alone, whichever user creates it.
    pub(crate) const PRIVATE_TO_DIRECTORY: Self = Self {
        mode: 0o600,
        owner: Owner::Directory,
    };
    /// Readable by all whom the umask allows.
    pub(crate) const PUBLIC: Self = Self {
        mode: 0o666,
        owner: Owner::Process,
    };
}

/// Replaces the content of `path`, which may exist or not.
///
/// - At every instant, also after a kill (with [`Survives::PowerLoss`] a power failure) in the middle, `path`
///   has all of the old content or all of the new, with the given mode and owner, whatever it had before.
/// - `Ok`: it has the new one. `Err`: the old one; only if the last operation, the sync of the directory,
///   failed, it has the new one, which a power failure may undo.
/// - Several processes may replace the same file at once: one of their contents stays, whole.
/// - A temporary file beside it is removed on failure; after a kill the next replacement removes it.
///
/// # Errors
///
/// Those of the file system.
pub(crate) fn replace(
    path: &Path,
    content: &[u8],
    access: Access,
    survives: Survives,
) -> io::Result<()> {
    replace_with(path, access, survives, |file| {
        operation::write(file, content)
    })
}

/// Like [`replace`], for content that is written piece by piece.
pub(crate) fn replace_with<T>(
    path: &Path,
    access: Access,
    survives: Survives,
    write: impl FnOnce(&mut File) -> io::Result<T>,
) -> io::Result<T> {
    let directory = directory_of(path);
    remove_leftovers(path, directory);
    let (temporary, mut file) = make_temporary(path, access.mode)?;
    let fill = || -> io::Result<T> {
        if access.owner == Owner::Directory {
            give_to_directory_owner(&file, directory)?;
        }
        let written = write(&mut file)?;
        if survives == Survives::PowerLoss {
            operation::sync(&file)?;
        }
        operation::rename(&temporary, path)?;
        Ok(written)
    };
    let written = fill().inspect_err(|_| {
        // If that fails too, the next replacement removes it.
        let _left = operation::remove(&temporary);
    })?;
    if survives == Survives::PowerLoss {
        operation::sync_directory(directory)?;
    }
    Ok(written)
}

/// Renames the complete file `made` to `path`, in the same directory; durable as with [`Survives::PowerLoss`]. It
/// gets the directory's owner.
///
/// # Errors
///
/// Those of the file system; then `path` is unchanged, except as for the last operation of [`replace`].
pub(crate) fn publish(made: &Path, path: &Path) -> io::Result<()> {
    let file = File::open(made)?;
    give_to_directory_owner(&file, directory_of(path))?;
    operation::sync(&file)?;
    operation::rename(made, path)?;
    operation::sync_directory(directory_of(path))
}

/// Overwrites the first bytes of a file in place: needs no space, so it works on a full disk. A power failure in the
/// middle, and without a sync a kill too, may leave a mixture: the reader must detect it. With
/// [`Survives::PowerLoss`] they are synced; without, they cost a write to the page cache.
///
/// # Errors
///
/// Those of the file system; the bytes are then old, new or a mixture.
pub(crate) fn overwrite(path: &Path, bytes: &[u8], survives: Survives) -> io::Result<()> {
    let file = operation::write_over(path, bytes)?;
    match survives {
        Survives::Kill => Ok(()),
        Survives::PowerLoss => operation::sync(&file),
    }
}

/// Takes the lock whose file is `path`, created if there is none; held until the file is dropped, or its process
/// ends. Serialises changes that begin with a read, between all processes.
///
/// # Errors
///
/// Those of the file system.
pub(crate) fn lock(path: &Path, owner: Owner) -> io::Result<File> {
    let file = operation::open_or_create(path, Access::PRIVATE.mode)?;
    if owner == Owner::Directory {
        give_to_directory_owner(&file, directory_of(path))?;
    }
    file.lock()?;
    Ok(file)
}

/// Takes the lock of [`lock`] if it is free; `None` if somebody else has it.
///
/// # Errors
///
/// Those of the file system.
pub(crate) fn try_lock(path: &Path, owner: Owner) -> io::Result<Option<File>> {
    let file = operation::open_or_create(path, Access::PRIVATE.mode)?;
    if owner == Owner::Directory {
        give_to_directory_owner(&file, directory_of(path))?;
    }
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Gives `file` to the owner of `directory`, so that a server can use the files root creates for it. A user who is
/// not root keeps the file.
///
/// # Errors
///
/// Those of the file system.
pub(crate) fn give_to_directory_owner(file: &File, directory: &Path) -> io::Result<()> {
    let owner = fs::metadata(directory)?;
    if owner.uid() != file.metadata()?.uid() && rustix::process::geteuid().is_root() {
        operation::own(file, owner.uid(), owner.gid())?;
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A new file beside `path`, locked while it is open, so that no other process takes it for a leftover.
fn make_temporary(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..ATTEMPTS_MAX {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = format!(".{}-{number}{TEMPORARY}", std::process::id());
        let mut name = OsString::from(path.file_name().unwrap_or_default());
        name.push(unique);
        let temporary = path.with_file_name(name);
        let file = match operation::create_new(&temporary, mode) {
            // Another process had our id at another time or in another namespace, and still holds the file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        };
        // Without locks (some network file systems) no other process removes leftovers either.
        let taken_away = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
        if !taken_away && fs::metadata(&temporary).is_ok() {
            return Ok((temporary, file));
        }
    }
    Err(io::Error::other(
        "its temporary file is taken away again and again",
    ))
}

/// Removes temporary files that no process writes any more. A failure does no harm.
fn remove_leftovers(path: &Path, directory: &Path) {
    let (Some(name), Ok(entries)) = (path.file_name(), fs::read_dir(directory)) else {
        return;
    };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let found = found.as_encoded_bytes();
        let rest = found.strip_prefix(name.as_encoded_bytes());
        let temporary =
            rest.is_some_and(|rest| rest.starts_with(b".") && rest.ends_with(TEMPORARY.as_bytes()));
        if !temporary || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // Locked until it is removed: a process that has just created it creates another.
        if let Ok(left) = File::open(entry.path())
            && left.try_lock().is_ok()
        {
            let _harmless = operation::remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
