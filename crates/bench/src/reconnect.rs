//! `uproar bench reconnect`: all viewers lose their connections at once and come back at once, with
//! new tokens.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::harness::ages::{Ages, histogram, record};
use crate::harness::background_room::BackgroundRoom;
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{count, seconds};
use crate::harness::handshake::Handshakes;
use crate::harness::program::Environment;
use crate::harness::report::{Progress, print, refused};
use crate::harness::server::{ServerUnderTest, Uproar};
use crate::harness::target::Target;
use crate::harness::tls::client::{Kinds, TlsClient};
use crate::harness::viewer;
use crate::harness::viewer_stream::ViewerStream;

/// Flags of `uproar bench reconnect`.
#[derive(Debug, Args)]
pub(crate) struct Reconnect {
    #[command(flatten)]
    target: Target,
    /// Viewers that are cut off and come back
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = count(1..=1_000_000))]
    clients: usize,
    /// Handshakes in progress at once while they come back [default: all]
    #[arg(long, value_name = "N", value_parser = count(1..=0xFFFF_FFFF))]
    width: Option<usize>,
    /// Who comes back uses a ticket of an earlier connection
    #[arg(long, requires = "tls")]
    resume: bool,
    /// Rooms of the server that is started; the first is the background room
    #[arg(long, default_value_t = 11, value_name = "N", value_parser = count(2..=65_535))]
    rooms: usize,
    /// Messages per second in the background room
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rate: u16,
    /// How long the background room is measured before the viewers are cut off, in seconds
    #[arg(long = "seconds", default_value = "3", value_name = "SECONDS", value_parser = seconds())]
    before: Duration,
}

/// The result of the measurement.
struct Report {
    /// From the first viewer's end to the last one's.
    cut: Duration,
    /// From the first viewer's end to the last one's return.
    back: Duration,
    /// Handshakes that failed and were tried again.
    refused: u64,
    /// Why the first handshake failed.
    first_refusal: Option<String>,
    /// Durations of successful handshakes while the viewers came back.
    handshakes: Ages,
    /// Ages of the background room's messages before.
    calm: Ages,
    /// Ages of the background room's messages from the first end to the last return.
    during: Ages,
    /// Messages of the background room that were refused, lost or repeated.
    wrong: u64,
    /// Processor time of the server from the first end to the last return.
    cpu: Option<Duration>,
    /// TLS handshakes of those who came back; `None` without TLS.
    kinds: Option<Kinds>,
}

