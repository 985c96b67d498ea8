//! The load of `uproar bench fanout`: senders by the clock, sampled receivers, and a crowd that reads
//! without looking.
//!
//! One thread. Sampled receivers are awaited by epoll and parsed; the crowd's sockets are emptied in
//! turn by `recv` with `MSG_TRUNC`, which drops the bytes in the kernel (tcp(7)). A crowd's socket is
//! not in the epoll set, so that the server's sends wake nobody, as with viewers on other machines.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{Timespec, epoll};
use rustix::net::RecvFlags;

use super::dialect::Dialect;
use super::host::Host;
use super::sample::Sample;
use super::viewer;
use super::wire::Outbox;
use super::{BenchError, histogram};

/// What one phase of load is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    /// Messages a second in each room, by the clock whatever the server does.
    pub rate: f64,
    /// How late a message may be sent, so that several of a speaker go in one write; its age counts from
    /// when it was meant to be sent all the same.
    pub late_max: Duration,
    /// Bytes of each message's content.
    pub content_bytes: usize,
    /// Not measured, only checked for loss.
    pub warmup: Duration,
    /// Measured.
    pub measured: Duration,
    /// For what is under way when the last message was sent; what comes later counts as lost.
    pub drain_max: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Deliveries: messages times receivers, less what was lost.
    pub deliveries: u64,
    /// From the first message to the last receipt.
    pub elapsed: Duration,
    /// Age of messages at the sampled receivers, in microseconds from when they were meant to be sent.
    pub ages: Histogram<u64>,
    /// Lost or repeated, at sampled receivers by number, at the crowd by bytes (in messages, rounded up).
    pub wrong: u64,
    /// Messages the server refused.
    pub refused: u64,
    /// Bytes of one delivered frame on the wire, mean.
    pub frame_bytes: f64,
}

impl Outcome {
    /// Whether everything arrived, once. If not, what is still under way would be counted to the next
    /// phase: it wants connections of its own.
    pub(super) fn is_complete(&self) -> bool {
        self.wrong == 0 && self.refused == 0
    }
}

struct Room {
    // The first sample's connection also sends.
    samples: Vec<Sample>,
    crowd: Vec<Member>,
    out: Outbox,
    sent: u64,
    phase_start: u64,
}

/// A receiver of the crowd: its bytes are counted and dropped.
pub(super) struct Member {
    /// The socket, non-blocking.
    pub stream: TcpStream,
    /// Dropped so far.
    pub bytes: u64,
}

/// Rooms full of viewers.
pub(super) struct Load {
    rooms: Vec<Room>,
    epoll: OwnedFd,
    start: Instant,
    next_room: usize,
    next_member: usize,
    pass_started: Instant,
    ponged: Instant,
    scrap: Vec<u8>,
    text: String,
    dialect: Dialect,
}

