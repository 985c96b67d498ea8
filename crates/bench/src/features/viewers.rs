//! `uproar bench features viewers`: what it costs to tell a large room how many it is. The same load twice, in a room without
//! and in one with the tag: somebody speaks, and a guest comes and goes, so that there is always something to tell.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::schedule::Schedule;
use crate::harness::caller::Caller;
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{count, seconds};
use crate::harness::message;
use crate::harness::poll::Poll;
use crate::harness::program::Environment;
use crate::harness::report::{Progress, print};
use crate::harness::server::ServerUnderTest;
use crate::harness::target::Target;
use crate::harness::viewer::reset;

/// Flags of the measure.
#[derive(Debug, Args)]
pub(crate) struct ViewerEvents {
    #[command(flatten)]
    target: Target,
    /// Viewers of the room, of whom the first one speaks
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = count(1..=100_000))]
    viewers: usize,
    /// Messages per second
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    rate: u32,
    /// Seconds between two events, as in the tag uproar:viewers
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=300))]
    every: u32,
    /// Length of each of the two measurements, in seconds
    #[arg(long = "seconds", default_value = "20", value_name = "SECONDS", value_parser = seconds())]
    measured: Duration,
}

/// What one room cost.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    /// Messages that came to viewers, all together.
    messages: u64,
    /// Events of the number of viewers that came to viewers, all together, and their bytes.
    events: u64,
    event_bytes: u64,
    /// Sends that the server submitted, as its metrics say.
    sends: f64,
    /// Processor time of the server, user and system.
    busy: Option<Duration>,
}

