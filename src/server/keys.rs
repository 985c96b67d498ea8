//! The sealing keys' file: made at first start, replaced as a whole, readable by its owner only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::StartError;
use crate::base::clock::UnixTime;
use crate::base::limits::TOKEN_LIFE_MAX;
use crate::config::keyring_path;
use crate::protocol::token::{KEY_BYTES, Key, Keyring, NONCE_BYTES};

/// Changes with every boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Reads the ring, or makes one. After a reboot without a clean stop a new key replaces all others: uses
/// of their tokens may have been lost with the page cache.
pub(super) fn open_or_create(data_dir: &Path, now: UnixTime) -> Result<Keyring, StartError> {
    let path = keyring_path(data_dir);
    let fail = |cause| StartError::Directory {
        path: path.clone(),
        cause,
    };
    let boot_path = data_dir.join("boot-id");
    let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
    // Where /proc is hidden every start counts as one after a reboot.
    let same_boot =
        !boot.is_empty() && fs::read_to_string(&boot_path).is_ok_and(|before| before == boot);
    fs::write(&boot_path, &boot).map_err(fail)?;
    if path.exists() && same_boot {
        return load_keyring(data_dir);
    }
    if path.exists() {
        tracing::warn!(
            "the machine was rebooted: tokens made before are refused, clients fetch new ones"
        );
    }
    let mut bytes = [0; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| fail(error.into()))?;
    let mut ring = Keyring::default();
    ring.push(Key::new(bytes, now));
    replace(&path, ring.to_text().as_bytes()).map_err(fail)?;
    Ok(ring)
}

/// Reads the ring of a data directory.
pub fn load_keyring(data_dir: &Path) -> Result<Keyring, StartError> {
    let path = keyring_path(data_dir);
    let text = fs::read_to_string(&path).map_err(|cause| StartError::Directory {
        path: path.clone(),
        cause,
    })?;
    Keyring::parse(&text).map_err(|cause| StartError::Keys { path, cause })
}

/// Adds a key to the ring of a data directory, and drops those whose last token expired. The new key
/// opens at once and seals `lead` later, when every server that shares the file has read it: no token
/// is made that some server does not know.
pub fn rotate_keyring(data_dir: &Path, now: UnixTime, lead: Duration) -> Result<(), StartError> {
    let path = keyring_path(data_dir);
    let fail = |cause| StartError::Directory {
        path: path.clone(),
        cause,
    };
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *bytes).map_err(|error| fail(error.into()))?;
    let mut ring = load_keyring(data_dir)?;
    ring.retire(now, TOKEN_LIFE_MAX);
    ring.push_behind(Key::new(*bytes, now));
    replace(&path, ring.to_text().as_bytes()).map_err(fail)?;
    std::thread::sleep(lead);
    ring.promote();
    replace(&path, ring.to_text().as_bytes()).map_err(fail)
}

/// A random nonce.
pub fn nonce() -> io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

/// All of the new content or all of the old, whenever the machine stops.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
