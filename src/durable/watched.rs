//! Files that somebody else replaces while they are in use, compared by what they hold.
//!
//! Tools that renew certificates and keys set whatever times, names and links they like, so neither time, inode nor
//! name tells whether there is something new.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::base::limits::COMPARED_FILE_BYTES_MAX;

/// Files that belong together, as they were at the last look.
#[derive(Debug, Clone)]
pub struct Watched<const N: usize> {
    paths: [PathBuf; N],
    // None before the first look, and after one whose news were not taken.
    seen: Option<[Content; N]>,
    glanced: [Glance; N],
}

impl<const N: usize> Watched<N> {
    /// As they are now. To be taken before the files are read: a change in between is found by the next look.
    pub fn new(paths: [PathBuf; N]) -> Self {
        let mut watched = Self {
            glanced: paths.each_ref().map(|path| glance(path)),
            paths,
            seen: None,
        };
        watched.changed();
        watched
    }

    /// Whether any of them holds something else than at the last look, which becomes this one.
    pub fn changed(&mut self) -> bool {
        // First, so that what is written meanwhile shows at the next one.
        self.glanced = self.paths.each_ref().map(|path| glance(path));
        let held = Some(self.paths.each_ref().map(|path| content(path)));
        let changed = held != self.seen;
        self.seen = held;
        changed
    }

    /// What the last look found could not be taken: the next one finds it again.
    pub fn not_taken(&mut self) {
        self.seen = None;
    }

    /// Whether any of them is another file, or was written, since the last look. One system call for each; it may
    /// miss a change, which [`Watched::changed`] does not.
    pub fn touched(&self) -> bool {
        self.paths.each_ref().map(|path| glance(path)) != self.glanced
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
type Glance = Option<(u64, u64, u64, i64, i64)>;

fn glance(path: &Path) -> Glance {
    let found = fs::metadata(path).ok()?;
    let time = (found.ctime(), found.ctime_nsec());
    Some((found.dev(), found.ino(), found.len(), time.0, time.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::SystemTime;

    /// Goal: what is new is noticed whatever tool wrote it: in place with its old time, by rename, by a link that
    /// points elsewhere as in Kubernetes, taken away and brought back; and what was touched is not new.
    #[test]
    fn files_are_told_apart_by_what_they_hold() {
        let dir = std::env::temp_dir().join(format!("uproar-watched-{}", std::process::id()));
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
            .and_then(|file| file.set_modified(SystemTime::now()))
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
        fs::remove_dir_all(&dir).expect("removed");
    }

    /// Goal: of a file longer than what is compared, a change of its length at least is noticed.
    #[test]
    fn a_long_file_is_compared_in_part() {
        let path = std::env::temp_dir().join(format!("uproar-long-{}", std::process::id()));
        let file = File::create(&path).expect("created");
        file.set_len(COMPARED_FILE_BYTES_MAX).expect("sparse");
        let mut watched = Watched::new([path.clone()]);
        file.set_len(COMPARED_FILE_BYTES_MAX + 1).expect("sparse");
        assert!(watched.changed());
        fs::remove_file(&path).expect("removed");
    }
}
