//! `uproar bench ingest`: many senders, each at a rate. What the server accepted shows in each
//! sender's own echo.

use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::harness::ages::{Ages, histogram};
use crate::harness::caller::Caller;
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{content_bytes, count, seconds};
use crate::harness::message;
use crate::harness::poll::Poll;
use crate::harness::program::Environment;
use crate::harness::report::{Progress, cpu_each, print, user_and_system};
use crate::harness::server::ServerUnderTest;
use crate::harness::target::Target;
use crate::harness::viewer_stream::ViewerStream;

/// Flags of `uproar bench ingest`.
#[derive(Debug, Args)]
pub(crate) struct Ingest {
    #[command(flatten)]
    target: Target,
    /// Senders, spread over the rooms
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = count(1..=100_000))]
    senders: usize,
    /// Rooms of the server that is started
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = count(1..=65_535))]
    rooms: usize,
    /// Messages per second of each sender
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Length of each message's content, in bytes
    #[arg(long = "size", default_value_t = 50, value_name = "BYTES", value_parser = content_bytes())]
    content_bytes: usize,
    /// Length of the measurement, in seconds
    #[arg(long = "seconds", default_value = "5", value_name = "SECONDS", value_parser = seconds())]
    measured: Duration,
}

/// The result of the measurement.
struct Report {
    rooms: usize,
    /// Messages sent.
    sent: u64,
    /// Messages that came back to their senders.
    accepted: u64,
    /// Messages that an ERROR frame answered.
    refused: u64,
    /// Messages that had no answer, or came back twice.
    wrong: u64,
    /// From the first message to the last answer.
    elapsed: Duration,
    /// Ages of the echoes, from when a message was due to be sent.
    ages: Ages,
    /// Processor microseconds of the server for each accepted message, user and system.
    cpu_micros: Option<[f64; 2]>,
}

impl Ingest {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let server = self.target.server(environment.program, self.rooms)?;
        let report = self.measure(&server, &Progress::new(self.senders))?;
        let machine = &environment.machine;
        let (result, lines) = (self.json(&report), self.lines(&report));
        print(self.target.json, machine, result, &lines);
        Ok(())
    }

    fn measure(&self, server: &ServerUnderTest, progress: &Progress) -> Result<Report, BenchError> {
        let mut senders = Senders::connect(server, self.senders, progress)?;
        let before = server.usage();
        let (sent, elapsed) = self.drive(&mut senders)?;
        let sum = |figure: fn(&Sender) -> u64| senders.all.iter().map(figure).sum::<u64>();
        let (accepted, refused) = (sum(|sender| sender.echoed), sum(|sender| sender.refused));
        let each = |time: Duration| time.as_micros() as f64 / accepted.max(1) as f64;
        let cpu = server.cpu_since(before);
        Ok(Report {
            rooms: server.room_count(),
            sent,
            accepted,
            refused,
            wrong: sent.saturating_sub(accepted + refused) + sum(|sender| sender.repeated),
            elapsed,
            ages: Ages::of(&senders.ages),
            cpu_micros: cpu.map(|both| both.map(each)),
        })
    }

    /// Sends by the clock, then waits for the answers. Returns the number of messages, and the time
    /// from the first message to the last answer.
    fn drive(&self, senders: &mut Senders) -> Result<(u64, Duration), BenchError> {
        senders.begin = Instant::now();
        let interval = 1e9 / (f64::from(self.rate) * self.senders as f64);
        let total = (self.measured.as_nanos() as f64 / interval) as u64;
        let (mut sent, mut last_answer) = (0, senders.begin);
        let mut text = String::new();
        loop {
            let elapsed = senders.begin.elapsed();
            let due = ((elapsed.as_nanos() as f64 / interval) as u64 + 1).min(total);
            while sent < due {
                let due_at = (sent as f64 * interval) as u64;
                text.clear();
                message::request(&mut text, sent, due_at, self.content_bytes);
                let index = usize::try_from(sent).expect("64 bits") % self.senders;
                senders.all[index].caller.send(&text)?;
                sent += 1;
            }
            let next = senders.begin + Duration::from_nanos((due as f64 * interval) as u64);
            let wait = next.saturating_duration_since(Instant::now()).min(TURN);
            if senders.receive(if due == total { TURN } else { wait })? {
                last_answer = Instant::now();
            }
            let answered = senders.all.iter().map(Sender::answered).sum::<u64>();
            if sent == total && (answered >= total || elapsed > self.measured + DRAIN_MAX) {
                return Ok((sent, last_answer.duration_since(senders.begin)));
            }
        }
    }

    fn lines(&self, report: &Report) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            (
                "offered",
                format!(
                    "{} messages a second by {} senders in {} rooms",
                    u64::from(self.rate) * self.senders as u64,
                    self.senders,
                    report.rooms
                ),
            ),
            (
                "accepted",
                format!(
                    "{:.0} a second; {} of {}, {} refused, {} lost or repeated",
                    report.per_second(),
                    report.accepted,
                    report.sent,
                    report.refused,
                    report.wrong
                ),
            ),
            ("echo", report.ages.line()),
        ];
        lines.extend(report.cpu_micros.map(|cpu| ("processor", cpu_each(cpu))));
        lines
    }

    fn json(&self, report: &Report) -> Value {
        json!({
            "accepted_per_second": report.per_second().round(),
            "sent": report.sent,
            "accepted": report.accepted,
            "refused": report.refused,
            "lost_or_repeated": report.wrong,
            "latency_us": report.ages.json(),
            "server_cpu_us_per_message": report.cpu_micros.map(user_and_system),
            "senders": self.senders,
            "rooms": report.rooms,
            "messages_per_second_per_sender": self.rate,
        })
    }
}

