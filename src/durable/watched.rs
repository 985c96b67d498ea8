//! Files that another program replaces while they are in use, compared by content.
//!
//! Tools that renew certificates and keys set arbitrary times, names and links, so neither time, inode nor name
//! tells whether the content is new.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use uproar_proto::base::limits::COMPARED_FILE_BYTES_MAX;

/// Files that belong together, with their state at the last check.
#[derive(Debug, Clone)]
pub struct Watched<const N: usize> {
    paths: [PathBuf; N],
    // `None` before the first check, and after one whose change was rejected.
    seen: Option<[Content; N]>,
    metadata: [Metadata; N],
}

impl<const N: usize> Watched<N> {
    /// Their state now. Call before the files are read: the next check finds a change in between.
    pub fn new(paths: [PathBuf; N]) -> Self {
        let mut watched = Self {
            paths,
            seen: None,
            metadata: [None; N],
        };
        watched.changed();
        watched
    }

    /// Whether the content of any of them differs from the last check, which this one replaces.
    pub fn changed(&mut self) -> bool {
        // First, so that the next check finds a write in between.
        self.metadata = self.paths.each_ref().map(|path| metadata(path));
        let contents = Some(self.paths.each_ref().map(|path| content(path)));
        let changed = contents != self.seen;
        self.seen = contents;
        changed
    }

    /// The last change could not be used: the next check reports it again.
    pub fn not_taken(&mut self) {
        self.seen = None;
    }

    /// Whether any of them was replaced or written since the last check. One system call each; it may miss a change,
    /// which [`Watched::changed`] does not.
    pub fn touched(&self) -> bool {
        self.paths.each_ref().map(|path| metadata(path)) != self.metadata
    }
}

/// Length and hash; `None` if it cannot be read.
type Content = Option<(u64, [u8; 32])>;

fn content(path: &Path) -> Content {
    let file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    let mut bytes = Vec::new();
    file.take(COMPARED_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    Some((len, Sha256::digest(&bytes).into()))
}

/// Device, inode, length and time of change.
type Metadata = Option<(u64, u64, u64, i64, i64)>;

fn metadata(path: &Path) -> Metadata {
    let found = fs::metadata(path).ok()?;
    let time = (found.ctime(), found.ctime_nsec());
    Some((found.dev(), found.ino(), found.len(), time.0, time.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::faults::Scratch;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    /// Goal: a new content is noticed for every way to write it: in place with its old time, by rename, by a link
    /// that points elsewhere as in Kubernetes, removed and restored; a new time alone is not a change.
    #[test]
    fn files_are_compared_by_content() {
        let scratch = Scratch::new();
        let dir = &scratch.0;
        fs::create_dir_all(dir.join("a")).expect("a directory");
        fs::create_dir_all(dir.join("b")).expect("a directory");
        let path = dir.join("pem");
        let write = |path: &Path, text: &str| {
            fs::write(path, text).expect("written");
            let file = File::options().write(true).open(path).expect("opened");
            file.set_modified(SystemTime::UNIX_EPOCH)
                .expect("its time is set");
        };
        write(&path, "old");
        let mut watched = Watched::new([path.clone()]);
        assert!(!watched.changed());
        write(&path, "new");
        assert!(watched.changed(), "the same length and time");
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)))
            .expect("touched");
        assert!(!watched.changed());
        write(&dir.join("next"), "new");
        fs::rename(dir.join("next"), &path).expect("renamed");
        assert!(watched.touched() && !watched.changed() && !watched.touched());
        fs::remove_file(&path).expect("removed");
        assert!(watched.changed() && !watched.changed());
        write(&path, "new");
        assert!(watched.changed() && !watched.changed());
        watched.not_taken();
        assert!(watched.changed() && !watched.changed());

        write(&dir.join("a/pem"), "old");
        write(&dir.join("b/pem"), "new");
        let turn = |target: &str| {
            symlink(target, dir.join("next")).expect("a link");
            fs::rename(dir.join("next"), dir.join("data")).expect("swapped");
        };
        turn("a");
        let mut linked = Watched::new([dir.join("data/pem"), dir.join("none")]);
        turn("b");
        assert!(linked.touched() && linked.changed() && !linked.changed());
        write(&dir.join("none"), "the second");
        assert!(linked.changed());
    }

    /// Goal: of a file longer than the compared part, at least a change of length is noticed.
    #[test]
    fn a_long_file_is_compared_in_part() {
        let scratch = Scratch::new();
        let path = scratch.0.join("long");
        let file = File::create(&path).expect("created");
        file.set_len(COMPARED_FILE_BYTES_MAX).expect("sparse");
        let mut watched = Watched::new([path]);
        file.set_len(COMPARED_FILE_BYTES_MAX + 1).expect("sparse");
        assert!(watched.changed());
    }
}
