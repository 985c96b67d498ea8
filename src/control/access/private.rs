//! Files that only the server's user may read.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::KeyFileError;
use crate::durable::{self, Access, Owner, Survives};

/// Mode bits that grant access to group and others.
const OTHERS: u32 = 0o077;

/// The file's bytes; `None` if there is no such file.
///
/// # Errors
///
/// Also if others may read it, or its owner is not the owner of its directory.
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

/// The whole new content or the whole old one, whenever the machine stops. The file gets the owner
/// of the directory, so that it stays readable for the server if root runs the command.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), KeyFileError> {
    let access = Access::PRIVATE_TO_DIRECTORY;
    durable::replace(path, content, access, Survives::PowerLoss)
        .map_err(|error| KeyFileError::io(path, error))
}

/// Serialises changes of the directory's files between processes.
pub(super) fn lock(path: &Path) -> Result<File, KeyFileError> {
    let path = path.with_extension("lock");
    durable::lock(&path, Owner::Directory).map_err(|error| KeyFileError::io(&path, error))
}

fn directory(path: &Path) -> Result<fs::Metadata, KeyFileError> {
    fs::metadata(parent(path)).map_err(|error| KeyFileError::io(path, error))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
