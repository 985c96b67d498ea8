//! Directories of the server.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

/// Makes directories that only their user may enter: their files are private, whatever their own modes.
pub(crate) fn private_directory() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}
