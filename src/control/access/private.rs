//! Files that nobody but the server's user may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use super::keyfile::KeyFileError;

/// Bits of a mode that give group and others something.
const OTHERS: u32 = 0o077;

/// The file's bytes; `None` if there is no such file.
///
/// # Errors
///
/// Also if others may read it, or it belongs to somebody else than its directory does.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyFileError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeyFileError::io(path, error)),
    };
    let owner = directory(path)?.uid();
    if !metadata.is_file() || metadata.mode() & OTHERS != 0 || metadata.uid() != owner {
        return Err(KeyFileError::Open {
            path: path.to_owned(),
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
        });
    }
    let bytes = fs::read(path).map_err(|error| KeyFileError::io(path, error))?;
    Ok(Some(bytes))
}

/// All of the new content or all of the old, whenever the machine stops. The file belongs to whom the
/// directory does, so that an operator who is root leaves it readable for the server.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), KeyFileError> {
    let write = || {
        let temporary = path.with_extension("new");
        // Left behind by an operator who was interrupted.
        let _none = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        let parent = parent(path);
        let owner = fs::metadata(parent)?;
        if owner.uid() != file.metadata()?.uid() {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    };
    write().map_err(|error| KeyFileError::io(path, error))
}

/// Changes of the directory's files, one at a time, whoever makes them.
pub(super) fn lock(path: &Path) -> Result<File, KeyFileError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let path = path.with_extension("lock");
    let take = || {
        let file = options.open(&path)?;
        file.lock()?;
        Ok(file)
    };
    take().map_err(|error| KeyFileError::io(&path, error))
}

fn directory(path: &Path) -> Result<fs::Metadata, KeyFileError> {
    fs::metadata(parent(path)).map_err(|error| KeyFileError::io(path, error))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
