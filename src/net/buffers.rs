//! Receive buffers lent to the kernel: one provided-buffer ring to each ring.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::backend::Received;
use uproar_proto::base::limits::{PARSE_PADDING_BYTES, RECEIVE_BUFFER_BYTES};

const PAGE_BYTES: usize = 4096;
const GROUP: u16 = 0;

/// The buffers and the ring through which the kernel takes them. The memory is never freed, because the kernel
/// may write to it until the process ends.
#[derive(Debug)]
pub(super) struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    // A power of two.
    count: u16,
    tail: u16,
    ring: u16,
}

/// One buffer that the kernel filled: exclusive until it is given back with `Buffers::recycle`, which takes it
/// by value. Its bytes are borrowed from it, so no caller can keep them beyond that.
///
/// ```compile_fail
/// # use uproar::net::buffers::ReceivedBuffer;
/// fn keep(mut buffer: ReceivedBuffer, recycle: impl FnOnce(ReceivedBuffer)) {
///     let bytes = buffer.bytes();
///     recycle(buffer);
///     bytes[0] = 0;
/// }
/// ```
#[derive(Debug)]
#[must_use = "the kernel has one buffer less until it is recycled"]
pub struct ReceivedBuffer {
    id: u16,
    ring: u16,
    start: *mut u8,
    received: usize,
}

impl ReceivedBuffer {
    /// Returns the whole buffer: received bytes, then at least `PARSE_PADDING_BYTES` that may be read.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the buffer lies within `Buffers::memory`, which is initialised and never freed. The
        // completion handed it over: neither the kernel nor another `ReceivedBuffer` touches it until
        // `recycle` consumes this one, because each `add` yields at most one completion.
        unsafe { std::slice::from_raw_parts_mut(self.start, RECEIVE_BUFFER_BYTES) }
    }

    /// Number of received bytes.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Number of the ring that owns the buffer.
    pub(super) fn ring(&self) -> u16 {
        self.ring
    }
}

impl Received for ReceivedBuffer {
    fn bytes(&mut self) -> &mut [u8] {
        Self::bytes(self)
    }

    fn received(&self) -> usize {
        Self::received(self)
    }
}

impl Buffers {
    /// Registers `count` buffers, a power of two, with ring number `ring`, whose submitter is `submitter`.
    pub(super) fn register(submitter: &Submitter<'_>, ring: u16, count: u16) -> io::Result<Self> {
        let all = usize::from(count);
        #[expect(clippy::cast_ptr_alignment, reason = "`allocate` returns whole pages")]
        let entries = allocate(all * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        let memory = allocate(all * RECEIVE_BUFFER_BYTES);
        let address = u64::try_from(entries.addr()).expect("addresses have 64 bits");
        // SAFETY: `entries` is page-aligned, zeroed, long enough for `count` entries, and never
        // freed.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0) }?;
        let mut buffers = Self {
            entries,
            memory,
            count,
            tail: 0,
            ring,
        };
        for id in 0..count {
            buffers.add(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The buffer group's id, for receives.
    pub(super) const fn group() -> u16 {
        GROUP
    }

    /// Takes buffer `id`, into which the kernel put `len` bytes, as a completion just reported.
    ///
    /// # Panics
    ///
    /// If the kernel names a buffer or a length we never gave it.
    pub(super) fn received(&mut self, id: u16, len: usize) -> ReceivedBuffer {
        assert!(id < self.count, "buffer {id} of {}", self.count);
        assert!(
            len <= RECEIVE_BUFFER_BYTES - PARSE_PADDING_BYTES,
            "{len} bytes in one buffer"
        );
        ReceivedBuffer {
            id,
            ring: self.ring,
            start: self.start(id),
            received: len,
        }
    }

    /// Returns the first byte of buffer `id`.
    fn start(&self, id: u16) -> *mut u8 {
        self.memory
            .wrapping_add(usize::from(id) * RECEIVE_BUFFER_BYTES)
    }

    /// Gives a buffer back to the kernel.
    pub(super) fn recycle(&mut self, buffer: ReceivedBuffer) {
        let ReceivedBuffer { id, .. } = buffer;
        self.add(id);
        self.publish();
    }

    fn add(&mut self, id: u16) {
        let start = self.start(id);
        let position = usize::from(self.tail & (self.count - 1));
        let entry = self.entries.wrapping_add(position);
        // SAFETY: `position` is below the number of entries, and the kernel does not read an entry
        // at or behind the tail before `publish`.
        let entry = unsafe { &mut *entry };
        entry.set_addr(u64::try_from(start.addr()).expect("addresses have 64 bits"));
        entry.set_len(
            u32::try_from(RECEIVE_BUFFER_BYTES - PARSE_PADDING_BYTES).expect("a small constant"),
        );
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: `entries` is the first entry of the registered ring; the tail lives in its
        // reserved field, which `add` never writes.
        let tail = unsafe { BufRingEntry::tail(self.entries) };
        // SAFETY: aligned, never freed, and shared with the kernel only through atomic access.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Allocates page-aligned zeroed memory that is never freed.
fn allocate(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("constants make a valid layout");
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    if memory.is_null() {
        handle_alloc_error(layout);
    }
    memory
}