impl ViewerEvents {
    pub(super) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let target = &self.target;
        let mut server = target.server_for(environment.program, 1, self.viewers + 1)?;
        let progress = Progress::new(2 * self.viewers);
        let without = server.add_room(r#"{"uproar:state":"on"}"#)?;
        let with = server.add_room(&format!(r#"{{"uproar:viewers":"{}"}}"#, self.every))?;
        let without = self.measure(&server, without, &progress)?;
        let with = self.measure(&server, with, &progress)?;
        print(
            self.target.json,
            &environment.machine,
            self.json(without, with),
            &self.lines(without, with),
        );
        Ok(())
    }

    fn measure(
        &self,
        server: &ServerUnderTest,
        room: usize,
        progress: &Progress,
    ) -> Result<Cost, BenchError> {
        let poll = Poll::new()?;
        let connect = |index: usize| -> Result<Caller, BenchError> {
            let stream = server.connect(room, index)?;
            poll.add(&stream, index)?;
            progress.step();
            Ok(Caller::new(stream, BUFFER_BYTES)?)
        };
        let viewers = (0..self.viewers).map(connect);
        let mut viewers: Vec<Caller> = viewers.collect::<Result<_, _>>()?;
        let sends = || server.sends().map_or(0.0, |sends| sends.sends);
        let (messages, guests) = (
            Schedule::new(self.rate, self.measured),
            Schedule::new(GUESTS_PER_SECOND, self.measured),
        );
        // What greets the last viewers is none of the load's sends.
        let mut cost = Cost::default();
        let settled = Instant::now();
        while settled.elapsed() < SETTLE {
            cost.receive(&poll, &mut viewers, TURN)?;
        }
        cost = Cost::default();
        let (before, sent, begun) = (server.usage(), sends(), Instant::now());
        let (mut said, mut came, mut text) = (0, 0, String::new());
        let all = messages.total() * viewers.len() as u64;
        while cost.messages < all && begun.elapsed() < self.measured + DRAIN_MAX {
            let elapsed = begun.elapsed();
            while said < messages.due(elapsed) {
                text.clear();
                message::request(&mut text, said, messages.at(said), CONTENT_BYTES);
                viewers[0].send(&text)?;
                said += 1;
            }
            while came < guests.due(elapsed) {
                reset(&server.connect(room, self.viewers)?).map_err(BenchError::lost)?;
                came += 1;
            }
            cost.receive(&poll, &mut viewers, messages.wait(said, elapsed, TURN))?;
        }
        cost.sends = sends() - sent;
        cost.busy = server.busy_since(before);
        for viewer in viewers {
            reset(&viewer.inbox.stream).map_err(BenchError::lost)?;
        }
        Ok(cost)
    }

    /// Sends that an event takes besides those that there are anyway; 1: it does not ride.
    fn own_sends(without: Cost, with: Cost) -> f64 {
        let each = |cost: Cost| cost.sends / cost.messages.max(1) as f64;
        (each(with) - each(without)) * with.messages as f64 / with.events.max(1) as f64
    }

    fn lines(&self, without: Cost, with: Cost) -> Vec<(&'static str, String)> {
        let viewers = self.viewers as f64;
        let each = |cost: Cost| {
            let micros = cost.busy.map_or(f64::NAN, |busy| busy.as_secs_f64() * 1e6);
            format!(
                "{:.3} sends and {:.2} µs of the server a message and viewer; {} messages came",
                cost.sends / cost.messages.max(1) as f64,
                micros / cost.messages.max(1) as f64,
                cost.messages
            )
        };
        vec![
            (
                "work",
                format!(
                    "{} messages a second to {} viewers, a guest {GUESTS_PER_SECOND} times a second, {} s each",
                    self.rate,
                    self.viewers,
                    self.measured.as_secs_f64()
                ),
            ),
            ("without", each(without)),
            ("with", each(with)),
            (
                "events",
                format!(
                    "{:.2} a viewer, {} bytes each: {:.0} bytes a viewer and second; {:.3} sends of their own each",
                    with.events as f64 / viewers,
                    with.event_bytes / with.events.max(1),
                    with.event_bytes as f64 / viewers / self.measured.as_secs_f64(),
                    Self::own_sends(without, with)
                ),
            ),
        ]
    }

    fn json(&self, without: Cost, with: Cost) -> Value {
        let each = |cost: Cost| {
            json!({
                "messages": cost.messages,
                "events": cost.events,
                "event_bytes": cost.event_bytes,
                "sends": cost.sends,
                "server_seconds": cost.busy.map(|busy| busy.as_secs_f64()),
            })
        };
        json!({
            "viewers": self.viewers,
            "messages_per_second": self.rate,
            "every_seconds": self.every,
            "without": each(without),
            "with": each(with),
            "own_sends_per_event": Self::own_sends(without, with),
        })
    }
}

impl Cost {
    /// Reads what came; waits for it at most for `wait`.
    fn receive(
        &mut self,
        poll: &Poll,
        viewers: &mut [Caller],
        wait: Duration,
    ) -> Result<(), BenchError> {
        for index in poll.wait::<256>(wait)? {
            viewers[index].receive(|| 0, |frame| self.read(frame.payload, frame.bytes))?;
        }
        Ok(())
    }

    fn read(&mut self, payload: &[u8], bytes: u64) {
        if message::numbers(payload).is_some() {
            self.messages += 1;
        } else if payload
            .windows(VIEWERS.len())
            .any(|window| window == VIEWERS)
        {
            self.events += 1;
            self.event_bytes += bytes;
        }
    }
}

/// What an event of the number of viewers has.
const VIEWERS: &[u8] = br#""EventName":"uproar:viewers""#;
/// How often somebody comes and goes.
const GUESTS_PER_SECOND: u32 = 2;
/// Length of the messages, in bytes.
const CONTENT_BYTES: usize = 100;
/// Space for what one read takes: there are very many viewers.
const BUFFER_BYTES: usize = 16 * 1024;
/// Longest wait for bytes before the clock is read.
const TURN: Duration = Duration::from_millis(5);
/// From the last join to the first message.
const SETTLE: Duration = Duration::from_secs(1);
/// Longest wait for messages after the last one.
const DRAIN_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: events are told from messages, and one that rides has no sends of its own.
    #[test]
    fn events_are_counted() {
        let mut cost = Cost::default();
        let mut content = String::new();
        message::content(&mut content, 3, 9, 40);
        let said = format!(r#"{{"Type":"MESSAGE","Content":"{content}"}}"#);
        cost.read(said.as_bytes(), 80);
        cost.read(
            br#"{"Type":"EVENT","EventName":"uproar:viewers","Attributes":{"Count":"3"}}"#,
            74,
        );
        cost.read(
            br#"{"Type":"EVENT","EventName":"uproar:room","Attributes":{}}"#,
            60,
        );
        assert_eq!((cost.messages, cost.events, cost.event_bytes), (1, 1, 74));
        let of = |sends, events| Cost {
            messages: 100,
            events,
            sends,
            ..Cost::default()
        };
        assert!(ViewerEvents::own_sends(of(100.0, 0), of(100.0, 10)).abs() < 1e-9);
        assert!((ViewerEvents::own_sends(of(100.0, 0), of(110.0, 10)) - 1.0).abs() < 1e-9);
    }
}
