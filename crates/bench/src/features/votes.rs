//! `uproar bench features votes`: voters of one tally, each at a rate. What the server has counted shows in the answer that
//! each vote gets.

use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::harness::ages::{Ages, histogram};
use crate::harness::caller::Caller;
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{count, seconds};
use crate::harness::message;
use crate::harness::poll::Poll;
use crate::harness::program::Environment;
use crate::harness::report::{Progress, cpu_each, print, user_and_system};
use crate::harness::server::ServerUnderTest;
use crate::harness::target::Target;
use crate::harness::viewer_stream::ViewerStream;

/// Flags of the measure.
#[derive(Debug, Args)]
pub(crate) struct Votes {
    #[command(flatten)]
    target: Target,
    /// Voters, each on a connection of its own, in one room
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = count(1..=100_000))]
    voters: usize,
    /// Votes per second of each voter: the first is new, the others change it
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Length of the measurement, in seconds
    #[arg(long = "seconds", default_value = "5", value_name = "SECONDS", value_parser = seconds())]
    measured: Duration,
}

struct Report {
    sent: u64,
    counted: u64,
    refused: u64,
    /// From the first vote to the last answer.
    elapsed: Duration,
    /// Ages of the answers, from when a vote was due to be sent.
    ages: Ages,
    /// Processor microseconds of the server for each counted vote, user and system.
    cpu_micros: Option<[f64; 2]>,
}

impl Votes {
    pub(super) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let mut server = self.target.server(environment.program, 1)?;
        server.begin_tally(TALLY)?;
        let report = self.measure(&server, &Progress::new(self.voters))?;
        let (result, lines) = (self.json(&report), self.lines(&report));
        print(self.target.json, &environment.machine, result, &lines);
        Ok(())
    }

    fn measure(&self, server: &ServerUnderTest, progress: &Progress) -> Result<Report, BenchError> {
        let mut voters = Voters::connect(server, self.voters, progress)?;
        let before = server.usage();
        let (sent, elapsed) = self.drive(&mut voters)?;
        let sum = |figure: fn(&Voter) -> u64| voters.all.iter().map(figure).sum::<u64>();
        let counted = sum(|voter| voter.counted);
        let each = |time: Duration| time.as_micros() as f64 / counted.max(1) as f64;
        let cpu = server.cpu_since(before);
        Ok(Report {
            sent,
            counted,
            refused: sum(|voter| voter.refused),
            elapsed,
            ages: Ages::of(&voters.ages),
            cpu_micros: cpu.map(|both| both.map(each)),
        })
    }

    /// Votes by the clock, then waits for the answers. Returns the number of votes, and the time from the first vote to the
    /// last answer.
    fn drive(&self, voters: &mut Voters) -> Result<(u64, Duration), BenchError> {
        voters.begin = Instant::now();
        let interval = 1e9 / (f64::from(self.rate) * self.voters as f64);
        let total = (self.measured.as_nanos() as f64 / interval) as u64;
        let (mut sent, mut last_answer) = (0, voters.begin);
        let mut text = String::new();
        loop {
            let elapsed = voters.begin.elapsed();
            let due = ((elapsed.as_nanos() as f64 / interval) as u64 + 1).min(total);
            while sent < due {
                text.clear();
                let option = 1 + sent / self.voters as u64 % 2;
                request(&mut text, (sent as f64 * interval) as u64, option);
                let index = usize::try_from(sent).expect("64 bits") % self.voters;
                voters.all[index].caller.send(&text)?;
                sent += 1;
            }
            let next = voters.begin + Duration::from_nanos((due as f64 * interval) as u64);
            let wait = next.saturating_duration_since(Instant::now()).min(TURN);
            if voters.receive(if due == total { TURN } else { wait })? {
                last_answer = Instant::now();
            }
            let answered = voters.all.iter().map(Voter::answered).sum::<u64>();
            if sent == total && (answered >= total || elapsed > self.measured + DRAIN_MAX) {
                return Ok((sent, last_answer.duration_since(voters.begin)));
            }
        }
    }

    fn lines(&self, report: &Report) -> Vec<(&'static str, String)> {
        let offered = u64::from(self.rate) * self.voters as u64;
        let mut lines = vec![
            (
                "offered",
                format!("{offered} votes a second by {} voters", self.voters),
            ),
            (
                "counted",
                format!(
                    "{:.0} a second; {} of {}, {} refused",
                    report.per_second(),
                    report.counted,
                    report.sent,
                    report.refused
                ),
            ),
            ("answer", report.ages.line()),
        ];
        lines.extend(report.cpu_micros.map(|cpu| ("processor", cpu_each(cpu))));
        lines
    }

    fn json(&self, report: &Report) -> Value {
        json!({
            "counted_per_second": report.per_second().round(),
            "sent": report.sent,
            "counted": report.counted,
            "refused": report.refused,
            "latency_us": report.ages.json(),
            "server_cpu_us_per_vote": report.cpu_micros.map(user_and_system),
            "voters": self.voters,
            "votes_per_second_per_voter": self.rate,
        })
    }
}

