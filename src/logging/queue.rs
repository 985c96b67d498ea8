//! Lines waiting for the writer: bounded in number and bytes; senders never wait.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use uproar_proto::base::limits::{LOG_LINE_BYTES_MAX, LOG_QUEUE_BYTES_MAX, LOG_QUEUE_LINES_MAX};

/// The serving threads' side.
#[derive(Debug)]
pub(super) struct Queue {
    lines: SyncSender<Vec<u8>>,
    // Bytes of lines that were accepted and not yet written.
    bytes: AtomicUsize,
    pending: AtomicUsize,
    lost: AtomicU64,
}

impl Queue {
    /// An empty queue, and the receiver of its lines.
    pub(super) fn new() -> (Self, Receiver<Vec<u8>>) {
        let (lines, receiver) = sync_channel(LOG_QUEUE_LINES_MAX);
        let queue = Self {
            lines,
            bytes: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        };
        (queue, receiver)
    }

    /// Accepts `line`, or counts it as lost. Never waits.
    pub(super) fn push(&self, line: Vec<u8>) {
        let len = line.len();
        let queued = self.bytes.fetch_add(len, Ordering::Relaxed);
        self.pending.fetch_add(1, Ordering::Relaxed);
        let fits = len <= LOG_LINE_BYTES_MAX && queued + len <= LOG_QUEUE_BYTES_MAX;
        if !fits || self.lines.try_send(line).is_err() {
            self.done(len);
            self.lose();
        }
    }

    /// A line of `len` bytes was written or lost.
    pub(super) fn done(&self, len: usize) {
        self.bytes.fetch_sub(len, Ordering::Relaxed);
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// A line could not be written.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Lines that could not be written.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether every accepted line was written or lost.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a sleeping writer costs lines, counted, and nothing else. Method: receive nothing; fill the queue by
    /// number, then by bytes.
    #[test]
    fn a_full_queue_loses_and_counts() {
        let (queue, receiver) = Queue::new();
        for _ in 0..LOG_QUEUE_LINES_MAX + 7 {
            queue.push(b"x\n".to_vec());
        }
        assert_eq!(queue.lost(), 7);
        assert_eq!(
            receiver
                .try_iter()
                .map(|line| queue.done(line.len()))
                .count(),
            LOG_QUEUE_LINES_MAX
        );
        assert!(queue.is_idle());

        let long = vec![b'x'; LOG_LINE_BYTES_MAX];
        let fit = LOG_QUEUE_BYTES_MAX / LOG_LINE_BYTES_MAX;
        for _ in 0..fit + 3 {
            queue.push(long.clone());
        }
        assert_eq!(queue.lost(), 7 + 3);
        assert_eq!(receiver.try_iter().count(), fit);
        drop(receiver);
        queue.push(vec![b'x'; LOG_LINE_BYTES_MAX + 1]);
        assert_eq!(queue.lost(), 7 + 3 + 1);
    }
}
