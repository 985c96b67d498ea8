//! Copies of the access keys beside a copy of the database, and back.
//!
//! The keys that seal tokens are not copied: a server that does not know which tokens were used
//! must not accept them, and creates new keys by itself. Clients fetch new tokens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::backup::{BackupError, in_file};
use crate::durable::{self, Access, Owner, Survives};

/// Worthless without each other; the master key comes first, so that no copy has sealed keys alone.
const FILES: [&str; 2] = ["master-key", "access-keys"];

/// Copies the existing access key files to `target.master-key` and `target.access-keys`, readable
/// for their owner alone; returns the paths.
pub fn copy(data_dir: &Path, target: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let lock = data_dir.join("access-keys.lock");
    let _unchanged =
        durable::lock(&lock, Owner::Directory).map_err(|cause| in_file(&lock, cause))?;
    let pairs = FILES.map(|name| (data_dir.join(name), target.with_added_extension(name)));
    transfer(&pairs, Access::PRIVATE)
}

/// Restores such copies as the access keys of a data directory; returns the paths. No server may
/// run on it: the caller holds its lock.
pub fn restore(source: &Path, data_dir: &Path) -> Result<Vec<PathBuf>, BackupError> {
    let pairs = FILES.map(|name| (source.with_added_extension(name), data_dir.join(name)));
    transfer(&pairs, Access::PRIVATE_TO_DIRECTORY)
}

fn transfer(pairs: &[(PathBuf, PathBuf)], access: Access) -> Result<Vec<PathBuf>, BackupError> {
    let mut made = Vec::new();
    for (from, to) in pairs {
        let content = match fs::read(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => zeroize::Zeroizing::new(read.map_err(|cause| in_file(from, cause))?),
        };
        durable::replace(to, &content, access, Survives::PowerLoss)
            .map_err(|cause| in_file(to, cause))?;
        made.push(to.clone());
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::access::keyfile::{KeyFile, KeyRecord};
    use crate::durable::faults::{Plan, Scratch, plans, under};
    use uproar_proto::base::clock::UnixTime;

    /// Goal: keys come back as they were, for their owner alone; after any failure the existing
    /// files open.
    #[test]
    fn access_keys_are_copied_and_come_back() {
        let (server, scratch, other) = (Scratch::new(), Scratch::new(), Scratch::new());
        let target = scratch.0.join("copy");
        assert!(
            copy(&server.0, &target)
                .expect("nothing to copy")
                .is_empty()
        );
        let record = KeyRecord {
            id: String::new(),
            name: "web".to_owned(),
            created: 0,
            operations: Vec::new(),
            resources: Vec::new(),
        };
        let now = UnixTime::from_secs(1_800_000_000);
        let key = KeyFile::of(&server.0).create(record, now).expect("makes");
        let (copied, operations) = under(Plan::default(), || copy(&server.0, &target));
        assert_eq!(copied.expect("copies").len(), 2);
        assert_eq!(scratch.names(), ["copy.access-keys", "copy.master-key"]);
        assert_eq!(restore(&target, &other.0).expect("restores").len(), 2);
        let open = KeyFile::of(&other.0).open().expect("opens");
        assert_eq!(open.len(), 1);
        assert_eq!((&open[0].0.id, &*open[0].0.secret), (&key.id, &*key.secret));
        for plan in plans(operations.len()) {
            let scratch = Scratch::new();
            let (outcome, _) = under(plan.clone(), || restore(&target, &scratch.0));
            let there = KeyFile::of(&scratch.0).open().expect("none, or all").len();
            assert!(there == 1 || outcome.is_err(), "{plan:?}");
        }
    }
}
