//! `uproar bench features history`: viewers who join a room that remembers its newest messages, one after the other. Each
//! reads what it gets to the end, then leaves.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::harness::ages::{Ages, histogram, record};
use crate::harness::caller::Caller;
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::count;
use crate::harness::message;
use crate::harness::poll::Poll;
use crate::harness::program::Environment;
use crate::harness::report::{Progress, cpu_each, print, user_and_system};
use crate::harness::server::ServerUnderTest;
use crate::harness::target::Target;
use crate::harness::viewer::reset;

/// Flags of the measure.
#[derive(Debug, Args)]
pub(crate) struct History {
    #[command(flatten)]
    target: Target,
    /// Joins
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = count(1..=1_000_000))]
    joins: usize,
    /// Messages that who joins gets; 0: the room remembers none
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=200))]
    messages: u32,
    /// Length of each one's content, in bytes
    #[arg(long = "size", default_value_t = 100, value_name = "BYTES", value_parser = count(32..=500))]
    content_bytes: usize,
}

#[derive(Default)]
struct Report {
    /// Joins that got every message, and those that got none.
    full: u64,
    refused: u64,
    /// Bytes of remembered messages, headers included.
    bytes: u64,
    elapsed: Duration,
    /// From the connect to the last message.
    ages: Ages,
    /// Processor microseconds of the server for each join, user and system.
    cpu_micros: Option<[f64; 2]>,
}

impl History {
    pub(super) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let mut server = self.target.server(environment.program, 1)?;
        let tags = match self.messages {
            0 => r#"{"uproar:state":"on"}"#.to_owned(),
            messages => format!(r#"{{"uproar:history":"{messages}","uproar:resume":"0"}}"#),
        };
        let room = server.add_room(&tags)?;
        let report = self.measure(&server, room, &Progress::new(self.joins))?;
        print(
            self.target.json,
            &environment.machine,
            self.json(&report),
            &self.lines(&report),
        );
        Ok(())
    }

    fn measure(
        &self,
        server: &ServerUnderTest,
        room: usize,
        progress: &Progress,
    ) -> Result<Report, BenchError> {
        let mut joiner = Joiner::new()?;
        self.fill(server, room, &mut joiner)?;
        let mut report = Report::default();
        let mut ages = histogram();
        let (before, begin) = (server.usage(), Instant::now());
        for index in 0..self.joins {
            let begun = Instant::now();
            let got = joiner.join(server, room, 1 + index, self.messages > 0)?;
            record(&mut ages, begun.elapsed());
            report.bytes += got.bytes;
            if got.messages < u64::from(self.messages) {
                report.refused += 1;
            } else {
                report.full += 1;
            }
            progress.step();
        }
        report.elapsed = begin.elapsed();
        report.ages = Ages::of(&ages);
        let each = |time: Duration| time.as_micros() as f64 / self.joins as f64;
        report.cpu_micros = server.cpu_since(before).map(|both| both.map(each));
        Ok(report)
    }

    /// Says what the room remembers.
    fn fill(
        &self,
        server: &ServerUnderTest,
        room: usize,
        joiner: &mut Joiner,
    ) -> Result<(), BenchError> {
        let mut speaker = Caller::new(server.connect(room, 0)?, BUFFER_BYTES)?;
        joiner.poll.add(&speaker.inbox.stream, 0)?;
        let (mut text, mut heard) = (String::new(), 0);
        for number in 0..u64::from(self.messages) {
            text.clear();
            message::request(&mut text, number, 0, self.content_bytes);
            speaker.send(&text)?;
        }
        let begun = Instant::now();
        while heard < self.messages {
            if begun.elapsed() > PATIENCE {
                let text = format!("it said {heard} of {} messages", self.messages);
                return Err(BenchError::Server(text));
            }
            let _ready = joiner.poll.wait::<1>(TURN)?;
            speaker.receive(
                || 0,
                |frame| heard += u32::from(message::numbers(frame.payload).is_some()),
            )?;
        }
        Ok(())
    }

