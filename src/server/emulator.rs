//! What `uproar dev` gives its tests, made of what it was started with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{StartError, keys};
use crate::clock;
use crate::config::{DevSettings, Settings};
use crate::control::Emulator;
use crate::durable::{self, Access, Survives};
use crate::random;
use crate::shard::handshake::LiveKeyring;

/// The emulator of a server on `data_dir`.
pub(super) fn emulator(
    settings: &DevSettings,
    data_dir: PathBuf,
    keyring: LiveKeyring,
) -> Emulator {
    let ready = settings.ready_rooms().into_iter();
    let ready = ready.map(|room| (room.id, room.name)).collect();
    let rekey = move || {
        let ring = keys::make(&data_dir, clock::unix_now()).map_err(|error| error.to_string())?;
        keyring.store(Arc::new(ring));
        Ok(())
    };
    Emulator::new(ready, Box::new(rekey))
}

/// Makes ids repeat if they were asked to, each process of a data directory with a sequence of its own: clients drop messages whose
/// ids they know, and a process that takes over goes on with the same clients.
///
/// # Errors
///
/// The file that counts these processes cannot be read or written.
pub(super) fn repeat_ids(settings: &Settings) -> Result<(), StartError> {
    let Some(seed) = settings.dev.seed else {
        return Ok(());
    };
    let path = settings.data_dir.join(SEEDED_STARTS);
    let counted = count_start(&path).map_err(|cause| StartError::Directory { path, cause });
    random::repeat_ids(seed, counted?);
    Ok(())
}

/// How many processes of the data directory have used a seed.
const SEEDED_STARTS: &str = "seeded-starts";

/// Counts one more, and returns how many there were before.
fn count_start(path: &Path) -> io::Result<u64> {
    let before = match fs::read_to_string(path) {
        Ok(text) => {
            let no_number = |_| io::Error::other("it has no number: remove it");
            text.trim().parse::<u64>().map_err(no_number)?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    let counted = format!("{}\n", before.wrapping_add(1));
    durable::replace(path, counted.as_bytes(), Access::PUBLIC, Survives::Kill)?;
    Ok(before)
}
