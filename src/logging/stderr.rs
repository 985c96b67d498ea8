//! Standard error without the library's lock, which a sleeping writer would hold.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Descriptor 2, whatever it refers to.
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(rustix::stdio::stderr(), bytes) {
                Ok(len) => return Ok(len),
                Err(rustix::io::Errno::INTR) => {}
                // Another process made the shared pipe or terminal non-blocking.
                Err(rustix::io::Errno::AGAIN) => wait(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn wait() {
    let stderr = rustix::stdio::stderr();
    let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
    let second = Timespec::try_from(Duration::from_secs(1)).ok();
    let _retried = poll(&mut polled, second.as_ref());
}
