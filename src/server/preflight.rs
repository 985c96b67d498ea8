//! What must hold before anything is started: the data directory, and enough descriptors.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};

use super::StartError;
use crate::base::limits::{DESCRIPTORS_MIN, DESCRIPTORS_RESERVED};

/// Held as long as the server lives: no second one takes the same directory, nor, through
/// `SO_REUSEPORT`, silently half of its connections.
#[derive(Debug)]
pub(super) struct Directory {
    _lock: File,
}

/// Makes and locks the data directory; `fresh` empties it first (dev's temporary one).
pub(super) fn data_directory(path: &Path, fresh: bool) -> Result<Directory, StartError> {
    let fail = |cause| StartError::Directory {
        path: path.to_owned(),
        cause,
    };
    match DirBuilder::new().mode(0o700).recursive(!fresh).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(fail(error)),
    }
    let metadata = path.symlink_metadata().map_err(fail)?;
    if fresh && (!metadata.is_dir() || metadata.uid() != getuid().as_raw()) {
        return Err(fail(io::Error::other("it belongs to somebody else")));
    }
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let lock = options.open(path.join("lock")).map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StartError::Locked {
                path: path.to_owned(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    if fresh {
        for entry in path.read_dir().map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if entry.file_name() == "lock" {
                continue;
            }
            let is_dir = entry.file_type().map_err(fail)?.is_dir();
            let entry = entry.path();
            let removed = if is_dir {
                std::fs::remove_dir_all(entry)
            } else {
                std::fs::remove_file(entry)
            };
            removed.map_err(fail)?;
        }
    }
    Ok(Directory { _lock: lock })
}

/// Keeps huge pages away from this process: they made no delivery cheaper (tuning.md), and the
/// allocator's spare memory would be counted in steps of 2 MiB for each thread.
pub(super) fn small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "transparent huge pages stay on");
    }
}

/// Raises the limit on open files as far as it goes; the limit from now on.
pub fn raise_descriptor_limit() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Without the right to raise it, the current limit stands.
    let _as_it_is = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit on open files as far as it goes, and returns how many connections it allows, at
/// most `wanted`.
pub(super) fn descriptors(wanted: usize) -> Result<usize, StartError> {
    let current = raise_descriptor_limit();
    if current < DESCRIPTORS_MIN {
        return Err(StartError::Descriptors {
            limit: current,
            needed: DESCRIPTORS_MIN,
        });
    }
    let allowed = usize::try_from(current - DESCRIPTORS_RESERVED).unwrap_or(usize::MAX);
    if allowed < wanted {
        tracing::warn!(
            allowed,
            wanted,
            open_files = current,
            "the limit on open files allows fewer connections than quotas.connections; \
             raise LimitNOFILE= to have them all"
        );
    }
    Ok(wanted.min(allowed))
}
