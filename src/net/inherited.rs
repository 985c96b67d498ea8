//! Descriptors that the process was started with, beyond its three standard ones.
#![expect(unsafe_code, reason = "descriptors are known by their numbers alone")]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use libc::{F_SETFD, FD_CLOEXEC, fcntl};

/// The first one behind standard error (sd_listen_fds(3)).
const FIRST: RawFd = 3;

/// Takes the first `count` of them, in order, and keeps them from children; `None`: not open.
///
/// Call once, before the process opens a descriptor of its own: what is open then was passed to it, and nothing else
/// in the process knows it.
pub(crate) fn claim(count: usize) -> Vec<Option<OwnedFd>> {
    (FIRST..)
        .take(count)
        .map(|number| {
            // SAFETY: the call reads and writes no memory of the process; of a number that is not open it fails.
            let is_open = unsafe { fcntl(number, F_SETFD, FD_CLOEXEC) } == 0;
            // SAFETY: the descriptor is open, and since the process has opened none yet, nothing else owns it.
            is_open.then(|| unsafe { OwnedFd::from_raw_fd(number) })
        })
        .collect()
}
