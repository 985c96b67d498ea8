//! Who else may read a file with a secret that somebody has put there for the server.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Mode bits that grant access to group and others.
const OTHERS: u32 = 0o077;
/// The same where the group may read: a secret that Kubernetes mounts is root's, and the pod's group reads it.
const OTHERS_BUT_READING_GROUP: u32 = 0o037;

/// The file's mode if others than this process' user may read it; `None` if nobody may.
pub(crate) fn exposed(file: &Metadata) -> Option<u32> {
    let mode = file.mode() & 0o7777;
    let reader = rustix::process::geteuid().as_raw();
    (mode & forbidden(file.uid(), reader) != 0).then_some(mode)
}

/// The mode bits that a file of this owner must not have when a process of this user reads it.
fn forbidden(owner: u32, reader: u32) -> u32 {
    if owner == 0 && reader != 0 {
        OTHERS_BUT_READING_GROUP
    } else {
        OTHERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what Kubernetes mounts is taken, and nothing that a stranger or another member of one's own group reads.
    #[test]
    fn a_group_may_read_what_is_roots_and_no_more() {
        for (owner, reader, mode, is_private) in [
            (0, 65532, 0o440, true),
            (0, 65532, 0o640, true),
            (0, 65532, 0o660, false),
            (0, 65532, 0o444, false),
            (65532, 65532, 0o400, true),
            (65532, 65532, 0o440, false),
            (0, 0, 0o440, false),
        ] {
            let is_allowed = mode & forbidden(owner, reader) == 0;
            assert_eq!(is_allowed, is_private, "{owner} {reader} {mode:o}");
        }
    }
}
