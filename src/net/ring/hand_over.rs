//! What a hand-over asks of a ring: an end of receives and waits, and plain descriptors.
#![expect(unsafe_code, reason = "the kernel returns a descriptor as a number")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::{IoUring, opcode, squeue};

use super::{
    CANCEL, CANCEL_WAIT, DETACH, FixedIndex, KIND_FILE, KIND_RECEIVE, KIND_WRITABLE, Ring, low_16,
};
use crate::net::io::Key;

impl Ring {
    /// As [`Io::cancel_receive`](crate::net::io::Io::cancel_receive): by user data, which the kernel finds by a hash.
    /// Cancelling all that a file or a ring has pending walks over every request instead.
    pub fn cancel_receive(&mut self, key: Key) {
        let number = self.cancels.begin(key);
        let entry = opcode::AsyncCancel::new(KIND_RECEIVE | key).build();
        self.queue(entry.user_data(KIND_FILE | CANCEL | u64::from(number)));
    }

    /// Repeats a cancel that came while the kernel was restarting the receive.
    pub(super) fn cancel_done(&mut self, word: u64, found: bool) {
        let number = u32::try_from(word & LOW_32).expect("32 bits");
        if let Some(key) = self.cancels.completed(number, found) {
            self.cancel_receive(key);
        }
    }

    /// As [`Io::cancel_waits`](crate::net::io::Io::cancel_waits).
    pub fn cancel_waits(&mut self) {
        if self.awaiting == 0 {
            return;
        }
        // Which of them are sends is noted nowhere: the cancel of one finds nothing. A later operation with the same
        // index is submitted after the cancel.
        let indices: Vec<usize> = self.lent.iter().map(|(index, _)| index).collect();
        for index in indices {
            let wait = KIND_WRITABLE | u64::try_from(index).expect("a slab index");
            let entry = opcode::AsyncCancel::new(wait).build();
            let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
            self.queue(entry.user_data(KIND_FILE | CANCEL_WAIT));
        }
    }

    /// Queues the making of a plain descriptor beside the fixed file `place`. [`Ring::take_detached`] returns it with
    /// its `position`, after the entry that submits it.
    pub fn detach(&mut self, place: FixedIndex, position: u16) {
        // No flags: close-on-exec.
        let entry = opcode::FixedFdInstall::new(place.target(), 0).build();
        self.queue(entry.user_data(KIND_FILE | DETACH | u64::from(position)));
    }

    /// Takes the plain descriptors made since the last call; dropping one closes it, not the connection.
    pub fn take_detached(&mut self) -> Vec<(u16, io::Result<OwnedFd>)> {
        std::mem::take(&mut self.detached)
    }

    pub(super) fn detach_done(&mut self, word: u64, result: i32) {
        let descriptor = match result {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
            made @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(made) }),
            error => Err(io::Error::from_raw_os_error(-error)),
        };
        self.detached.push((low_16(word), descriptor));
    }
}

/// As [`Rings::can_detach`](crate::net::rings::Rings::can_detach); asks a ring without tables and buffers, whose memory
/// would never be freed.
pub(in crate::net) fn can_detach() -> io::Result<bool> {
    let uring = IoUring::new(1)?;
    let mut probe = io_uring::Probe::new();
    uring.submitter().register_probe(&mut probe)?;
    Ok(probe.is_supported(opcode::FixedFdInstall::CODE))
}

/// The lower half of the user data of [`KIND_FILE`].
const LOW_32: u64 = 0xFFFF_FFFF;