impl Report {
    /// Accepted messages per second.
    fn per_second(&self) -> f64 {
        self.accepted as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

/// The senders of one measurement. Message number `n` belongs to sender number `n` modulo their
/// count.
struct Senders {
    all: Vec<Sender>,
    /// The senders, by index.
    poll: Poll,
    /// The zero of the times in messages.
    begin: Instant,
    /// Ages of echoes, in microseconds.
    ages: Histogram<u64>,
}

impl Senders {
    fn connect(
        server: &ServerUnderTest,
        senders: usize,
        progress: &Progress,
    ) -> Result<Self, BenchError> {
        let mut made = Self {
            all: Vec::with_capacity(senders),
            poll: Poll::new()?,
            begin: Instant::now(),
            ages: histogram(),
        };
        for index in 0..senders {
            let stream = server.connect(index % server.room_count(), index)?;
            made.poll.add(&stream, index)?;
            made.all.push(Sender::new(stream)?);
            progress.step();
        }
        Ok(made)
    }

    /// Reads what came to the senders; waits for it at most for `wait`. Returns whether something
    /// came.
    fn receive(&mut self, wait: Duration) -> Result<bool, BenchError> {
        let (begin, count) = (self.begin, self.all.len() as u64);
        let mut any = false;
        for index in self.poll.wait::<256>(wait)? {
            any = true;
            let clock = || begin.elapsed().as_nanos() as u64;
            let is_own = |number| number % count == index as u64;
            self.all[index].receive(clock, is_own, &mut self.ages)?;
        }
        Ok(any)
    }
}

struct Sender {
    caller: Caller,
    /// One above the highest own number that came back.
    next: u64,
    /// Own messages that came back.
    echoed: u64,
    /// Own messages that came back twice, or after a later one.
    repeated: u64,
    /// ERROR frames.
    refused: u64,
}

impl Sender {
    fn new(stream: impl Into<ViewerStream>) -> io::Result<Self> {
        Ok(Self {
            caller: Caller::new(stream, BUFFER_BYTES)?,
            next: 0,
            echoed: 0,
            repeated: 0,
            refused: 0,
        })
    }

    fn answered(&self) -> u64 {
        self.echoed + self.refused
    }

    /// Reads what came. Messages whose number is not `is_own` are other senders' of the room.
    fn receive(
        &mut self,
        clock: impl Fn() -> u64,
        is_own: impl Fn(u64) -> bool,
        ages: &mut Histogram<u64>,
    ) -> Result<(), BenchError> {
        self.caller
            .receive(clock, |frame| match message::numbers(frame.payload) {
                None => self.refused += 1,
                Some((number, _)) if !is_own(number) => {}
                Some((number, _)) if number < self.next => self.repeated += 1,
                Some((number, due)) => {
                    self.next = number + 1;
                    self.echoed += 1;
                    ages.saturating_record(frame.now.saturating_sub(due) / 1000);
                }
            })
    }
}

/// Space for the longest frame, and what one read takes.
const BUFFER_BYTES: usize = 32 * 1024;
/// Longest wait for an answer before the clock is read.
const TURN: Duration = Duration::from_millis(5);
/// Longest wait for answers after the last message.
const DRAIN_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    /// Goal: a sender counts its own echoes once, repeated ones and refusals, and no other sender's
    /// messages.
    #[test]
    fn only_own_echoes_count() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
        let (mut server, _) = listener.accept().expect("just connected");
        let mut sender = Sender::new(client).expect("non-blocking");
        let mut wire = Vec::new();
        for number in [0_u64, 1, 2, 3, 4, 4] {
            let mut text = String::from(r#"{"Content":""#);
            message::content(&mut text, number, 1_000_000, 0);
            text.push_str(r#""}"#);
            wire.extend([0x81, u8::try_from(text.len()).expect("short")]);
            wire.extend(text.as_bytes());
        }
        wire.extend(b"\x81\x10{\"Type\":\"ERROR\"}");
        server.write_all(&wire).expect("loopback");
        let (mut ages, begun) = (histogram(), Instant::now());
        while sender.answered() < 4 && begun.elapsed() < DRAIN_MAX {
            let even = |number| number % 2 == 0;
            sender.receive(|| 3_000_000, even, &mut ages).expect("open");
        }
        assert_eq!((sender.echoed, sender.repeated, sender.refused), (3, 1, 1));
        assert_eq!((ages.len(), ages.min()), (3, 2000));
    }
}
