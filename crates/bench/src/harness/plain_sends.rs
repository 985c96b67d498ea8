//! The kernel's line: what a loop of plain `send` calls on one pinned thread delivers. No server
//! that copies passes it on this machine. The other ends are emptied as `fanout` empties the
//! receivers it does not sample.

use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::io::Errno;
use rustix::net::SendFlags;
use serde_json::{Value, json};

use super::drain::{BulkReceiver, Drain, PASS};
use super::error::BenchError;
use super::machine;

/// How the loop hands bytes to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// `send`, which copies them.
    Buffer,
    /// `sendfile` from a memory file, whose pages go to the receiver uncopied.
    MemoryFile,
}

/// Pairs of connected sockets, both ends in this process.
pub(crate) struct PlainSends {
    senders: Vec<TcpStream>,
    receivers: Vec<BulkReceiver>,
}

/// A point of the line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinePoint {
    /// Frames in one send, mean.
    pub(crate) messages_per_send: f64,
    /// Frames that arrived at the other ends, per second.
    pub(crate) deliveries_per_second: f64,
    /// Time of the sending thread for one send, in nanoseconds.
    pub(crate) nanos_per_send: f64,
    /// Share of the sends that found the socket full, wholly or in part. If it is high, the bound
    /// is the thread that empties the sockets.
    pub(crate) full: f64,
}

/// What one measurement sends.
pub(crate) struct Work {
    /// Length of one delivered frame on the wire, in bytes, mean.
    pub(crate) frame_bytes: f64,
    pub(crate) source: Source,
    pub(crate) measured: Duration,
}

impl PlainSends {
    /// Connects `receivers` pairs, or as many as the descriptor limit allows.
    pub(crate) fn connect(receivers: usize) -> Result<Self, BenchError> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let count = receivers.clamp(1, pairs_max());
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            receivers.push(BulkReceiver::new(TcpStream::connect(address)?)?);
            let (sender, _) = listener.accept()?;
            sender.set_nodelay(true)?;
            sender.set_nonblocking(true)?;
            senders.push(sender);
        }
        Ok(Self { senders, receivers })
    }

    /// Returns the number of pairs.
    pub(crate) fn receivers(&self) -> usize {
        self.senders.len()
    }

    /// Sends `messages_per_send` frames to each socket in turn, again and again. The sending thread
    /// is pinned to the first processor; the calling thread is pinned to the last one and empties
    /// the sockets.
    pub(crate) fn measure(
        &mut self,
        work: &Work,
        messages_per_send: f64,
    ) -> Result<LinePoint, BenchError> {
        let bytes = (work.frame_bytes * messages_per_send).round().max(1.0);
        let block = Block::new(bytes as usize, work.source)?;
        let (sent, arrived) = self.drive(|senders| send(senders, &block, work.measured))?;
        let Arrived { bytes, seconds } = arrived;
        Ok(LinePoint {
            messages_per_send,
            deliveries_per_second: bytes as f64 / work.frame_bytes / seconds,
            nanos_per_send: sent.elapsed.as_nanos() as f64 / sent.sends as f64,
            full: sent.full as f64 / sent.sends as f64,
        })
    }

    /// Has `send` send to all sockets, on a thread pinned to the first processor, while the calling
    /// one, pinned to the last, empties them. Returns what `send` does, and what arrived.
    pub(crate) fn drive<T: Send>(
        &mut self,
        send: impl FnOnce(&[TcpStream]) -> Result<T, Errno> + Send,
    ) -> Result<(T, Arrived), BenchError> {
        let stop = AtomicBool::new(false);
        let (senders, receivers) = (&self.senders, &mut self.receivers);
        let begun = Instant::now();
        let mut received = Received {
            bytes: 0,
            last: begun,
        };
        let sent = std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                machine::pin(0..1);
                let sent = send(senders);
                stop.store(true, Ordering::Relaxed);
                sent
            });
            machine::pin_to_last();
            received = empty(receivers, &stop);
            sending.join().expect("the sending thread does not panic")
        });
        // By what arrived: send buffers take megabytes that nobody has received yet.
        let seconds = received.last.duration_since(begun).as_secs_f64();
        let arrived = Arrived {
            bytes: received.bytes,
            seconds,
        };
        Ok((sent.map_err(io::Error::from)?, arrived))
    }
}