impl Reconnect {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let mut server = self.target.server(environment.program, self.rooms)?;
        if self.resume {
            server.tls = Some(TlsClient::new(true));
        }
        let report = self.measure(&server, &Progress::new(self.clients))?;
        let machine = &environment.machine;
        let (result, lines) = (self.json(&report), self.lines(&report));
        print(self.target.json, machine, result, &lines);
        Ok(())
    }

    fn width(&self) -> usize {
        self.width.unwrap_or(self.clients)
    }

    /// Connects viewers to all rooms but the first, the background room, and cuts them off.
    fn measure(&self, server: &ServerUnderTest, progress: &Progress) -> Result<Report, BenchError> {
        if server.room_count() < 2 {
            let text = "reconnect needs two rooms: one is the background room";
            return Err(BenchError::Server(text.to_owned()));
        }
        let mut streams = self.gather(server, progress)?;
        let tokens = mint(server.uproar()?, self.clients)?;
        let rate = f64::from(self.rate);
        let mut background = BackgroundRoom::join(server, 0, MEMBERS, self.clients, rate)?;
        let begun = Instant::now();
        while begun.elapsed() < self.before {
            background.turn()?;
            std::thread::sleep(TURN);
        }
        let (calm, _) = background.settle()?;

        let (before, begun) = (server.usage(), Instant::now());
        for part in streams.chunks_mut(CHUNK) {
            for stream in part {
                stream.take().map(viewer::reset).transpose()?;
            }
            background.turn()?;
        }
        let cut = begun.elapsed();
        let kinds = || server.tls.as_ref().map(TlsClient::kinds);
        let kinds_before = kinds();
        let mut returning = Returning::new(server, self.width(), tokens)?;
        while returning.streams.len() < self.clients {
            if begun.elapsed() > RETURN_MAX {
                return Err(BenchError::Server(format!(
                    "{} of {} viewers are back after {} s",
                    returning.streams.len(),
                    self.clients,
                    RETURN_MAX.as_secs()
                )));
            }
            returning.turn()?;
            background.turn()?;
        }
        let back = begun.elapsed();
        let kinds = kinds_before.zip(kinds());
        let kinds = kinds.map(|(before, after)| after.since(before));
        if self.resume {
            kinds.map_or(Ok(()), Kinds::must_resume)?;
        }
        let cpu = server.busy_since(before);
        let (during, wrong) = background.settle()?;
        Ok(Report {
            cut,
            back,
            refused: returning.refused,
            first_refusal: returning.first_refusal,
            handshakes: Ages::of(&returning.durations),
            calm: Ages::of(&calm),
            during: Ages::of(&during),
            wrong,
            cpu,
            kinds,
        })
    }

    /// Connects the viewers that will be cut off.
    fn gather(
        &self,
        server: &ServerUnderTest,
        progress: &Progress,
    ) -> Result<Vec<Option<ViewerStream>>, BenchError> {
        let tokens = mint(server.uproar()?, self.clients)?;
        let mut coming = Returning::new(server, GATHER_WIDTH, tokens)?;
        while coming.streams.len() < self.clients {
            let before = coming.streams.len();
            coming.turn()?;
            (before..coming.streams.len()).for_each(|_| progress.step());
            if let Some(cause) = coming.first_refusal {
                let cause = io::Error::other(cause);
                return Err(BenchError::Connect {
                    index: before,
                    cause,
                });
            }
        }
        Ok(coming.streams.into_iter().map(Some).collect())
    }

    fn lines(&self, report: &Report) -> Vec<(&'static str, String)> {
        let seconds = report.back.as_secs_f64();
        let per_second = self.clients as f64 / seconds;
        let mut lines = vec![
            (
                "cut",
                format!(
                    "{} viewers within {} ms",
                    self.clients,
                    report.cut.as_millis()
                ),
            ),
            (
                "last one back",
                format!("after {seconds:.2} s, {per_second:.0} a second"),
            ),
            ("handshakes", report.handshakes.line()),
            (
                "tried again",
                refused(report.refused, report.first_refusal.as_deref()),
            ),
            ("others before", report.calm.line()),
            ("others during", report.during.line()),
            ("others lost", report.wrong.to_string()),
        ];
        let tls = |Kinds { resumed, full }| format!("{resumed} resumed, {full} full");
        lines.extend(report.kinds.map(|kinds| ("tls", tls(kinds))));
        let cpu = |cpu: Duration| format!("{} ms of the server", cpu.as_millis());
        lines.extend(report.cpu.map(|time| ("processor", cpu(time))));
        lines
    }

    fn json(&self, report: &Report) -> Value {
        json!({
            "clients": self.clients,
            "cut_ms": report.cut.as_secs_f64() * 1e3,
            "last_back_ms": report.back.as_secs_f64() * 1e3,
            "returns_per_second": (self.clients as f64 / report.back.as_secs_f64()).round(),
            "refused": report.refused,
            "first_refusal": report.first_refusal,
            "handshake_us": report.handshakes.json(),
            "bystander_us_before": report.calm.json(),
            "bystander_us_during": report.during.json(),
            "bystander_wrong": report.wrong,
            "server_cpu_ms": report.cpu.map(|cpu| cpu.as_secs_f64() * 1e3),
            "width": self.width(),
            "tls": report.kinds.map(|kinds| json!({"resumed": kinds.resumed, "full": kinds.full})),
        })
    }
}

