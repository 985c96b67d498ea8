//! Standard error without the library's lock, which a writer that sleeps would hold.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Descriptor 2, whatever it is.
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(rustix::stdio::stderr(), bytes) {
                Ok(len) => return Ok(len),
                Err(rustix::io::Errno::INTR) => {}
                // Some other process made the pipe or terminal that we share non-blocking.
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
    let _looked_at_again = poll(&mut polled, second.as_ref());
}
