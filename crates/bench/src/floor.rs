//! `uproar bench floor`: the kernel's line on this machine, which no server that copies passes: a loop of
//! plain `send` calls on one pinned thread, to sockets emptied as `fanout` empties its crowd's.

use std::fs::File;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::io::Errno;
use rustix::net::SendFlags;
use serde_json::{Value, json};

use super::load::{Member, PASS, SCRAP_BYTES};
use super::{BenchError, machine};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Sockets.
    pub receivers: usize,
    /// Bytes of one delivered frame on the wire, mean.
    pub frame_bytes: f64,
    /// Length of one measurement.
    pub measured: Duration,
    /// `sendfile` from a memory file, whose pages the receiver is given, instead of `send`, which copies.
    pub memory_file: bool,
}

/// What is sent again and again.
struct Piece {
    bytes: Vec<u8>,
    // Holds the same, if it is to be sent from there.
    file: Option<File>,
}

impl Piece {
    fn new(len: usize, memory_file: bool) -> io::Result<Self> {
        let bytes = vec![b'x'; len];
        let mut file = None;
        if memory_file {
            let memory = memfd_create("uproar-floor", MemfdFlags::CLOEXEC)?;
            file.insert(File::from(memory)).write_all(&bytes)?;
        }
        Ok(Self { bytes, file })
    }

    /// What the socket, which does not block, has room for.
    fn send(&self, socket: &TcpStream) -> Result<usize, Errno> {
        match &self.file {
            None => rustix::net::send(socket, &self.bytes, SendFlags::NOSIGNAL),
            Some(file) => sendfile(socket, file, Some(&mut 0), self.bytes.len()),
        }
    }
}

/// One point of the line.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Frames that one `send` carries, mean.
    pub messages_per_send: f64,
    /// Frames that came out at the other ends, a second.
    pub deliveries_per_second: f64,
    /// Nanoseconds of the sending thread for each `send`.
    pub nanos_per_send: f64,
    /// Share of the sends that found the socket full, wholly or in part: the emptying thread is the
    /// bound then.
    pub full: f64,
}

/// Sockets in pairs, both ends in this process.
pub struct Floor {
    plan: Plan,
    senders: Vec<TcpStream>,
    members: Vec<Member>,
}

impl Floor {
    /// Connects them: fewer than asked for where descriptors do not suffice.
    pub fn connect(plan: Plan) -> Result<Self, BenchError> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let receivers = plan.receivers.clamp(1, receivers_max());
        let (mut senders, mut members) = (Vec::new(), Vec::new());
        for _ in 0..receivers {
            members.push(Member::new(TcpStream::connect(address)?)?);
            let (sender, _) = listener.accept()?;
            sender.set_nodelay(true)?;
            sender.set_nonblocking(true)?;
            senders.push(sender);
        }
        Ok(Self {
            plan,
            senders,
            members,
        })
    }

    /// How many there are.
    pub fn receivers(&self) -> usize {
        self.senders.len()
    }

    /// Sends `messages_per_send` frames to each socket in turn, again and again. The calling thread is
    /// pinned to the last processor and empties, the sending one to the first.
    pub fn measure(&mut self, messages_per_send: f64) -> Result<Point, BenchError> {
        let stop = AtomicBool::new(false);
        let piece = self.plan.frame_bytes * messages_per_send;
        let piece = Piece::new(piece.round().max(1.0) as usize, self.plan.memory_file)?;
        let (senders, members) = (&self.senders, &mut self.members);
        let (measured, begun) = (self.plan.measured, Instant::now());
        let mut got = Got {
            bytes: 0,
            last: begun,
        };
        let sent = std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                machine::pin(0..1);
                let sent = send(senders, &piece, measured);
                stop.store(true, Ordering::Relaxed);
                sent
            });
            machine::pin_to_last();
            got = empty(members, &stop);
            sending.join().expect("the sending thread does not panic")
        })?;
        // By what came out: send buffers take megabytes that nobody has received yet.
        let seconds = got.last.duration_since(begun).as_secs_f64();
        Ok(Point {
            messages_per_send,
            deliveries_per_second: got.bytes as f64 / self.plan.frame_bytes / seconds,
            nanos_per_send: sent.elapsed.as_nanos() as f64 / sent.sends as f64,
            full: sent.full as f64 / sent.sends as f64,
        })
    }
}

struct Sent {
    sends: u64,
    full: u64,
    elapsed: Duration,
}

fn send(senders: &[TcpStream], piece: &Piece, measured: Duration) -> io::Result<Sent> {
    let (mut sends, mut full) = (0, 0);
    let begun = Instant::now();
    while begun.elapsed() < measured {
        for sender in senders {
            sends += 1;
            match piece.send(sender) {
                Ok(len) => full += u64::from(len < piece.bytes.len()),
                Err(Errno::AGAIN) => full += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(Sent {
        sends,
        full,
        elapsed: begun.elapsed(),
    })
}

struct Got {
    bytes: u64,
    last: Instant,
}

/// Passes over the sockets like `fanout`'s over its crowd, until told to stop and nothing comes any more.
fn empty(members: &mut [Member], stop: &AtomicBool) -> Got {
    let mut scrap = vec![0; SCRAP_BYTES];
    let (mut bytes, mut last) = (0, Instant::now());
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        let begun = Instant::now();
        let drained = members.iter_mut().map(|member| member.drain(&mut scrap));
        let drained = drained.sum::<u64>();
        if drained > 0 {
            bytes += drained;
            last = Instant::now();
        } else if stopped {
            return Got { bytes, last };
        }
        std::thread::sleep(PASS.saturating_sub(begun.elapsed()));
    }
}

/// Pairs that the descriptor limit allows.
fn receivers_max() -> usize {
    let limit = machine::descriptor_limit();
    let pairs = limit.saturating_sub(DESCRIPTORS_KEPT) / 2;
    usize::try_from(pairs).unwrap_or(usize::MAX).max(1)
}

impl Point {
    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "messages_per_send": self.messages_per_send,
            "deliveries_per_second": self.deliveries_per_second.round(),
            "ns_per_send": self.nanos_per_send.round(),
            "full": self.full,
        })
    }
}

/// Descriptors for everything else in this process.
const DESCRIPTORS_KEPT: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each point counts whole frames that the kernel really took, and leaves nothing behind.
    #[test]
    fn what_was_sent_was_emptied() {
        for memory_file in [false, true] {
            emptied(memory_file);
        }
    }

    fn emptied(memory_file: bool) {
        let mut floor = Floor::connect(Plan {
            receivers: 3,
            frame_bytes: 100.0,
            measured: Duration::from_millis(20),
            memory_file,
        })
        .expect("loopback");
        assert_eq!(floor.receivers(), 3);
        for messages in [1.0, 64.0] {
            let point = floor.measure(messages).expect("loopback");
            assert!(point.deliveries_per_second > 0.0);
            assert!((0.0..=1.0).contains(&point.full));
        }
        let emptied: u64 = floor.members.iter().map(|member| member.bytes).sum();
        assert!(emptied > 0);
        let left = empty(&mut floor.members, &AtomicBool::new(true));
        assert_eq!(left.bytes, 0, "something was left in the sockets");
    }
}
