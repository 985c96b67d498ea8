//! A room with nothing to do with what is measured: it chats on at a steady rate, and its latency tells
//! what others felt.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::BenchError;
use super::host::Host;
use super::sample::{self, CONTENT_BYTES_MIN, Sample};
use super::viewer::TEXT;
use super::wire::Outbox;

/// Members of a room, the first of which speaks.
pub(super) struct Bystander {
    members: Vec<Sample>,
    out: Outbox,
    start: Instant,
    // What the clock went on by while nothing was to be said.
    paused: Duration,
    interval_nanos: f64,
    sent: u64,
    ages: Histogram<u64>,
}

impl Bystander {
    /// Joins `count` members, numbered from `first`, to room number `room`, where one of them says
    /// `rate` messages a second, by the clock.
    pub(super) fn join(
        host: &Host,
        room: usize,
        count: usize,
        first: usize,
        rate: f64,
    ) -> Result<Self, BenchError> {
        let join = |index| Ok::<_, BenchError>(Sample::new(host.viewer(room, first + index)?)?);
        Ok(Self {
            members: (0..count).map(join).collect::<Result<_, _>>()?,
            out: Outbox::default(),
            start: Instant::now(),
            paused: Duration::ZERO,
            interval_nanos: 1e9 / rate,
            sent: 0,
            ages: super::histogram(),
        })
    }

    /// Says what is due and hears what came. To be called every millisecond or so.
    pub(super) fn turn(&mut self) -> Result<(), BenchError> {
        let spoken = self.start.elapsed().saturating_sub(self.paused);
        let due = (spoken.as_nanos() as f64 / self.interval_nanos) as u64;
        let mut text = String::new();
        while self.sent < due {
            self.sent += 1;
            let meant = (self.spoken() + self.paused).as_nanos() as u64;
            text.clear();
            sample::request(&mut text, self.sent - 1, meant, CONTENT_BYTES_MIN);
            self.out.push(TEXT, text.as_bytes());
        }
        self.hear()
    }

    /// What was said so far, in time.
    fn spoken(&self) -> Duration {
        Duration::from_nanos((self.sent as f64 * self.interval_nanos) as u64)
    }

    fn hear(&mut self) -> Result<(), BenchError> {
        let lost = |error: io::Error| BenchError::Lost(error.to_string());
        let start = self.start;
        for (index, member) in self.members.iter_mut().enumerate() {
            let clock = || start.elapsed().as_nanos() as u64;
            member.read(clock, &mut self.ages, 0).map_err(lost)?;
            if member.inbox.take_ping() {
                let mut pong = Outbox::default();
                let out = if index == 0 { &mut self.out } else { &mut pong };
                out.pong();
                out.flush(&mut member.inbox.stream).map_err(lost)?;
            }
        }
        let speaker = self.members.first_mut().expect("a room has a speaker");
        self.out.flush(&mut speaker.inbox.stream).map_err(lost)
    }

    /// Says nothing more until everything said arrived, or for ten seconds.
    /// The ages since the last time, and what was refused, lost or repeated ever.
    pub(super) fn settle(&mut self) -> Result<(Histogram<u64>, u64), BenchError> {
        let begun = Instant::now();
        let sent = self.sent;
        while begun.elapsed() < SETTLE_MAX && self.members.iter().any(|each| each.next < sent) {
            self.hear()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        let wrong = self.members.iter().map(|each| {
            let missing = sent.saturating_sub(each.next);
            each.lost + each.repeated + each.errors + missing
        });
        let wrong = wrong.sum();
        self.paused = self.start.elapsed().saturating_sub(self.spoken());
        Ok((std::mem::replace(&mut self.ages, super::histogram()), wrong))
    }
}

/// For what is under way when the last message was said.
const SETTLE_MAX: Duration = Duration::from_secs(10);
