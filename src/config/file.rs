//! Reads the configuration file.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::ConfigError;
use uproar_proto::base::limits::{CONFIG_LOOKS_MAX, CONFIG_REST};

/// Reads the file once, as a start does.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|cause| fault(path, cause))
}

/// Reads the file until two looks in a row find the same. Half of a file that somebody is writing is often a valid
/// one, with defaults for the other half: a start is watched by a person, a reload is not.
pub(super) fn read_at_rest(path: &Path) -> Result<String, ConfigError> {
    at_rest(path).map_err(|cause| fault(path, cause))
}

fn at_rest(path: &Path) -> io::Result<String> {
    let mut last = look(path)?;
    for _ in 1..CONFIG_LOOKS_MAX {
        std::thread::sleep(CONFIG_REST);
        let next = look(path)?;
        if next == last {
            return Ok(next.0);
        }
        last = next;
    }
    Err(io::Error::other(
        "it is being written; reload again when it is whole",
    ))
}

/// Content, device, inode and time of change.
type Look = (String, u64, u64, i64, i64);

fn look(path: &Path) -> io::Result<Look> {
    // Not opened before this is known: opening a pipe waits for its other end.
    only_regular(&std::fs::metadata(path)?)?;
    let mut file = File::open(path)?;
    let (mut text, found) = (String::new(), file.metadata()?);
    only_regular(&found)?;
    file.read_to_string(&mut text)?;
    let (seconds, nanos) = (found.ctime(), found.ctime_nsec());
    Ok((text, found.dev(), found.ino(), seconds, nanos))
}

fn only_regular(found: &Metadata) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    Err(io::Error::other(
        "it is no regular file and cannot be read a second time; start with a file that can",
    ))
}

fn fault(path: &Path, cause: io::Error) -> ConfigError {
    ConfigError::File {
        path: path.to_owned(),
        cause,
    }
}
