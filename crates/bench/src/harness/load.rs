//! Rooms full of viewers: senders by the clock, sampled receivers, and receivers in bulk.
//!
//! One thread does all. Sampled receivers are waited for and parsed; the sockets of the others are
//! emptied in turn. These are in no epoll set, so that the server's sends wake nobody, as with
//! viewers on other machines.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::ages::histogram;
use super::client_protocol::ClientProtocol;
use super::drain::{BulkReceiver, Drain, PASS};
use super::error::BenchError;
use super::poll::{Poll, key_of, of_key};
use super::sample::Sample;
use super::server::ServerUnderTest;
use super::stream::Outbox;
use super::viewer;

/// A phase of load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    /// Messages per second in each room, by the clock, whatever the server does.
    pub(crate) rate: f64,
    /// How late a message may be sent, so that one write takes several of a room. Its age counts
    /// from when it was due all the same.
    pub(crate) late_max: Duration,
    /// Length of each message's content, in bytes.
    pub(crate) content_bytes: usize,
    /// The beginning of the phase, of which no ages are recorded; losses count.
    pub(crate) warmup: Duration,
    /// The measured rest of the phase.
    pub(crate) measured: Duration,
    /// Longest wait for deliveries after the last message was sent. What comes later counts as
    /// lost.
    pub(crate) drain_max: Duration,
}

/// The result of a phase.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Messages times receivers, less what was lost.
    pub(crate) deliveries: u64,
    /// From the first message to the last receipt.
    pub(crate) elapsed: Duration,
    /// Ages of messages at the sampled receivers, in microseconds from when they were due to be
    /// sent.
    pub(crate) ages: Histogram<u64>,
    /// Messages lost or repeated: by number at sampled receivers, by bytes, rounded up, at the
    /// others.
    pub(crate) wrong: u64,
    /// Messages that the server refused.
    pub(crate) refused: u64,
    /// Bytes of one delivered frame on the wire, over TLS before it is sealed; mean.
    pub(crate) frame_bytes: f64,
    /// Content of a TLS record at receivers that leave them sealed, mean; `None` if there are none.
    pub(crate) record_bytes: Option<f64>,
}

impl Outcome {
    /// Whether everything arrived, once. If not, late deliveries would be counted to the next
    /// phase, which therefore needs connections of its own.
    pub(crate) fn is_complete(&self) -> bool {
        self.wrong == 0 && self.refused == 0
    }
}

/// One room's viewers.
struct Room {
    /// The first one's connection also sends. Never empty.
    samples: Vec<Sample>,
    bulk: Vec<BulkReceiver>,
    out: Outbox,
    /// Messages sent so far.
    sent: u64,
    /// `sent` at the start of the phase.
    phase_start: u64,
}

/// Rooms full of viewers.
pub(crate) struct Load {
    rooms: Vec<Room>,
    /// The sampled receivers, by room and index.
    poll: Poll,
    protocol: ClientProtocol,
    /// The zero of the times in messages.
    start: Instant,
    /// The bulk receiver that the current pass empties next.
    next_room: usize,
    next_member: usize,
    pass_started: Instant,
    /// When bulk receivers last sent pongs.
    ponged: Instant,
    drain: Drain,
    /// Scratch for a message's text.
    text: String,
}

impl Load {
    /// Connects `receivers` viewers to each room, the first of whom also sends. The first one is
    /// sampled, and `samples` more: each in the middle of an equal part of the order of joining, so
    /// that no order of service looks better than its reverse. Calls `connected` after each
    /// connection.
    pub(crate) fn connect(
        server: &ServerUnderTest,
        receivers: usize,
        samples: usize,
        mut connected: impl FnMut(),
    ) -> Result<Self, BenchError> {
        let poll = Poll::new()?;
        let protocol = server.protocol();
        let sampled = sampled(receivers, samples);
        let mut rooms = Vec::new();
        for room in 0..server.room_count() {
            let mut here = Room::new(protocol);
            for member in 0..receivers {
                let stream = server.connect(room, room * receivers + member)?;
                if sampled.binary_search(&member).is_ok() {
                    poll.add(&stream, key_of(room, here.samples.len()))?;
                    here.samples.push(Sample::new(stream, protocol)?);
                } else {
                    here.bulk.push(BulkReceiver::new(stream)?);
                }
                connected();
            }
            debug_assert!(!here.samples.is_empty(), "the first viewer is sampled");
            rooms.push(here);
        }
        let start = Instant::now();
        let mut load = Self {
            rooms,
            poll,
            protocol,
            start,
            next_room: 0,
            next_member: 0,
            pass_started: start,
            ponged: start,
            drain: Drain::new(),
            text: String::new(),
        };
        load.await_greetings();
        Ok(load)
    }

