//! One io_uring: its fixed files, multishot receives, sends from the room log.
//!
//! Owns: submissions, completions, receive buffers, the connections (fixed files, which take no descriptor
//! of the process), and every outgoing buffer until its completion.
//! Never: the meaning of the bytes.
#![expect(unsafe_code, reason = "submissions hand memory to the kernel")]
#![expect(
    clippy::disallowed_methods,
    reason = "refused entries are judged by their time, below any turn"
)]

mod cancels;
pub(in crate::net) mod hand_over;
mod refusals;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use self::cancels::Cancels;
use self::refusals::Refusals;
use super::backend;
use super::buffers::{Buffers, ReceivedBuffer};
use super::io::{Key, Queued, SendBuffer, Shutdown};
use uproar_proto::base::limits::{
    ENTERS_FURTHER_MAX, RECEIVE_BUFFERS, RECEIVE_BUFFERS_FURTHER, RING_COMPLETIONS, RING_ENTRIES,
};

/// `IORING_ENTER_GETEVENTS`: run deferred work and flush overflown completions.
const ENTER_GETEVENTS: u32 = 1;

/// Fewest pieces of deferred work that the kernel does in one entry.
const DEFERRED_AN_ENTRY: u32 = 20;

const KIND_SHIFT: u32 = 62;
const KIND_WRITABLE: u64 = 0;
const KIND_RECEIVE: u64 = 1 << KIND_SHIFT;
const KIND_SEND: u64 = 2 << KIND_SHIFT;
const KIND_FILE: u64 = 3 << KIND_SHIFT;
const KIND_MASK: u64 = 3 << KIND_SHIFT;
/// With [`KIND_FILE`]: a close; without it a shutdown.
const CLOSE: u64 = 1 << 32;
/// With [`KIND_FILE`]: an abort.
const ABORT: u64 = 1 << 33;
/// With [`KIND_FILE`]: the cancel of a receive, and its number.
const CANCEL: u64 = 1 << 34;
/// With [`KIND_FILE`]: the cancel of a wait, which found none.
const CANCEL_WAIT: u64 = 1 << 35;
/// With [`KIND_FILE`]: a plain descriptor was made; and its position among those asked for.
const DETACH: u64 = 1 << 36;

/// The operations that this ring submits, and tokio-uring for handshakes.
const OPERATIONS: [(u8, &str); 8] = [
    (opcode::PollAdd::CODE, "poll"),
    (opcode::RecvMulti::CODE, "recv"),
    (opcode::Send::CODE, "send"),
    (opcode::Shutdown::CODE, "shutdown"),
    (opcode::Connect::CODE, "connect"),
    (opcode::Read::CODE, "read"),
    (opcode::Write::CODE, "write"),
    (opcode::Close::CODE, "close"),
];

/// A completion of a ring.
pub type Completion = backend::Completion<ReceivedBuffer>;

/// The sizes of a ring.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Fixed files in its table.
    pub places: u32,
    /// Submissions in the queue for one entry into the kernel; more wait on this side.
    pub entries: u32,
    /// Completions in the queue; more wait in the kernel.
    pub completions: u32,
    /// Receive buffers, a power of two.
    pub buffers: u16,
    /// Receive buffers of each further ring, a power of two.
    pub buffers_further: u16,
}

impl Sizes {
    /// The default sizes, with this many fixed files.
    pub const fn usual(places: u32) -> Self {
        Self {
            places,
            entries: RING_ENTRIES,
            completions: RING_COMPLETIONS,
            buffers: RECEIVE_BUFFERS,
            buffers_further: RECEIVE_BUFFERS_FURTHER,
        }
    }
}

/// The index of a fixed file in its ring's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FixedIndex(u16);

impl FixedIndex {
    fn target(self) -> types::Fixed {
        types::Fixed(u32::from(self.0))
    }
}

