//! The shard's own io_uring: multishot receives, sends from the room log, one `io_uring_enter` a turn.
//!
//! Owns: submissions, completions, receive buffers, and every outgoing buffer until its completion.
//! Never: what the bytes mean.
#![expect(unsafe_code, reason = "submissions hand memory to the kernel")]

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::EventfdFlags;

use super::buffers::{Buffers, Filled};
use super::wire::{Key, Outgoing, Shutdown, Wire};
use crate::base::limits::{RING_COMPLETIONS, RING_ENTRIES};

/// `IORING_ENTER_GETEVENTS`: run deferred work and flush overflown completions.
const ENTER_GETEVENTS: u32 = 1;

const KIND_SHIFT: u32 = 62;
const KIND_RECEIVE: u64 = 1 << KIND_SHIFT;
const KIND_SEND: u64 = 2 << KIND_SHIFT;
const KIND_MASK: u64 = 3 << KIND_SHIFT;

/// What this ring submits, and tokio-uring for accept and handshake.
const OPERATIONS: [(u8, &str); 6] = [
    (opcode::RecvMulti::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::Accept::CODE, "accept"),
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Close::CODE, "close"),
];

/// What the kernel reports.
#[derive(Debug)]
pub enum Completion {
    /// Bytes arrived, or the receive ended.
    Received {
        /// Whose.
        key: Key,
        /// The bytes; `None` at the end (`Ok(0)`) and on errors.
        filled: Option<Filled>,
        /// Length, 0 at the end of the stream, or the error.
        result: io::Result<usize>,
        /// Whether the receive goes on by itself.
        more: bool,
    },
    /// A send ended, perhaps short.
    Sent {
        /// Whose.
        key: Key,
        /// What was to be sent; not yet advanced.
        outgoing: Outgoing,
        /// Bytes the kernel took.
        result: io::Result<usize>,
    },
}

/// One ring; used only by the thread that made it.
pub struct Ring {
    uring: IoUring,
    buffers: Buffers,
    // Invariant: every buffer the kernel may read is in here until its completion.
    lent: slab::Slab<(Key, Outgoing)>,
    // Submissions that found the queue full.
    backlog: VecDeque<squeue::Entry>,
    // Sends queued since the count was last taken.
    queued_sends: u32,
    event: OwnedFd,
}

impl Ring {
    /// Sets up the ring, its buffers and its eventfd.
    ///
    /// # Errors
    ///
    /// Whatever `io_uring_setup` or a registration says: `EPERM` or `ENOSYS` where io_uring is
    /// forbidden or missing, `ENOMEM` under a small memlock limit.
    pub fn new() -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_cqsize(RING_COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .build(RING_ENTRIES)?;
        let buffers = Buffers::register(&uring.submitter())?;
        let event = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        uring.submitter().register_eventfd(event.as_raw_fd())?;
        let backlog = VecDeque::with_capacity(64);
        Ok(Self {
            uring,
            buffers,
            lent: slab::Slab::new(),
            backlog,
            queued_sends: 0,
            event,
        })
    }