fn mint(uproar: &Uproar, clients: usize) -> Result<Vec<String>, BenchError> {
    let mint = |index| uproar.token(room_of(uproar, index), &viewer::name(index));
    (0..clients).map(mint).collect()
}

/// Returns the room of a viewer: any but the first.
fn room_of(uproar: &Uproar, index: usize) -> usize {
    1 + index % (uproar.rooms.len() - 1)
}

/// Viewers that connect, each again after a refusal.
struct Returning<'a> {
    uproar: &'a Uproar,
    /// Most handshakes in progress at once.
    width: usize,
    /// The token of each viewer.
    tokens: Vec<String>,
    /// Viewers whose first handshake has begun.
    begun: usize,
    /// Viewers that were refused, and when they try again; in order of time.
    again: VecDeque<(Instant, usize)>,
    handshakes: Handshakes,
    /// The open connections.
    streams: Vec<ViewerStream>,
    /// Durations of successful handshakes, in microseconds.
    durations: Histogram<u64>,
    refused: u64,
    /// Why the first handshake failed.
    first_refusal: Option<String>,
}

impl<'a> Returning<'a> {
    fn new(
        server: &'a ServerUnderTest,
        width: usize,
        tokens: Vec<String>,
    ) -> Result<Self, BenchError> {
        Ok(Self {
            uproar: server.uproar()?,
            width,
            begun: 0,
            again: VecDeque::new(),
            handshakes: Handshakes::new(server.messaging, server.tls.clone())?,
            streams: Vec::with_capacity(tokens.len()),
            tokens,
            durations: histogram(),
            refused: 0,
            first_refusal: None,
        })
    }

    /// Begins some handshakes and continues others. This takes a millisecond at most, so that the
    /// background room, which shares the thread, is read in time.
    fn turn(&mut self) -> Result<(), BenchError> {
        let mut begun = 0;
        while begun < CHUNK && self.handshakes.pending() < self.width && self.begin_next()? {
            begun += 1;
        }
        let wait = if begun == 0 { TURN } else { Duration::ZERO };
        self.handshakes.turn(wait, |ended| match ended.outcome {
            Ok(stream) => {
                record(&mut self.durations, ended.took);
                self.streams.push(stream);
            }
            Err(error) => {
                self.refused += 1;
                self.first_refusal.get_or_insert_with(|| error.to_string());
                self.again.push_back((Instant::now() + RETRY, ended.index));
            }
        })?;
        Ok(())
    }

    /// Begins the next handshake. Returns whether there was one to begin.
    fn begin_next(&mut self) -> Result<bool, BenchError> {
        let index = if self.begun < self.tokens.len() {
            self.begun += 1;
            self.begun - 1
        } else {
            let due = |(at, _): &mut (Instant, usize)| *at <= Instant::now();
            let Some((_, index)) = self.again.pop_front_if(due) else {
                return Ok(false);
            };
            // The first token may have been used up by a handshake whose answer was lost.
            let room = room_of(self.uproar, index);
            self.tokens[index] = self.uproar.token(room, &viewer::name(index))?;
            index
        };
        let request = self.handshakes.request("/", Some(&self.tokens[index]));
        self.handshakes
            .begin(index, request)
            .map_err(|cause| BenchError::Connect { index, cause })?;
        Ok(true)
    }
}

/// Members of the background room, its sender among them.
const MEMBERS: usize = 10;
/// Handshakes in progress at once before the viewers are cut off.
const GATHER_WIDTH: usize = 64;
/// Connections that are begun or cut between two looks at the background room.
const CHUNK: usize = 16;
/// Between two looks at the background room.
const TURN: Duration = Duration::from_millis(1);
/// Before a refused viewer tries again.
const RETRY: Duration = Duration::from_millis(100);
/// Longest wait until all are back.
const RETURN_MAX: Duration = Duration::from_mins(2);
