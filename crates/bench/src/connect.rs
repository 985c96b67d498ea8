//! `uproar bench connect`: handshakes per second, many at once; with a token each, if the server
//! has tokens.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use rustls::CipherSuite;
use serde_json::{Value, json};

use crate::harness::ages::{Ages, histogram, record};
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::count;
use crate::harness::handshake::Handshakes;
use crate::harness::machine::Usage;
use crate::harness::program::Environment;
use crate::harness::report::{Progress, cpu_each, print, refused, user_and_system};
use crate::harness::server::ServerUnderTest;
use crate::harness::target::{Peer, Target};
use crate::harness::tls::client::{Kinds, TlsClient, suite_name};
use crate::harness::viewer;
use crate::harness::viewer_stream::ViewerStream;

/// Flags of `uproar bench connect`.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    peer: Peer,
    /// Handshakes altogether
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = count(1..=10_000_000))]
    total: usize,
    /// Handshakes in progress at once
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = count(1..=4096))]
    width: usize,
    /// Connections that stay open; above this number the oldest is cut
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = count(..=0xFFFF_FFFF))]
    held: usize,
    /// Rooms of the server that is started, or of a peer
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = count(1..=65_535))]
    rooms: usize,
    /// Every handshake that is measured uses a ticket of an earlier one
    #[arg(long, requires = "tls")]
    resume: bool,
    /// Other measurements have this flag; here the work is given, and its time is measured
    #[arg(long, hide = true, value_parser = not_timed)]
    seconds: Option<u64>,
}

fn not_timed(_: &str) -> Result<u64, String> {
    Err("`bench connect` counts handshakes: give --total N".to_owned())
}

/// The result of the measurement.
struct Report {
    /// Connections that were opened per second.
    per_second: f64,
    opened: u64,
    /// What moves the server's bytes; `None` if it does not say.
    io: Option<String>,
    refused: u64,
    /// Why the first handshake was refused.
    first_refusal: Option<String>,
    /// Duration of handshakes, from the first packet to the end of the server's answer.
    ages: Ages,
    /// Processor microseconds of the server for each handshake, user and system, with those of
    /// ending connections.
    cpu_micros: Option<[f64; 2]>,
    /// TLS handshakes of each kind, and the suite of the last one; `None` without TLS.
    tls: Option<(Kinds, CipherSuite)>,
    /// Share of the time in which this process ran. Near 1 the server waited for it.
    client_busy: f64,
}

impl Connect {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        if self.peer.nats.is_some() {
            let text = "--nats: a NATS connection begins without a WebSocket handshake";
            return Err(Failure::Usage(text.to_owned()));
        }
        let (peer, program) = (&self.peer, environment.program);
        let mut server = peer.server(&self.target, program, self.rooms, &[])?;
        if self.resume {
            server.tls = Some(TlsClient::new(true));
        }
        let report = self.measure(&server, &Progress::new(self.total))?;
        let lines = report.lines(self.width);
        let machine = &environment.machine;
        print(self.target.json, machine, report.json(self.width), &lines);
        Ok(())
    }

    /// Mints the tokens and writes the requests, then makes the handshakes.
    fn measure(&self, server: &ServerUnderTest, progress: &Progress) -> Result<Report, BenchError> {
        let mut handshakes = Handshakes::new(server.messaging, server.tls.clone())?;
        if self.resume {
            self.gather_tickets(server, &mut handshakes)?;
        }
        let requests = requests(server, &handshakes, 0..self.total)?;
        let kinds = || server.tls.as_ref().map(TlsClient::kinds);
        let kinds_before = kinds();
        let own = || Usage::of(std::process::id());
        let (server_before, own_before, begun) = (server.usage(), own(), Instant::now());
        let made = self.shake_hands(&mut handshakes, requests, progress)?;
        let elapsed = begun.elapsed().as_secs_f64();
        let opened = made.durations.len();
        let each = |time: Duration| time.as_micros() as f64 / opened.max(1) as f64;
        let cpu = server.cpu_since(server_before);
        let kinds = kinds_before.zip(kinds());
        let kinds = kinds.map(|(before, after)| after.since(before));
        if self.resume {
            kinds.map_or(Ok(()), Kinds::must_resume)?;
        }
        Ok(Report {
            tls: kinds.zip(server.tls.as_ref().and_then(TlsClient::suite)),
            per_second: opened as f64 / elapsed,
            opened,
            io: server.io(),
            refused: made.refused,
            first_refusal: made.first_refusal,
            ages: Ages::of(&made.durations),
            cpu_micros: cpu.map(|both| both.map(each)),
            client_busy: own().busy_since(&own_before).as_secs_f64() / elapsed,
        })
    }

    /// Makes handshakes that are not measured, for their tickets: twice as many as are in progress
    /// at once, since a server sends one with each at least.
    fn gather_tickets(
        &self,
        server: &ServerUnderTest,
        handshakes: &mut Handshakes,
    ) -> Result<(), BenchError> {
        let some = self.total..self.total + 2 * self.width;
        let requests = requests(server, handshakes, some)?;
        let made = self.shake_hands(handshakes, requests, &Progress::new(2 * self.width))?;
        match made.first_refusal {
            None => Ok(()),
            Some(cause) => Err(BenchError::Connect {
                index: self.total,
                cause: io::Error::other(cause),
            }),
        }
    }

    fn shake_hands(
        &self,
        handshakes: &mut Handshakes,
        requests: Vec<String>,
        progress: &Progress,
    ) -> Result<Made, BenchError> {
        let mut requests = requests.into_iter().enumerate();
        let mut held: VecDeque<ViewerStream> = VecDeque::with_capacity(self.held + 1);
        let mut made = Made {
            durations: histogram(),
            refused: 0,
            first_refusal: None,
        };
        loop {
            while handshakes.pending() < self.width {
                let Some((index, request)) = requests.next() else {
                    break;
                };
                handshakes
                    .begin(index, request)
                    .map_err(|cause| BenchError::Connect { index, cause })?;
            }
            if handshakes.pending() == 0 {
                return Ok(made);
            }
            handshakes.turn(TURN, |ended| {
                progress.step();
                match ended.outcome {
                    Ok(stream) => {
                        record(&mut made.durations, ended.took);
                        held.push_back(stream);
                    }
                    Err(error) => {
                        made.refused += 1;
                        made.first_refusal.get_or_insert_with(|| error.to_string());
                    }
                }
            })?;
            while held.len() > self.held {
                held.pop_front().map(viewer::reset).transpose()?;
            }
        }
    }
}