    fn lines(&self, report: &Report) -> Vec<(&'static str, String)> {
        let full = report.full.max(1);
        let mut lines = vec![
            (
                "joins",
                format!(
                    "{:.0} a second, one after the other; {} got {} messages, {} fewer",
                    report.per_second(),
                    report.full,
                    self.messages,
                    report.refused
                ),
            ),
            ("each", format!("{} bytes of history", report.bytes / full)),
            ("join", report.ages.line()),
        ];
        lines.extend(report.cpu_micros.map(|cpu| ("processor", cpu_each(cpu))));
        lines
    }

    fn json(&self, report: &Report) -> Value {
        json!({
            "joins_per_second": report.per_second().round(),
            "full": report.full,
            "refused": report.refused,
            "bytes_per_join": report.bytes / report.full.max(1),
            "latency_us": report.ages.json(),
            "server_cpu_us_per_join": report.cpu_micros.map(user_and_system),
            "messages": self.messages,
            "content_bytes": self.content_bytes,
        })
    }
}

impl Report {
    fn per_second(&self) -> f64 {
        (self.full + self.refused) as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

/// What a joining viewer got.
#[derive(Default)]
struct Got {
    messages: u64,
    bytes: u64,
}

/// Joins one viewer after the other.
struct Joiner {
    poll: Poll,
}

impl Joiner {
    fn new() -> Result<Self, BenchError> {
        Ok(Self { poll: Poll::new()? })
    }

    /// Joins, reads the state and, if the room `remembers`, the history to its end, and leaves.
    fn join(
        &mut self,
        server: &ServerUnderTest,
        room: usize,
        index: usize,
        remembers: bool,
    ) -> Result<Got, BenchError> {
        let mut viewer = Caller::new(server.connect(room, index)?, BUFFER_BYTES)?;
        self.poll.add(&viewer.inbox.stream, index)?;
        let (mut got, mut announced) = (Got::default(), None);
        let begun = Instant::now();
        // Without a memory the state of the room is all there is.
        while announced.is_none_or(|announced| got.messages < announced) {
            if begun.elapsed() > PATIENCE {
                let text = format!("a viewer got {} of {announced:?} messages", got.messages);
                return Err(BenchError::Server(text));
            }
            let _ready = self.poll.wait::<1>(TURN)?;
            viewer.receive(
                || 0,
                |frame| {
                    if message::numbers(frame.payload).is_some() {
                        got.messages += 1;
                        got.bytes += frame.bytes;
                    } else if !remembers {
                        announced = Some(0);
                    } else if let Some(count) = announced_in(frame.payload) {
                        announced = Some(count);
                    }
                },
            )?;
        }
        self.poll.remove(&viewer.inbox.stream)?;
        reset(&viewer.inbox.stream).map_err(BenchError::lost)?;
        Ok(got)
    }
}

/// The number of messages that a history event announces; `None`: it is another frame.
fn announced_in(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    let (_, rest) = text
        .split_once(r#""EventName":"uproar:history""#)?
        .1
        .split_once(r#""Count":""#)?;
    rest.split('"').next()?.parse().ok()
}

/// Space for a history, and what one read takes.
const BUFFER_BYTES: usize = 128 * 1024;
/// Longest wait for bytes before the clock is read.
const TURN: Duration = Duration::from_millis(100);
/// Longest wait for what a viewer gets.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read() {
        let event = r#"{"Type":"EVENT","Id":"a","RequestId":"","EventName":"uproar:history","Attributes":{"Count":"50","Complete":"true"}}"#;
        assert_eq!(announced_in(event.as_bytes()), Some(50));
        assert_eq!(
            announced_in(br#"{"EventName":"uproar:viewers","Attributes":{"Count":"50"}}"#),
            None
        );
    }
}