impl Report {
    /// Counted votes per second.
    fn per_second(&self) -> f64 {
        self.counted as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

/// Appends a vote that is due at `nanos`: the time comes back in the answer.
fn request(out: &mut String, nanos: u64, option: u64) {
    let _infallible = write!(
        out,
        r#"{{"Action":"SEND_MESSAGE","RequestId":"live-{nanos:016x}","Content":"{option}","Attributes":{{"uproar:do":"vote","uproar:tally":"{TALLY}","uproar:option":"{option}"}}}}"#
    );
}

/// The voters of one measurement.
struct Voters {
    all: Vec<Voter>,
    poll: Poll,
    /// The zero of the times in votes.
    begin: Instant,
    /// Ages of answers, in microseconds.
    ages: Histogram<u64>,
}

impl Voters {
    fn connect(
        server: &ServerUnderTest,
        voters: usize,
        progress: &Progress,
    ) -> Result<Self, BenchError> {
        let mut made = Self {
            all: Vec::with_capacity(voters),
            poll: Poll::new()?,
            begin: Instant::now(),
            ages: histogram(),
        };
        for index in 0..voters {
            let stream = server.connect(0, index)?;
            made.poll.add(&stream, index)?;
            made.all.push(Voter::new(stream)?);
            progress.step();
        }
        Ok(made)
    }

    /// Reads what came; waits for it at most for `wait`. Returns whether something came.
    fn receive(&mut self, wait: Duration) -> Result<bool, BenchError> {
        let begin = self.begin;
        let mut any = false;
        for index in self.poll.wait::<256>(wait)? {
            any = true;
            let clock = || begin.elapsed().as_nanos() as u64;
            self.all[index].receive(clock, &mut self.ages)?;
        }
        Ok(any)
    }
}

struct Voter {
    caller: Caller,
    /// Votes that were counted.
    counted: u64,
    /// ERROR frames.
    refused: u64,
}

impl Voter {
    fn new(stream: impl Into<ViewerStream>) -> io::Result<Self> {
        Ok(Self {
            caller: Caller::new(stream, BUFFER_BYTES)?,
            counted: 0,
            refused: 0,
        })
    }

    fn answered(&self) -> u64 {
        self.counted + self.refused
    }

    /// Reads what came: answers, and events of the tally, which are not counted.
    fn receive(
        &mut self,
        clock: impl Fn() -> u64,
        ages: &mut Histogram<u64>,
    ) -> Result<(), BenchError> {
        self.caller.receive(clock, |frame| {
            if frame.payload.starts_with(ERROR) {
                self.refused += 1;
            } else if let Some(due) = message::spoken_at(frame.payload) {
                self.counted += 1;
                ages.saturating_record(frame.now.saturating_sub(due) / 1000);
            }
        })
    }
}

/// The tally's id.
const TALLY: &str = "bench";
/// How an ERROR frame begins.
const ERROR: &[u8] = br#"{"Type":"ERROR""#;
/// Space for the longest frame, and what one read takes.
const BUFFER_BYTES: usize = 32 * 1024;
/// Longest wait for an answer before the clock is read.
const TURN: Duration = Duration::from_millis(5);
/// Longest wait for answers after the last vote.
const DRAIN_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    /// Goal: an answer is counted with its age, a refusal as one, an event of the tally as nothing.
    #[test]
    fn answers_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
        let (mut server, _) = listener.accept().expect("just connected");
        let mut voter = Voter::new(client).expect("non-blocking");
        for text in [
            r#"{"Type":"EVENT","Id":"AAAAAAAAAAAA","RequestId":"","EventName":"uproar:tally"}"#,
            r#"{"Type":"MESSAGE","Id":"AAAAAAAAAAAA","RequestId":"live-00000000000f4240"}"#,
            r#"{"Type":"ERROR","Id":"AAAAAAAAAAAA","RequestId":"live-00000000000f4240"}"#,
        ] {
            let head = [0x81, u8::try_from(text.len()).expect("short")];
            server
                .write_all(&[&head, text.as_bytes()].concat())
                .expect("loopback");
        }
        let (mut ages, begun) = (histogram(), Instant::now());
        while voter.answered() < 2 && begun.elapsed() < DRAIN_MAX {
            voter.receive(|| 3_000_000, &mut ages).expect("open");
        }
        assert_eq!((voter.counted, voter.refused), (1, 1));
        assert_eq!((ages.len(), ages.min()), (1, 2000));
    }
}