/// Returns the upgrade requests of some viewers.
fn requests(
    server: &ServerUnderTest,
    handshakes: &Handshakes,
    viewers: Range<usize>,
) -> Result<Vec<String>, BenchError> {
    let request = |index| {
        let room = index % server.room_count();
        let (path, token) = server.access(room, &viewer::name(index))?;
        Ok(handshakes.request(&path, token.as_deref()))
    };
    viewers.map(request).collect()
}

/// The handshakes that are over.
struct Made {
    /// Durations of those that were accepted, in microseconds.
    durations: Histogram<u64>,
    refused: u64,
    /// Why the first one was refused.
    first_refusal: Option<String>,
}

impl Report {
    /// Returns the handshakes for each second of the server's processor time.
    fn per_cpu_second(&self) -> Option<f64> {
        self.cpu_micros.map(|[user, system]| 1e6 / (user + system))
    }

    fn lines(&self, width: usize) -> Vec<(&'static str, String)> {
        let each = self.per_cpu_second().zip(self.cpu_micros);
        let cpu = each.map_or_else(
            || "not known without --pid".to_owned(),
            |(per_second, micros)| {
                format!("{}, {per_second:.0} for a second of it", cpu_each(micros))
            },
        );
        let refused = refused(self.refused, self.first_refusal.as_deref());
        let busy = self.client_busy * 100.0;
        let mut lines = vec![
            (
                "handshakes",
                format!("{:.0} a second, {width} at once", self.per_second),
            ),
            ("latency", self.ages.line()),
            ("opened", format!("{}, {refused}", self.opened)),
            ("processor", cpu),
            (
                "io",
                self.io.clone().unwrap_or_else(|| "not known".to_owned()),
            ),
            ("this program", format!("busy for {busy:.0} % of the time")),
        ];
        lines.extend(self.tls.map(|(kinds, suite)| {
            let Kinds { resumed, full } = kinds;
            let suite = suite_name(suite);
            ("tls", format!("{resumed} resumed, {full} full; {suite}"))
        }));
        lines
    }

    fn json(&self, width: usize) -> Value {
        let mut result = json!({
            "handshakes_per_second": self.per_second.round(),
            "opened": self.opened,
            "refused": self.refused,
            "first_refusal": self.first_refusal,
            "latency_us": self.ages.json(),
            "server_cpu_us_per_handshake": self.cpu_micros.map(user_and_system),
            "handshakes_per_cpu_second": self.per_cpu_second().map(f64::round),
            "client_busy": self.client_busy,
            "width": width,
            "io": self.io,
        });
        if let Some((kinds, suite)) = self.tls {
            result["tls"] = json!({
                "suite": suite_name(suite),
                "resumed": kinds.resumed,
                "full": kinds.full,
            });
        }
        result
    }
}

/// Longest wait until a handshake can go on.
const TURN: Duration = Duration::from_millis(100);