/// One ring; used only by the thread that made it.
pub struct Ring {
    uring: IoUring,
    buffers: Buffers,
    // Invariant: every buffer the kernel may read is in here until its completion.
    lent: slab::Slab<(Key, SendBuffer)>,
    // Submissions that did not fit into the queue.
    backlog: VecDeque<squeue::Entry>,
    refusals: Refusals,
    // Sends queued since this was last taken.
    queued: Queued,
    // Connections that wait to become writable.
    awaiting: u32,
    // The free fixed files below `used`, and the high-water mark of the table.
    free: Vec<FixedIndex>,
    used: u32,
    places: u32,
    // Pending shutdowns. The kernel looks up their fixed file only when a worker runs them, so until then
    // another connection must not get it.
    shutting: HashMap<FixedIndex, Shutting>,
    cancels: Cancels,
    // Plain descriptors made since they were last taken, by position.
    detached: Vec<(u16, io::Result<OwnedFd>)>,
}

#[derive(Debug, Default)]
struct Shutting {
    pending: u32,
    close: bool,
}

impl Ring {
    /// Sets up ring number `number` of a shard with these sizes; completions signal `event`.
    ///
    /// # Errors
    ///
    /// The errors of `io_uring_setup` or a registration: `EPERM` or `ENOSYS` where io_uring is
    /// forbidden or missing, `ENOMEM` under a small memlock limit, `EMFILE` if `places` is above the
    /// limit on open files.
    pub fn new(number: u16, sizes: Sizes, event: BorrowedFd<'_>) -> io::Result<Self> {
        let Sizes {
            places,
            entries,
            completions,
            buffers,
            ..
        } = sizes;
        let uring = IoUring::builder()
            .setup_cqsize(completions)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .build(entries)?;
        uring.submitter().register_files_sparse(places)?;
        let buffers = Buffers::register(&uring.submitter(), number, buffers)?;
        uring.submitter().register_eventfd(event.as_raw_fd())?;
        let backlog = VecDeque::with_capacity(64);
        Ok(Self {
            uring,
            buffers,
            lent: slab::Slab::new(),
            backlog,
            refusals: Refusals::default(),
            queued: Queued::default(),
            awaiting: 0,
            free: Vec::new(),
            used: 0,
            places,
            shutting: HashMap::new(),
            cancels: Cancels::default(),
            detached: Vec::new(),
        })
    }

    /// Whether another connection fits.
    pub fn has_vacancy(&self) -> bool {
        !self.free.is_empty() || self.used < self.places
    }

    /// Installs `socket` as a fixed file, which holds it open from now on.
    ///
    /// # Errors
    ///
    /// The kernel's errors, above all missing memory.
    ///
    /// # Panics
    ///
    /// If [`Ring::has_vacancy`] is false.
    pub fn install(&mut self, socket: &OwnedFd) -> io::Result<FixedIndex> {
        let place = self.free.pop().unwrap_or_else(|| {
            assert!(self.used < self.places, "asked for a vacancy first");
            let place = u16::try_from(self.used).expect("tables have at most 2^16 places");
            self.used += 1;
            FixedIndex(place)
        });
        let offset = u32::from(place.0);
        let installed = self
            .uring
            .submitter()
            .register_files_update(offset, &[socket.as_raw_fd()]);
        if let Err(error) = installed {
            self.free.push(place);
            return Err(error);
        }
        Ok(place)
    }

