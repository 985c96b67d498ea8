//! The file of sealing keys: created at the first start, replaced as a whole, readable by its owner only.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::StartError;
use crate::config::keyring_path;
use crate::durable::{self, Access, Owner, Survives};
use crate::random;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::TOKEN_LIFE_MAX;
use uproar_proto::token::{KEY_BYTES, Key, Keyring, NONCE_BYTES};

/// Changes with every boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Reads the key ring, or creates one. After a reboot a new key replaces all others, because uses of their tokens
/// may have been lost with the page cache. So this file need not survive a power failure, and is not synced: after
/// one, the machine has another boot id, and the rest of these files is replaced unread.
pub(super) fn open_or_create(data_dir: &Path, now: UnixTime) -> Result<Keyring, StartError> {
    let path = keyring_path(data_dir);
    let fail = |cause| StartError::Directory {
        path: path.clone(),
        cause,
    };
    let boot_path = data_dir.join("boot-id");
    let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
    // If /proc is hidden every start counts as one after a reboot.
    let same_boot =
        !boot.is_empty() && fs::read_to_string(&boot_path).is_ok_and(|before| before == boot);
    if path.exists() && same_boot {
        return load_keyring(data_dir);
    }
    if path.exists() {
        tracing::warn!(
            "the machine was rebooted: tokens made before are refused, clients fetch new ones"
        );
    }
    let ring = make(data_dir, now)?;
    // Written last: after a kill in between, the next start finds the old boot id and creates a key again.
    durable::replace(&boot_path, boot.as_bytes(), Access::PUBLIC, Survives::Kill).map_err(fail)?;
    Ok(ring)
}

/// Replaces all keys by a new one.
pub(super) fn make(data_dir: &Path, now: UnixTime) -> Result<Keyring, StartError> {
    let path = keyring_path(data_dir);
    let fail = |cause| StartError::Directory {
        path: path.clone(),
        cause,
    };
    let bytes = random::bytes::<KEY_BYTES>().map_err(fail)?;
    let mut ring = Keyring::default();
    ring.push(Key::new(bytes, now));
    replace(&path, &ring, Survives::Kill).map_err(fail)?;
    Ok(ring)
}

/// Reads the key ring of a node of a cluster, or makes one that is in use until the cluster's is here. A reboot means
/// nothing to it: the brokers know which tokens were used.
pub(crate) fn open_or_make(data_dir: &Path, now: UnixTime) -> Result<Keyring, StartError> {
    if keyring_path(data_dir).exists() {
        load_keyring(data_dir)
    } else {
        make(data_dir, now)
    }
}

/// Reads the key ring of a data directory.
pub(crate) fn load_keyring(data_dir: &Path) -> Result<Keyring, StartError> {
    let path = keyring_path(data_dir);
    let text = fs::read_to_string(&path).map_err(|cause| StartError::Directory {
        path: path.clone(),
        cause,
    })?;
    Keyring::parse(&text).map_err(|cause| StartError::Keys { path, cause })
}

/// Adds a key to the ring of a data directory, and drops those whose last token has expired. The new key opens at
/// once and seals `lead` later, when every server that shares the file has read it: no token is created that a
/// server does not know.
pub(crate) fn rotate_keyring(
    data_dir: &Path,
    now: UnixTime,
    lead: Duration,
) -> Result<(), StartError> {
    let path = keyring_path(data_dir);
    let fail = |cause| StartError::Directory {
        path: path.clone(),
        cause,
    };
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    random::fill(&mut *bytes).map_err(fail)?;
    let _alone = durable::lock(&path.with_extension("lock"), Owner::Directory).map_err(fail)?;
    let mut ring = load_keyring(data_dir)?;
    ring.retire(now, TOKEN_LIFE_MAX);
    ring.push_behind(Key::new(*bytes, now));
    replace(&path, &ring, Survives::PowerLoss).map_err(fail)?;
    std::thread::sleep(lead);
    ring.promote();
    replace(&path, &ring, Survives::PowerLoss).map_err(fail)
}

/// A random nonce.
pub(crate) fn nonce() -> io::Result<[u8; NONCE_BYTES]> {
    random::bytes()
}

/// Gives the file to the directory's owner, so that it stays readable for the server if root runs the command.
fn replace(path: &Path, ring: &Keyring, survives: Survives) -> io::Result<()> {
    let text = ring.to_text();
    let access = Access::PRIVATE_TO_DIRECTORY;
    durable::replace(path, text.as_bytes(), access, survives)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::faults::{Plan, Scratch, plans, under};

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn ring_of_another_boot(data_dir: &Path) -> String {
        let mut ring = Keyring::default();
        ring.push(Key::new([7; KEY_BYTES], NOW));
        fs::write(keyring_path(data_dir), ring.to_text().as_bytes()).expect("writes");
        fs::write(data_dir.join("boot-id"), "another boot").expect("writes");
        ring.to_text().lines().last().expect("a key").to_owned()
    }

    fn text(data_dir: &Path) -> String {
        load_keyring(data_dir)
            .expect("a whole file")
            .to_text()
            .to_string()
    }

    /// Goal: after a power failure the old key opens nothing, even if the first start after it fails or is killed
    /// anywhere, and a second one follows.
    #[test]
    fn a_start_that_fails_does_not_bring_the_old_key_back() {
        let scratch = Scratch::new();
        ring_of_another_boot(&scratch.0);
        let start = |data_dir: &Path| open_or_create(data_dir, NOW);
        let (_, operations) = under(Plan::default(), || start(&scratch.0));
        for plan in plans(operations.len()) {
            let scratch = Scratch::new();
            let old = ring_of_another_boot(&scratch.0);
            let (first, _) = under(plan.clone(), || start(&scratch.0));
            let second = start(&scratch.0).expect("the disk is good again").to_text();
            assert!(!second.contains(&old), "{plan:?}");
            assert_eq!(*second, text(&scratch.0));
            if let Ok(first) = first {
                assert_eq!(
                    first.to_text(),
                    second,
                    "{plan:?}: tokens of the first start are good"
                );
            }
            assert_eq!(scratch.names(), ["boot-id", "token-keys"], "{plan:?}");
        }
    }

    /// Goal: a rotation that fails anywhere leaves a ring whose old key still opens.
    #[test]
    fn a_rotation_that_fails_leaves_a_whole_ring() {
        let scratch = Scratch::new();
        ring_of_another_boot(&scratch.0);
        let rotate = |data_dir: &Path| rotate_keyring(data_dir, NOW, Duration::ZERO);
        let (_, operations) = under(Plan::default(), || rotate(&scratch.0));
        for plan in plans(operations.len()) {
            let scratch = Scratch::new();
            let old = ring_of_another_boot(&scratch.0);
            let (outcome, _) = under(plan.clone(), || rotate(&scratch.0));
            let after = text(&scratch.0);
            assert!(after.contains(&old), "{plan:?}");
            let sealing = after.lines().last().expect("a key");
            assert!(outcome.is_err() || sealing != old, "{plan:?}");
        }
    }
}
