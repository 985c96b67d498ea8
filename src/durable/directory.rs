//! Directories of the server.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown};
use std::path::Path;

/// Makes directories that only their user may enter: their files are private, whatever their own modes.
pub(crate) fn private_directory() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

/// Makes a private directory, and those above it that are missing, with the usual mode. Each gets the owner of the one
/// above it, so that what root makes in a user's directory is the user's. Returns the owner.
///
/// # Errors
///
/// Those of the file system; directories that were made stay.
pub(crate) fn private_directory_like_its_parent(path: &Path) -> io::Result<u32> {
    make_like_its_parent(&private_directory(), path)
}

fn make_like_its_parent(builder: &DirBuilder, path: &Path) -> io::Result<u32> {
    let above = match path.parent() {
        Some(above) if above != Path::new("") => above,
        _ => Path::new("."),
    };
    if !above.is_dir() {
        make_like_its_parent(&DirBuilder::new(), above)?;
    }
    builder.create(path)?;
    let (made, parent) = (File::open(path)?, fs::metadata(above)?);
    // Only root may give anything away.
    if rustix::process::geteuid().is_root() && parent.uid() != 0 {
        fchown(&made, Some(parent.uid()), Some(parent.gid()))?;
    }
    Ok(made.metadata()?.uid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::super::faults::Scratch;
    use super::*;

    /// Goal: the last directory is private, those above it are not, and all belong to whom the first parent does. A
    /// second one of the name is refused. (Another owner only where root runs the tests.)
    #[test]
    fn what_is_made_is_private_and_its_parents() {
        let scratch = Scratch::new();
        let is_root = rustix::process::geteuid().is_root();
        let owner = if is_root {
            65532
        } else {
            rustix::process::geteuid().as_raw()
        };
        if is_root {
            chown(&scratch.0, Some(owner), Some(owner)).expect("root gives it away");
        }
        let path = scratch.0.join("a/b/data");
        assert_eq!(
            private_directory_like_its_parent(&path).expect("makes"),
            owner
        );
        let found = |path: &Path| {
            let found = fs::metadata(path).expect("is there");
            (found.uid(), found.permissions().mode() & 0o777)
        };
        assert_eq!(found(&path), (owner, 0o700));
        let (above_owner, above_mode) = found(&scratch.0.join("a/b"));
        assert_eq!((above_owner, above_mode & 0o500), (owner, 0o500));
        assert_ne!(above_mode, 0o700, "the umask of tests leaves others some");
        let again = private_directory_like_its_parent(&path).expect_err("is there");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