    /// Waits until bulk receivers have what the server sends to each of its own accord, and forgets
    /// it.
    fn await_greetings(&mut self) {
        let bytes = self.protocol.greeting_bytes();
        let begun = Instant::now();
        // A server that greets nobody costs the wait, not the figures.
        while bytes > 0 && begun.elapsed() < GREETING_MAX {
            let bulk = self.rooms.iter_mut().flat_map(|room| &mut room.bulk);
            let waiting = bulk.filter_map(|receiver| {
                receiver.empty(&mut self.drain);
                (receiver.bytes < bytes).then_some(())
            });
            if waiting.count() == 0 {
                break;
            }
            std::thread::sleep(PASS);
        }
        if bytes > 0 {
            self.send_pongs();
            let bulk = self.rooms.iter_mut().flat_map(|room| &mut room.bulk);
            bulk.for_each(|receiver| receiver.bytes = 0);
        }
    }

    /// Sends and receives for one phase, then waits until everything arrived or the time for it is
    /// over.
    pub(crate) fn run(&mut self, phase: Phase) -> Result<Outcome, BenchError> {
        self.keep_alive();
        for room in &mut self.rooms {
            room.phase_start = room.sent;
        }
        let (messages_before, bytes_before) = self.sampled();
        let (wrong_before, refused_before) = (self.wrong(), self.refused());
        let records_before = self.records();
        let total = (phase.rate * (phase.warmup + phase.measured).as_secs_f64()).round() as u64;
        let (elapsed, ages) = self.drive(phase, total)?;
        self.empty_bulk();
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
            record_bytes: mean(records_before, self.records()),
        })
    }

    /// Returns the records that bulk receivers got so far, and their content in bytes.
    fn records(&self) -> (u64, u64) {
        let bulk = self.rooms.iter().flat_map(|room| &room.bulk);
        bulk.map(BulkReceiver::records)
            .fold((0, 0), |(records, bytes), (more, content)| {
                (records + more, bytes + content)
            })
    }

    /// Sends `total` messages in each room. Returns the time until the last receipt, and the ages.
    fn drive(
        &mut self,
        phase: Phase,
        total: u64,
    ) -> Result<(Duration, Histogram<u64>), BenchError> {
        let mut ages = histogram();
        let count_from = (phase.rate * phase.warmup.as_secs_f64()) as u64;
        let interval = 1e9 / phase.rate;
        let begin = Instant::now();
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
                return Ok((last_receipt.duration_since(begin), ages));
            }
        }
    }

    /// Sends the messages of the phase up to number `due` in each room.
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
                let due_at = offset + (number as f64 * interval) as u64;
                self.text.clear();
                self.protocol
                    .compose(&mut self.text, room.sent, due_at, content_bytes);
                room.out.send(index, &self.text);
                room.sent += 1;
            }
            room.flush()?;
        }
        Ok(())
    }

    /// Reads sampled receivers, and empties a slice of the others. Waits at most for `wait`, and
    /// only if the others were emptied a moment ago. Returns whether a sampled receiver got
    /// something.
    fn receive(
        &mut self,
        wait: Duration,
        count_from: u64,
        ages: &mut Histogram<u64>,
    ) -> Result<bool, BenchError> {
        let pass_is_fresh = self.empty_slice();
        let wait = if pass_is_fresh {
            wait.min(PASS)
        } else {
            Duration::ZERO
        };
        let start = self.start;
        let mut any = false;
        for key in self.poll.wait::<64>(wait)? {
            any = true;
            let (room, index) = of_key(key);
            let room = &mut self.rooms[room];
            let count_from = room.phase_start + count_from;
            let sample = &mut room.samples[index];
            sample
                .read(|| start.elapsed().as_nanos() as u64, ages, count_from)
                .map_err(BenchError::lost)?;
            // The sender's own bytes may be half written: its pong waits behind them.
            if index > 0 {
                sample.inbox.answer_ping()?;
            } else if sample.inbox.take_ping() {
                room.out.pong();
            }
        }
        Ok(any)
    }

    /// Empties some bulk receivers. Returns whether a pass over all has just been completed.
    fn empty_slice(&mut self) -> bool {
        for _ in 0..SLICE {
            let Some(room) = self.rooms.get_mut(self.next_room) else {
                if self.pass_started.elapsed() < PASS {
                    return true;
                }
                (self.next_room, self.next_member) = (0, 0);
                self.pass_started = Instant::now();
                continue;
            };
            if let Some(receiver) = room.bulk.get_mut(self.next_member) {
                receiver.empty(&mut self.drain);
                self.next_member += 1;
            } else {
                (self.next_room, self.next_member) = (self.next_room + 1, 0);
            }
        }
        false
    }

    /// Empties all bulk receivers until nothing is missing. What the last sampled receiver has, the
    /// others have within a turn of the server.
    fn empty_bulk(&mut self) {
        for _ in 0..EMPTY_PASSES {
            let mut got = 0;
            for receiver in self.rooms.iter_mut().flat_map(|room| &mut room.bulk) {
                got += receiver.empty(&mut self.drain);
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

    /// Returns the messages and bytes that sampled receivers got so far.
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

    /// Returns what bulk receivers did not get, in messages: all members of a room are sent the
    /// same bytes, so their bytes are compared with those of its first sampled receiver. The
    /// difference is then forgotten.
    fn missing(&mut self, frame_bytes: f64) -> u64 {
        let mut missing = 0.0;
        for room in &mut self.rooms {
            let expected = room.samples.first().map_or(0, |sample| sample.bytes);
            for receiver in &mut room.bulk {
                missing += (expected.abs_diff(receiver.bytes) as f64 / frame_bytes).ceil();
                if frame_bytes > 1.0 {
                    receiver.bytes = expected;
                }
            }
        }
        missing as u64
    }

    /// Sends pongs of bulk receivers, whose pings nobody reads, before the server sends pings.
    fn keep_alive(&mut self) {
        if self.ponged.elapsed() < KEEP_ALIVE {
            return;
        }
        self.ponged = Instant::now();
        self.send_pongs();
    }

    fn send_pongs(&mut self) {
        let pong = self.protocol.pong();
        let bulk = self.rooms.iter_mut().flat_map(|room| &mut room.bulk);
        bulk.for_each(|receiver| receiver.send(&pong));
    }
}

impl Drop for Load {
    /// By resets: thousands of ports would wait for a minute each, and the next load needs them.
    fn drop(&mut self) {
        for room in &self.rooms {
            let samples = room
                .samples
                .iter()
                .map(|sample| sample.inbox.stream.socket());
            let bulk = room.bulk.iter().map(|receiver| &receiver.stream);
            for stream in samples.chain(bulk) {
                let _port_waits: io::Result<()> = viewer::reset_when_dropped(stream);
            }
        }
    }
}

impl Room {
    fn new(protocol: ClientProtocol) -> Self {
        Self {
            samples: Vec::new(),
            bulk: Vec::new(),
            out: Outbox::new(protocol),
            sent: 0,
            phase_start: 0,
        }
    }

    fn receivers(&self) -> usize {
        self.samples.len() + self.bulk.len()
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        let Some(sender) = self.samples.first_mut() else {
            return Ok(());
        };
        let stream = &mut sender.inbox.stream;
        self.out.flush(stream).map_err(BenchError::lost)
    }
}

/// Returns which of a room's receivers are sampled: each in the middle of an equal part of the
/// order of joining, and the first, because a plain server takes messages of that one only.
pub(crate) fn sampled(receivers: usize, samples: usize) -> Vec<usize> {
    let samples = samples.clamp(1, receivers);
    let middles = (0..samples).map(|part| (2 * part + 1) * receivers / (2 * samples));
    let middles = middles.filter(|member| *member > 0);
    std::iter::once(0).chain(middles).collect()
}

/// Returns the content of a record between two counts of records and bytes; `None` if none came.
fn mean(before: (u64, u64), after: (u64, u64)) -> Option<f64> {
    let records = after.0 - before.0;
    (records > 0).then(|| (after.1 - before.1) as f64 / records as f64)
}

/// Bulk receivers that are emptied between two looks at the sampled ones.
const SLICE: usize = 32;
/// Longest wait for what a server sends to each new connection.
const GREETING_MAX: Duration = Duration::from_secs(5);
/// Passes over the bulk receivers, at the end of a phase, that may find something missing.
const EMPTY_PASSES: u32 = 100;
/// Between two rounds of pongs: below the server's ping interval.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
