//! A room beside the measured load: its members talk at a steady rate, and the ages of their
//! messages show how the load affects others.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::ages::histogram;
use super::error::BenchError;
use super::message::{self, CONTENT_BYTES_MIN};
use super::sample::Sample;
use super::server::ServerUnderTest;
use super::stream::Outbox;

/// The members of the room.
pub(crate) struct BackgroundRoom {
    /// The first one also sends. Never empty.
    members: Vec<Sample>,
    out: Outbox,
    start: Instant,
    /// Time since `start` in which no message was due.
    paused: Duration,
    /// Time between two messages.
    interval_nanos: f64,
    /// Messages sent so far.
    sent: u64,
    /// Ages since they were last taken, in microseconds.
    ages: Histogram<u64>,
}

impl BackgroundRoom {
    /// Joins `count` members, numbered from `first`, to room number `room`. One of them sends
    /// `rate` messages per second, by the clock.
    pub(crate) fn join(
        server: &ServerUnderTest,
        room: usize,
        count: usize,
        first: usize,
        rate: f64,
    ) -> Result<Self, BenchError> {
        let protocol = server.protocol();
        let join = |index| -> Result<Sample, BenchError> {
            Ok(Sample::new(server.connect(room, first + index)?, protocol)?)
        };
        Ok(Self {
            members: (0..count).map(join).collect::<Result<_, _>>()?,
            out: Outbox::new(protocol),
            start: Instant::now(),
            paused: Duration::ZERO,
            interval_nanos: 1e9 / rate,
            sent: 0,
            ages: histogram(),
        })
    }

    /// Sends the messages that are due and reads what came. Call it every millisecond or so.
    pub(crate) fn turn(&mut self) -> Result<(), BenchError> {
        let talking = self.start.elapsed().saturating_sub(self.paused);
        let due = (talking.as_nanos() as f64 / self.interval_nanos) as u64;
        let mut text = String::new();
        while self.sent < due {
            self.sent += 1;
            let due_at = (self.talked() + self.paused).as_nanos() as u64;
            text.clear();
            message::request(&mut text, self.sent - 1, due_at, CONTENT_BYTES_MIN);
            self.out.send(0, &text);
        }
        self.receive()
    }

    /// The time that the messages sent so far take at the room's rate.
    fn talked(&self) -> Duration {
        Duration::from_nanos((self.sent as f64 * self.interval_nanos) as u64)
    }

    fn receive(&mut self) -> Result<(), BenchError> {
        let start = self.start;
        for (index, member) in self.members.iter_mut().enumerate() {
            let clock = || start.elapsed().as_nanos() as u64;
            member
                .read(clock, &mut self.ages, 0)
                .map_err(BenchError::lost)?;
            // The sender's own bytes may be half written: its pong waits behind them.
            if index > 0 {
                member.inbox.answer_ping().map_err(BenchError::lost)?;
            } else if member.inbox.take_ping() {
                self.out.pong();
            }
        }
        let sender = self.members.first_mut().expect("a room has a sender");
        self.out
            .flush(&mut sender.inbox.stream)
            .map_err(BenchError::lost)
    }

    /// Sends nothing more until everything sent has arrived, at most for ten seconds. Returns the
    /// ages since the last call, and how many messages were ever refused, lost or repeated.
    pub(crate) fn settle(&mut self) -> Result<(Histogram<u64>, u64), BenchError> {
        let begun = Instant::now();
        let sent = self.sent;
        while begun.elapsed() < SETTLE_MAX && self.members.iter().any(|each| each.next < sent) {
            self.receive()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let wrong = self.members.iter().map(|each| each.wrong(sent)).sum();
        self.paused = self.start.elapsed().saturating_sub(self.talked());
        Ok((std::mem::replace(&mut self.ages, histogram()), wrong))
    }
}

/// Longest wait for deliveries after the last message.
const SETTLE_MAX: Duration = Duration::from_secs(10);