    /// Returns the names of the operations of both of a shard's rings that this kernel lacks.
    pub fn missing_operations(&self) -> io::Result<Vec<&'static str>> {
        let mut probe = io_uring::Probe::new();
        self.uring.submitter().register_probe(&mut probe)?;
        let missing = OPERATIONS
            .iter()
            .filter(|(code, _)| !probe.is_supported(*code));
        Ok(missing.map(|(_, name)| *name).collect())
    }

    /// Sets whether completions signal the eventfd; the caller places a fence after the change.
    pub fn signal(&mut self, on: bool) {
        let completions = self.uring.completion();
        if on {
            completions.enable_eventfd();
        } else {
            completions.disable_eventfd();
        }
    }

    /// Whether [`Ring::enter`] has work: submissions, deferred work, or completions that did not fit into the
    /// queue.
    pub fn wants_entry(&mut self) -> bool {
        let submissions = self.uring.submission();
        !submissions.is_empty()
            || submissions.taskrun()
            || submissions.cq_overflow()
            || !self.backlog.is_empty()
    }

    /// Submits everything queued and runs the kernel's deferred work, up to [`ENTERS_FURTHER_MAX`] further entries.
    /// The rest is left for the next entry, which [`Ring::has_completions`] asks for.
    ///
    /// # Errors
    ///
    /// The ring cannot be used any more: the kernel lost completions, or refuses the ring itself.
    pub fn enter(&mut self) -> io::Result<()> {
        let mut further = (self.awaiting / DEFERRED_AN_ENTRY).min(ENTERS_FURTHER_MAX);
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
                Ok(_) if self.backlog.is_empty() => {
                    self.refusals.over();
                    if further == 0 || !self.uring.submission().taskrun() {
                        return Ok(());
                    }
                    further -= 1;
                }
                Ok(0) => return Ok(()),
                Ok(_) => self.refusals.over(),
                Err(error) => return self.refusals.judge(error, Instant::now()),
            }
        }
    }

    /// Takes the next completion, if any arrived.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.uring.completion().next()?;
            let mut result = match entry.result() {
                length @ 0.. => Ok(usize::try_from(length).expect("not negative")),
                error => Err(io::Error::from_raw_os_error(-error)),
            };
            let word = entry.user_data();
            match word & KIND_MASK {
                KIND_RECEIVE => {
                    let buffer = match (cqueue::buffer_select(entry.flags()), &result) {
                        (Some(id), Ok(len)) => Some(self.buffers.received(id, *len)),
                        _ => None,
                    };
                    let more = cqueue::more(entry.flags());
                    if !more && self.cancels.ended(word & !KIND_MASK) {
                        result = cancelled(result);
                    }
                    return Some(Completion::Received {
                        key: word & !KIND_MASK,
                        buffer,
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
                KIND_WRITABLE => {
                    let index = usize::try_from(word).expect("a slab index");
                    let (key, outgoing) = self.lent.remove(index);
                    self.awaiting -= 1;
                    return Some(Completion::Writable { key, outgoing });
                }
                _ if word & CANCEL != 0 => self.cancel_done(word, result.is_ok()),
                _ if word & CANCEL_WAIT != 0 => {}
                _ if word & DETACH != 0 => self.detach_done(word, entry.result()),
                _ => self.file_done(word, result.is_ok()),
            }
        }
    }

    /// Handles a completed shutdown, abort or close.
    fn file_done(&mut self, word: u64, done: bool) {
        let place = FixedIndex(low_16(word));
        if word & CLOSE != 0 {
            self.free.push(place);
            return;
        }
        if word & ABORT != 0 && !done {
            // Not a TCP connection, as in tests: a shutdown makes its operations complete.
            self.shutdown(place, Shutdown::Both);
        }
        let Some(shutting) = self.shutting.get_mut(&place) else {
            return;
        };
        shutting.pending -= 1;
        if shutting.pending > 0 {
            return;
        }
        let close = shutting.close;
        self.shutting.remove(&place);
        if close {
            self.close(place);
        }
    }

    /// Whether completions wait, or work that the next [`Ring::enter`] turns into completions.
    pub fn has_completions(&mut self) -> bool {
        let mut completions = self.uring.completion();
        completions.sync();
        let waiting = !completions.is_empty();
        drop(completions);
        waiting || self.wants_entry()
    }

    /// Number of completions that did not fit into the queue and that the kernel kept.
    pub fn overflow_count(&mut self) -> u32 {
        self.uring.completion().overflow()
    }

    /// Gives a receive buffer back to the kernel.
    pub fn recycle(&mut self, buffer: ReceivedBuffer) {
        self.buffers.recycle(buffer);
    }

    /// Takes the count of sends queued since the last call.
    pub fn take_queued(&mut self) -> Queued {
        std::mem::take(&mut self.queued)
    }

    /// As [`Io::receive`](super::io::Io::receive).
    pub fn receive(&mut self, place: FixedIndex, key: Key) {
        let entry = opcode::RecvMulti::new(place.target(), Buffers::group())
            .build()
            .user_data(KIND_RECEIVE | key);
        self.queue(entry);
    }

    /// As [`Io::send`](super::io::Io::send).
    pub fn send(&mut self, place: FixedIndex, key: Key, outgoing: SendBuffer) {
        let pointer = outgoing.as_ptr();
        let length = u32::try_from(outgoing.remaining()).unwrap_or(u32::MAX);
        let index = self.lent.insert((key, outgoing));
        let entry = opcode::Send::new(place.target(), pointer, length)
            .flags(SEND_FLAGS)
            .build()
            .user_data(KIND_SEND | u64::try_from(index).expect("a slab index"));
        self.queued += Queued {
            sends: 1,
            bytes: length.into(),
        };
        self.queue(entry);
    }

    /// As [`Io::await_writable`](super::io::Io::await_writable).
    pub fn await_writable(&mut self, place: FixedIndex, key: Key, outgoing: SendBuffer) {
        self.awaiting += 1;
        let index = self.lent.insert((key, outgoing));
        let entry = opcode::PollAdd::new(place.target(), u32::from(libc::POLLOUT.unsigned_abs()))
            .build()
            .user_data(KIND_WRITABLE | u64::try_from(index).expect("a slab index"));
        self.queue(entry);
    }

    /// As [`Io::shutdown`](super::io::Io::shutdown). A failure means that the peer closed first.
    pub fn shutdown(&mut self, place: FixedIndex, how: Shutdown) {
        let target = place.target();
        let (entry, word) = match how {
            Shutdown::Write => (opcode::Shutdown::new(target, SHUT_WR).build(), 0),
            Shutdown::Both => (opcode::Shutdown::new(target, SHUT_RDWR).build(), 0),
            Shutdown::Abort => (abort(target), ABORT),
        };
        self.shutting.entry(place).or_default().pending += 1;
        self.queue(entry.user_data(KIND_FILE | word | u64::from(place.0)));
    }

    /// As [`Io::close`](super::io::Io::close); waits for pending shutdowns.
    pub fn close(&mut self, place: FixedIndex) {
        if let Some(shutting) = self.shutting.get_mut(&place) {
            shutting.close = true;
            return;
        }
        let entry = opcode::Close::new(place.target())
            .build()
            .user_data(KIND_FILE | CLOSE | u64::from(place.0));
        self.queue(entry);
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
        // `lent`, initialised and unchanged, until its completion; a connect names a static.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }
}

fn low_16(word: u64) -> u16 {
    let [low, high, ..] = word.to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// The result of a cancelled receive: a kernel worker that was to wait for it is interrupted instead.
fn cancelled(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EINTR) => {
            Err(io::Error::from_raw_os_error(libc::ECANCELED))
        }
        other => other,
    }
}

/// Aborts a TCP connection by connecting it to no address (connect(2)): the kernel drops the bytes it holds for
/// the peer, sends RST, and pending operations complete with `ECONNRESET`. `SO_LINGER` would need a
/// descriptor, or Linux 6.7.
fn abort(target: types::Fixed) -> squeue::Entry {
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr>()).expect("sixteen bytes");
    opcode::Connect::new(target, &raw const NO_ADDRESS, len).build()
}

/// `AF_UNSPEC`, as wide as the kernel reads it.
const UNSPECIFIED: libc::sa_family_t = 0;

/// An address of no family; the kernel copies it at submission.
static NO_ADDRESS: libc::sockaddr = libc::sockaddr {
    sa_family: UNSPECIFIED,
    sa_data: [0; 14],
};

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may still read lent buffers: they are leaked rather than freed during a send.
        std::mem::forget(std::mem::take(&mut self.lent));
    }
}

/// A send never waits for space in the socket, and a broken one raises no signal.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
const SHUT_WR: i32 = 1;
const SHUT_RDWR: i32 = 2;