impl Load {
    /// Connects `receivers` viewers to each room, the first of whom speaks. That one is looked at, and
    /// `samples` more in the middles of equal parts of the order of joining, so that no order of service
    /// looks better than its reverse. `progress` hears of each connection.
    pub(super) fn connect(
        host: &Host,
        receivers: usize,
        samples: usize,
        mut progress: impl FnMut(),
    ) -> Result<Self, BenchError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        let mut rooms = Vec::new();
        let samples = samples.clamp(1, receivers);
        let middles = (0..samples).map(|part| (2 * part + 1) * receivers / (2 * samples));
        let middles: Vec<usize> = middles.collect();
        for room in 0..host.room_count() {
            let mut here = Room {
                samples: Vec::new(),
                crowd: Vec::new(),
                out: Outbox::speaking(host.dialect),
                sent: 0,
                phase_start: 0,
            };
            for member in 0..receivers {
                let index = room * receivers + member;
                let stream = host.viewer(room, index)?;
                // A plain server takes the first connection's word only: that one has to speak.
                if member == 0 || middles.binary_search(&member).is_ok() {
                    let data = u64::try_from(room << 32 | here.samples.len()).expect("64 bits");
                    let data = epoll::EventData::new_u64(data);
                    epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)
                        .map_err(io::Error::from)?;
                    here.samples
                        .push(Sample::new(stream)?.speaking(host.dialect));
                } else {
                    here.crowd.push(Member::new(stream)?);
                }
                progress();
            }
            rooms.push(here);
        }
        let start = Instant::now();
        let mut load = Self {
            rooms,
            epoll,
            start,
            next_room: 0,
            next_member: 0,
            pass_started: start,
            ponged: start,
            scrap: vec![0; SCRAP_BYTES],
            text: String::new(),
            dialect: host.dialect,
        };
        load.await_greetings();
        Ok(load)
    }

    /// Lets the crowd's sockets have what the server says to each of its own accord, and forgets it.
    fn await_greetings(&mut self) {
        let bytes = self.dialect.greeting_bytes();
        let begun = Instant::now();
        // A server that greets nobody costs the wait, not the figures.
        while bytes > 0 && begun.elapsed() < GREETING_MAX {
            let crowd = self.rooms.iter_mut().flat_map(|room| &mut room.crowd);
            let waiting = crowd.filter_map(|member| {
                member.drain(&mut self.scrap);
                (member.bytes < bytes).then_some(())
            });
            if waiting.count() == 0 {
                break;
            }
            std::thread::sleep(PASS);
        }
        if bytes > 0 {
            self.answer_pings();
            let crowd = self.rooms.iter_mut().flat_map(|room| &mut room.crowd);
            crowd.for_each(|member| member.bytes = 0);
        }
    }

    /// Puts the load on for a while, then waits until everything arrived or nothing comes any more.
    pub(super) fn run(&mut self, phase: Phase) -> Result<Outcome, BenchError> {
        self.keep_alive();
        let mut ages = histogram();
        let begin = Instant::now();
        for room in &mut self.rooms {
            room.phase_start = room.sent;
        }
        let (messages_before, bytes_before) = self.sampled();
        let (wrong_before, refused_before) = (self.wrong(), self.refused());
        let total = (phase.rate * (phase.warmup + phase.measured).as_secs_f64()).round() as u64;
        let count_from = (phase.rate * phase.warmup.as_secs_f64()) as u64;
        let interval = 1e9 / phase.rate;
        let mut last_receipt = begin;
        let (mut due, mut next_send) = (0, Duration::ZERO);
        loop {
            let elapsed = begin.elapsed();
            if elapsed >= next_send {
                due = ((elapsed.as_nanos() as f64 / interval) as u64 + 1).min(total);
                self.send_until(due, begin, interval, phase.content_bytes)?;
                let next_due = Duration::from_nanos((due as f64 * interval) as u64);
                next_send = next_due.max(elapsed + phase.late_max);
            }
            let wait = if due == total {
                PASS
            } else {
                next_send.saturating_sub(begin.elapsed())
            };
            if self.receive(wait, count_from, &mut ages)? {
                last_receipt = Instant::now();
            }
            let done = due == total && self.all_arrived(total);
            if done || begin.elapsed() > phase.warmup + phase.measured + phase.drain_max {
                break;
            }
        }
        let elapsed = last_receipt.duration_since(begin);
        self.empty_crowd();
        let (messages, bytes) = self.sampled();
        let frame_bytes =
            (bytes - bytes_before) as f64 / (messages - messages_before).max(1) as f64;
        let receivers: usize = self.rooms.iter().map(Room::receivers).sum();
        let wrong = self.wrong().saturating_sub(wrong_before) + self.missing(frame_bytes);
        Ok(Outcome {
            deliveries: (total * receivers as u64).saturating_sub(wrong),
            elapsed,
            ages,
            wrong,
            refused: self.refused() - refused_before,
            frame_bytes,
        })
    }

    fn send_until(
        &mut self,
        due: u64,
        begin: Instant,
        interval: f64,
        content_bytes: usize,
    ) -> Result<(), BenchError> {
        let offset = begin.duration_since(self.start).as_nanos() as u64;
        for (index, room) in self.rooms.iter_mut().enumerate() {
            while room.sent - room.phase_start < due {
                let number = room.sent - room.phase_start;
                let meant = offset + (number as f64 * interval) as u64;
                self.text.clear();
                self.dialect
                    .compose(&mut self.text, room.sent, meant, content_bytes);
                room.out.say(index, &self.text);
                room.sent += 1;
            }
            room.write()?;
        }
        Ok(())
    }

    /// One look at the sampled receivers and a slice of the crowd. Waits at most `wait`, and only when
    /// the crowd was emptied a moment ago. Whether a sampled receiver got something.
    fn receive(
        &mut self,
        wait: Duration,
        count_from: u64,
        ages: &mut Histogram<u64>,
    ) -> Result<bool, BenchError> {
        let idle = self.drain_slice();
        let timeout = if idle { wait.min(PASS) } else { Duration::ZERO };
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 64];
        let (ready, _) = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let start = self.start;
        for event in &*ready {
            let data = usize::try_from(event.data.u64()).expect("64 bits");
            let (room, index) = (&mut self.rooms[data >> 32], data & 0xFFFF_FFFF);
            let count_from = room.phase_start + count_from;
            let sample = &mut room.samples[index];
            sample
                .read(|| start.elapsed().as_nanos() as u64, ages, count_from)
                .map_err(|error| BenchError::Lost(error.to_string()))?;
            if sample.inbox.take_ping() {
                // The sender's own frames may be half written: its pong waits behind them.
                if index == 0 {
                    room.out.pong();
                } else {
                    let mut pong = Vec::new();
                    self.dialect.pong(&mut pong);
                    sample.inbox.stream.write_all(&pong)?;
                }
            }
        }
        Ok(!ready.is_empty())
    }

    /// Empties some sockets of the crowd; `true` once a pass is complete and fresh.
    fn drain_slice(&mut self) -> bool {
        for _ in 0..SLICE {
            let Some(room) = self.rooms.get_mut(self.next_room) else {
                if self.pass_started.elapsed() < PASS {
                    return true;
                }
                (self.next_room, self.next_member) = (0, 0);
                self.pass_started = Instant::now();
                continue;
            };
            if let Some(member) = room.crowd.get_mut(self.next_member) {
                member.drain(&mut self.scrap);
                self.next_member += 1;
            } else {
                (self.next_room, self.next_member) = (self.next_room + 1, 0);
            }
        }
        false
    }

    fn empty_crowd(&mut self) {
        // What the last sampled receiver has, the others have within a turn of the server.
        for _ in 0..EMPTY_PASSES {
            let mut got = 0;
            for member in self.rooms.iter_mut().flat_map(|room| &mut room.crowd) {
                got += member.drain(&mut self.scrap);
            }
            if got == 0 && self.missing(1.0) == 0 {
                return;
            }
            std::thread::sleep(PASS);
        }
    }

    fn all_arrived(&self, total: u64) -> bool {
        let mut samples = self.rooms.iter().flat_map(|room| {
            let last = room.phase_start + total;
            room.samples.iter().map(move |sample| sample.next == last)
        });
        samples.all(|arrived| arrived)
    }

    /// Frames and bytes at the sampled receivers.
    fn sampled(&self) -> (u64, u64) {
        let samples = self.rooms.iter().flat_map(|room| &room.samples);
        samples.fold((0, 0), |(messages, bytes), sample| {
            (messages + sample.messages, bytes + sample.bytes)
        })
    }

    fn wrong(&self) -> u64 {
        let samples = self.rooms.iter().flat_map(|room| {
            room.samples
                .iter()
                .map(|sample| sample.lost + sample.repeated + (room.sent - sample.next))
        });
        samples.sum()
    }

    fn refused(&self) -> u64 {
        let samples = self.rooms.iter().flat_map(|room| &room.samples);
        samples.map(|sample| sample.errors).sum()
    }

    /// What the crowd did not get, by comparing bytes with the room's first sampled receiver: all of
    /// a room's members are sent the same bytes. In messages; the difference is then forgotten.
    fn missing(&mut self, frame_bytes: f64) -> u64 {
        let mut missing = 0.0;
        for room in &mut self.rooms {
            let expected = room.samples.first().map_or(0, |sample| sample.bytes);
            for member in &mut room.crowd {
                missing += (expected.abs_diff(member.bytes) as f64 / frame_bytes).ceil();
                if frame_bytes > 1.0 {
                    member.bytes = expected;
                }
            }
        }
        missing as u64
    }

    /// Answers pings that the crowd does not read, before the server asks.
    fn keep_alive(&mut self) {
        if self.ponged.elapsed() < KEEP_ALIVE {
            return;
        }
        self.ponged = Instant::now();
        self.answer_pings();
    }

    fn answer_pings(&mut self) {
        let mut pong = Vec::new();
        self.dialect.pong(&mut pong);
        for member in self.rooms.iter_mut().flat_map(|room| &mut room.crowd) {
            // A lost connection shows up as missing bytes.
            let _seen_later = member.stream.write_all(&pong);
        }
    }
}

