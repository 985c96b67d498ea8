//! Viewers of the measuring process itself, in some rooms: one of each room sends, and all are
//! sampled.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::ages::histogram;
use super::error::BenchError;
use super::machine::now_nanos;
use super::message;
use super::poll::{Poll, key_of, of_key};
use super::sample::Sample;
use super::server::ServerUnderTest;
use super::stream::Outbox;

/// Sampled viewers of some rooms.
pub(crate) struct Speakers {
    rooms: Vec<Room>,
    /// The viewers, by room and index.
    poll: Poll,
    /// Scratch for a message's text.
    text: String,
}

#[derive(Debug)]
struct Room {
    /// The first one also sends.
    samples: Vec<Sample>,
    out: Outbox,
    /// Messages sent so far.
    sent: u64,
    /// Ages since they were last taken, in microseconds.
    ages: Histogram<u64>,
}

impl Speakers {
    /// Makes `rooms` rooms without viewers.
    pub(crate) fn new(rooms: usize) -> Result<Self, BenchError> {
        let room = |_| Room {
            samples: Vec::new(),
            out: Outbox::default(),
            sent: 0,
            ages: histogram(),
        };
        Ok(Self {
            rooms: (0..rooms).map(room).collect(),
            poll: Poll::new()?,
            text: String::new(),
        })
    }

    /// Connects viewer number `index` to a room.
    pub(crate) fn join(
        &mut self,
        server: &ServerUnderTest,
        room: usize,
        index: usize,
    ) -> Result<(), BenchError> {
        let sample = Sample::new(server.connect(room, index)?, server.protocol())?;
        let here = &mut self.rooms[room];
        self.poll
            .add(&sample.inbox.stream, key_of(room, here.samples.len()))?;
        here.samples.push(sample);
        Ok(())
    }

    /// Sends the next message in a room, which was due at `due_at`, by [`now_nanos`].
    pub(crate) fn send(
        &mut self,
        room: usize,
        due_at: u64,
        content_bytes: usize,
    ) -> Result<(), BenchError> {
        let room = &mut self.rooms[room];
        self.text.clear();
        message::request(&mut self.text, room.sent, due_at, content_bytes);
        room.out.send(0, &self.text);
        room.sent += 1;
        room.flush()
    }

    /// Reads what came to the viewers; waits for it at most for `wait`. Returns whether something
    /// came.
    pub(crate) fn receive(&mut self, wait: Duration) -> Result<bool, BenchError> {
        let mut any = false;
        for key in self.poll.wait::<64>(wait)? {
            any = true;
            let (room, index) = of_key(key);
            self.rooms[room].receive(index)?;
        }
        // What a full socket did not take before.
        self.rooms.iter_mut().try_for_each(Room::flush)?;
        Ok(any)
    }

    /// Reads what came, until nothing more does.
    pub(crate) fn receive_all(&mut self) -> Result<(), BenchError> {
        while self.receive(Duration::ZERO)? {}
        Ok(())
    }

    /// Whether every message of a room came to all its sampled viewers.
    pub(crate) fn all_arrived(&self, room: usize) -> bool {
        let room = &self.rooms[room];
        room.samples.iter().all(|sample| sample.next == room.sent)
    }

    /// Returns the number of a room's sampled viewers.
    pub(crate) fn count(&self, room: usize) -> usize {
        self.rooms[room].samples.len()
    }

    /// Returns the bytes of a room's messages at its sender.
    pub(crate) fn bytes(&self, room: usize) -> u64 {
        let sender = self.rooms[room].samples.first();
        sender.map_or(0, |sample| sample.bytes)
    }

    /// Returns how many messages of a room were ever refused, lost or repeated, at all its sampled
    /// viewers.
    pub(crate) fn wrong(&self, room: usize) -> u64 {
        let room = &self.rooms[room];
        room.samples.iter().map(|each| each.wrong(room.sent)).sum()
    }

    /// Returns the ages of a room's messages since the last call, in microseconds.
    pub(crate) fn take_ages(&mut self, room: usize) -> Histogram<u64> {
        std::mem::replace(&mut self.rooms[room].ages, histogram())
    }
}

impl Room {
    fn receive(&mut self, index: usize) -> Result<(), BenchError> {
        let sample = &mut self.samples[index];
        sample
            .read(now_nanos, &mut self.ages, 0)
            .map_err(BenchError::lost)?;
        // The sender's own bytes may be half written: its pong waits behind them.
        if index > 0 {
            sample.inbox.answer_ping().map_err(BenchError::lost)?;
        } else if sample.inbox.take_ping() {
            self.out.pong();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        let Some(sender) = self.samples.first_mut() else {
            return Ok(());
        };
        self.out
            .flush(&mut sender.inbox.stream)
            .map_err(BenchError::lost)
    }
}