/// What arrived at the other ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    pub(crate) bytes: u64,
    /// From the beginning of the sends to the last receipt.
    pub(crate) seconds: f64,
}

/// The bytes of one send.
struct Block {
    bytes: Vec<u8>,
    /// The same bytes, if they are sent from a file.
    file: Option<File>,
}

impl Block {
    fn new(len: usize, source: Source) -> io::Result<Self> {
        let bytes = vec![b'x'; len];
        let file = match source {
            Source::Buffer => None,
            Source::MemoryFile => {
                let mut file = File::from(memfd_create("uproar-floor", MemfdFlags::CLOEXEC)?);
                file.write_all(&bytes)?;
                Some(file)
            }
        };
        Ok(Self { bytes, file })
    }

    /// Sends what a non-blocking socket takes; returns its length in bytes.
    fn send(&self, socket: &TcpStream) -> Result<usize, Errno> {
        match &self.file {
            None => rustix::net::send(socket, &self.bytes, SendFlags::NOSIGNAL),
            Some(file) => sendfile(socket, file, Some(&mut 0), self.bytes.len()),
        }
    }
}

struct Sent {
    sends: u64,
    /// Sends that found the socket full, wholly or in part.
    full: u64,
    elapsed: Duration,
}

fn send(senders: &[TcpStream], block: &Block, measured: Duration) -> Result<Sent, Errno> {
    let (mut sends, mut full) = (0, 0);
    let begun = Instant::now();
    while begun.elapsed() < measured {
        for sender in senders {
            sends += 1;
            match block.send(sender) {
                Ok(len) => full += u64::from(len < block.bytes.len()),
                Err(Errno::AGAIN) => full += 1,
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Sent {
        sends,
        full,
        elapsed: begun.elapsed(),
    })
}

struct Received {
    bytes: u64,
    /// When the last bytes came.
    last: Instant,
}

/// Passes over the sockets until `stop` is set and a pass finds nothing.
fn empty(receivers: &mut [BulkReceiver], stop: &AtomicBool) -> Received {
    let mut drain = Drain::new();
    let (mut bytes, mut last) = (0, Instant::now());
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        let begun = Instant::now();
        let drained: u64 = receivers
            .iter_mut()
            .map(|each| each.empty(&mut drain))
            .sum();
        if drained > 0 {
            bytes += drained;
            last = Instant::now();
        } else if stopped {
            return Received { bytes, last };
        }
        std::thread::sleep(PASS.saturating_sub(begun.elapsed()));
    }
}

/// Returns how many pairs the descriptor limit allows.
fn pairs_max() -> usize {
    let pairs = machine::descriptor_limit().saturating_sub(DESCRIPTORS_KEPT) / 2;
    usize::try_from(pairs).unwrap_or(usize::MAX).max(1)
}

impl LinePoint {
    /// Time of the sending thread for one frame, in nanoseconds.
    pub(crate) fn nanos_per_delivery(&self) -> f64 {
        self.nanos_per_send / self.messages_per_send
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "messages_per_send": self.messages_per_send,
            "deliveries_per_second": self.deliveries_per_second.round(),
            "ns_per_send": self.nanos_per_send.round(),
            "full": self.full,
        })
    }
}

/// Descriptors that this process needs for everything else.
const DESCRIPTORS_KEPT: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each point counts what the kernel really took, and leaves nothing behind.
    #[test]
    fn what_was_sent_was_emptied() {
        for source in [Source::Buffer, Source::MemoryFile] {
            let mut pairs = PlainSends::connect(3).expect("loopback");
            assert_eq!(pairs.receivers(), 3);
            let work = Work {
                frame_bytes: 100.0,
                source,
                measured: Duration::from_millis(20),
            };
            for messages in [1.0, 64.0] {
                let point = pairs.measure(&work, messages).expect("loopback");
                assert!(point.deliveries_per_second > 0.0);
                assert!((0.0..=1.0).contains(&point.full));
            }
            let emptied: u64 = pairs.receivers.iter().map(|each| each.bytes).sum();
            assert!(emptied > 0);
            let left = empty(&mut pairs.receivers, &AtomicBool::new(true));
            assert_eq!(left.bytes, 0, "something was left in the sockets");
        }
    }
}