    /// Names of the operations of both of a shard's rings that this kernel lacks.
    pub fn missing_operations(&self) -> io::Result<Vec<&'static str>> {
        let mut probe = io_uring::Probe::new();
        self.uring.submitter().register_probe(&mut probe)?;
        let missing = OPERATIONS
            .iter()
            .filter(|(code, _)| !probe.is_supported(*code));
        Ok(missing.map(|(_, name)| *name).collect())
    }

    /// Readable when completions wait.
    pub fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Whether completions signal [`Ring::event`]. Off while the shard is awake anyway. After
    /// switching on, look for completions once more before sleeping.
    pub fn signal(&mut self, on: bool) {
        let completions = self.uring.completion();
        if on {
            completions.enable_eventfd();
        } else {
            completions.disable_eventfd();
        }
        // Pairs with the kernel's: it queues work, then looks at the switch; we set the switch, then
        // look for work.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// Submits everything queued and runs the kernel's deferred work: the one syscall of a turn.
    pub fn enter(&mut self) -> io::Result<()> {
        loop {
            self.unload_backlog();
            let queued = {
                let mut submissions = self.uring.submission();
                submissions.sync();
                submissions.len()
            };
            let queued = u32::try_from(queued).expect("a queue of RING_ENTRIES");
            // SAFETY: no argument structure is passed; every queued submission owns its memory
            // through `lent`, `buffers` or not at all.
            let entered = unsafe {
                self.uring
                    .submitter()
                    .enter::<()>(queued, 0, ENTER_GETEVENTS, None)
            };
            match entered {
                Ok(_) if self.backlog.is_empty() => return Ok(()),
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    // Interrupted, or completions must be reaped first: the next turn goes on.
                    Some(EINTR | EAGAIN | EBUSY) => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
    }

    /// The next completion, if any arrived.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.uring.completion().next()?;
            let result = match entry.result() {
                length @ 0.. => Ok(usize::try_from(length).expect("not negative")),
                error => Err(io::Error::from_raw_os_error(-error)),
            };
            let word = entry.user_data();
            match word & KIND_MASK {
                KIND_RECEIVE => {
                    let filled = match (cqueue::buffer_select(entry.flags()), &result) {
                        (Some(id), Ok(len)) => Some(self.buffers.filled(id, *len)),
                        _ => None,
                    };
                    let more = cqueue::more(entry.flags());
                    return Some(Completion::Received {
                        key: word & !KIND_MASK,
                        filled,
                        result,
                        more,
                    });
                }
                KIND_SEND => {
                    let index = usize::try_from(word & !KIND_MASK).expect("a slab index");
                    let (key, outgoing) = self.lent.remove(index);
                    return Some(Completion::Sent {
                        key,
                        outgoing,
                        result,
                    });
                }
                _ => {}
            }
        }
    }

    /// Whether completions wait, or work that the next [`Ring::enter`] turns into completions.
    pub fn has_completions(&mut self) -> bool {
        let mut completions = self.uring.completion();
        completions.sync();
        let waiting = !completions.is_empty();
        drop(completions);
        waiting || self.uring.submission().taskrun()
    }

    /// Completions the kernel could not place in the queue and kept aside.
    pub fn overflow_count(&mut self) -> u32 {
        self.uring.completion().overflow()
    }

    /// Gives a receive buffer back to the kernel.
    pub fn recycle(&mut self, filled: Filled) {
        self.buffers.recycle(filled);
    }

    /// Sends queued since the last call.
    pub fn take_queued_sends(&mut self) -> u32 {
        std::mem::take(&mut self.queued_sends)
    }

    /// Sends under way.
    pub fn sends_in_flight(&self) -> usize {
        self.lent.len()
    }

    fn queue(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() || !self.push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    fn unload_backlog(&mut self) {
        while let Some(entry) = self.backlog.front().cloned() {
            if !self.push(&entry) {
                return;
            }
            self.backlog.pop_front();
        }
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: a receive names only the registered buffer group; a send names memory that is in
        // `lent`, initialised and unchanged, until its completion.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }
}

impl Wire for Ring {
    type Socket = OwnedFd;

    fn receive(&mut self, socket: &OwnedFd, key: Key) {
        let entry = opcode::RecvMulti::new(types::Fd(socket.as_raw_fd()), Buffers::group())
            .build()
            .user_data(KIND_RECEIVE | key);
        self.queue(entry);
    }

    fn send(&mut self, socket: &OwnedFd, key: Key, outgoing: Outgoing) {
        let pointer = outgoing.as_ptr();
        let length = u32::try_from(outgoing.remaining()).unwrap_or(u32::MAX);
        let index = self.lent.insert((key, outgoing));
        let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), pointer, length)
            .flags(MSG_NOSIGNAL)
            .build()
            .user_data(KIND_SEND | u64::try_from(index).expect("a slab index"));
        self.queued_sends += 1;
        self.queue(entry);
    }

    fn peer(&self, socket: &OwnedFd) -> Option<IpAddr> {
        let address = rustix::net::getpeername(socket).ok().flatten()?;
        let address = SocketAddr::try_from(address).ok()?;
        Some(address.ip().to_canonical())
    }

    fn shutdown(&mut self, socket: &OwnedFd, how: Shutdown) {
        let how = match how {
            Shutdown::Write => rustix::net::Shutdown::Write,
            Shutdown::Both => rustix::net::Shutdown::Both,
        };
        // A failure means that the peer was faster.
        let _gone = rustix::net::shutdown(socket, how);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still read what is lent: leak it rather than free it under a send.
        std::mem::forget(std::mem::take(&mut self.lent));
    }
}

const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EBUSY: i32 = 16;
/// `ENOBUFS`: a multishot receive found no buffer; arm it again.
pub const ENOBUFS: i32 = 105;
const MSG_NOSIGNAL: i32 = 0x4000;