impl Drop for Load {
    /// By resets: thousands of ports would wait for a minute each, and the next load needs them.
    fn drop(&mut self) {
        for room in &self.rooms {
            let samples = room.samples.iter().map(|sample| &sample.inbox.stream);
            let crowd = room.crowd.iter().map(|member| &member.stream);
            for stream in samples.chain(crowd) {
                let _port_waits = viewer::reset_when_dropped(stream);
            }
        }
    }
}

impl Room {
    fn receivers(&self) -> usize {
        self.samples.len() + self.crowd.len()
    }

    fn write(&mut self) -> Result<(), BenchError> {
        let Some(sender) = self.samples.first_mut() else {
            return Ok(());
        };
        self.out
            .flush(&mut sender.inbox.stream)
            .map_err(|error| BenchError::Lost(error.to_string()))
    }
}

impl Member {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, bytes: 0 })
    }

    /// Drops what waits in the socket; how much that was.
    pub(super) fn drain(&mut self, scrap: &mut [u8]) -> u64 {
        let mut total = 0;
        while let Ok((_, len)) = rustix::net::recv(
            &self.stream,
            &mut *scrap,
            RecvFlags::TRUNC | RecvFlags::DONTWAIT,
        ) {
            total += len as u64;
            if len < scrap.len() {
                break;
            }
        }
        self.bytes += total;
        total
    }
}

/// Dropped by one `recv` at most; nothing is written here.
pub(super) const SCRAP_BYTES: usize = 4 << 20;
/// Sockets of the crowd emptied between two looks at the sampled receivers.
const SLICE: usize = 32;
/// Between two passes over the crowd.
pub(super) const PASS: Duration = Duration::from_millis(5);
/// For a server's first words to each connection.
const GREETING_MAX: Duration = Duration::from_secs(5);
const EMPTY_PASSES: u32 = 100;
/// Below the server's ping interval.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
