//! `uproar bench storm`: everybody loses the connection at once and comes back at once, with new tokens.

use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bystander::Bystander;
use super::handshake::Handshakes;
use super::host::Host;
use super::{Ages, BenchError, histogram, viewer};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Viewers that are cut off.
    pub clients: usize,
    /// Handshakes under way at once while they come back.
    pub width: usize,
    /// Messages a second in the bystanders' room.
    pub rate: f64,
    /// For how long the bystanders are looked at before the storm.
    pub before: Duration,
}

/// What was measured.
#[derive(Debug)]
pub struct Storm {
    /// Viewers that were cut off.
    pub clients: usize,
    /// For cutting them all.
    pub cut: Duration,
    /// From the first cut to the last viewer's return.
    pub back: Duration,
    /// Handshakes that failed and were tried again, and why the first failed.
    pub refused: u64,
    /// See there.
    pub first_refusal: Option<String>,
    /// Of each successful handshake while they came back.
    pub handshakes: Ages,
    /// Age of the bystanders' messages before.
    pub calm: Ages,
    /// From the first cut to the last return.
    pub during: Ages,
    /// Bystanders' messages refused, lost or repeated.
    pub wrong: u64,
    /// Processor time of the server from the first cut to the last return.
    pub cpu: Option<Duration>,
}

/// Connects `plan.clients` viewers to all rooms but the first, where the bystanders are, and cuts them
/// off. `connected` hears of each connection before the storm.
pub fn run(host: &Host, plan: Plan, connected: impl FnMut()) -> Result<Storm, BenchError> {
    if host.room_count() < 2 {
        let text = "storm needs two rooms: one for bystanders";
        return Err(BenchError::Server(text.to_owned()));
    }
    let mut streams = gather(host, plan, connected)?;
    let tokens = mint(host, plan.clients)?;
    let mut bystander = Bystander::join(host, 0, BYSTANDERS, plan.clients, plan.rate)?;
    let begun = Instant::now();
    while begun.elapsed() < plan.before {
        bystander.turn()?;
        std::thread::sleep(TURN);
    }
    let (calm, _) = bystander.settle()?;

    let (before, begun) = (host.usage(), Instant::now());
    for part in streams.chunks_mut(CHUNK) {
        for stream in part {
            stream.take().map(viewer::reset).transpose()?;
        }
        bystander.turn()?;
    }
    let cut = begun.elapsed();
    let mut crowd = Returning::new(host, plan, tokens)?;
    while crowd.streams.len() < plan.clients {
        if begun.elapsed() > RETURN_MAX {
            return Err(BenchError::Server(format!(
                "{} of {} viewers are back after {} s",
                crowd.streams.len(),
                plan.clients,
                RETURN_MAX.as_secs()
            )));
        }
        crowd.turn()?;
        bystander.turn()?;
    }
    let back = begun.elapsed();
    let cpu = before.zip(host.usage());
    let (during, wrong) = bystander.settle()?;
    Ok(Storm {
        clients: plan.clients,
        cut,
        back,
        refused: crowd.refused,
        first_refusal: crowd.first_refusal,
        handshakes: Ages::of(&crowd.ages),
        calm: Ages::of(&calm),
        during: Ages::of(&during),
        wrong,
        cpu: cpu.map(|(before, after)| after.busy_since(&before)),
    })
}

fn mint(host: &Host, clients: usize) -> Result<Vec<String>, BenchError> {
    let mint = |index| host.token(room_of(host, index), &viewer::name(index));
    (0..clients).map(mint).collect()
}

fn room_of(host: &Host, index: usize) -> usize {
    1 + index % (host.room_count() - 1)
}

fn gather(
    host: &Host,
    plan: Plan,
    mut connected: impl FnMut(),
) -> Result<Vec<Option<TcpStream>>, BenchError> {
    let mut crowd = Returning::new(
        host,
        Plan {
            width: GATHER_WIDTH,
            ..plan
        },
        mint(host, plan.clients)?,
    )?;
    while crowd.streams.len() < plan.clients {
        let before = crowd.streams.len();
        crowd.turn()?;
        (before..crowd.streams.len()).for_each(|_| connected());
        if let Some(cause) = crowd.first_refusal {
            let cause = io::Error::other(cause);
            return Err(BenchError::Connect {
                index: before,
                cause,
            });
        }
    }
    Ok(crowd.streams.into_iter().map(Some).collect())
}

/// Viewers on their way in.
struct Returning<'a> {
    host: &'a Host,
    width: usize,
    tokens: Vec<String>,
    begun: usize,
    again: VecDeque<(Instant, usize)>,
    handshakes: Handshakes,
    streams: Vec<TcpStream>,
    ages: hdrhistogram::Histogram<u64>,
    refused: u64,
    first_refusal: Option<String>,
}

impl<'a> Returning<'a> {
    fn new(host: &'a Host, plan: Plan, tokens: Vec<String>) -> Result<Self, BenchError> {
        Ok(Self {
            host,
            width: plan.width,
            tokens,
            begun: 0,
            again: VecDeque::new(),
            handshakes: Handshakes::new(host.messaging)?,
            streams: Vec::with_capacity(plan.clients),
            ages: histogram(),
            refused: 0,
            first_refusal: None,
        })
    }

    /// Begins some handshakes and looks after those under way: a millisecond of work at most, so that
    /// the bystanders in the same thread are heard in time.
    fn turn(&mut self) -> Result<(), BenchError> {
        let mut begun = 0;
        while begun < CHUNK && self.handshakes.under_way() < self.width && self.begin_next()? {
            begun += 1;
        }
        let wait = if begun == 0 { TURN } else { Duration::ZERO };
        let (streams, ages, again) = (&mut self.streams, &mut self.ages, &mut self.again);
        self.handshakes.turn(wait, |ended| match ended.outcome {
            Ok(stream) => {
                let micros = ended.took.as_micros();
                ages.saturating_record(u64::try_from(micros).unwrap_or(u64::MAX));
                streams.push(stream);
            }
            Err(error) => {
                self.refused += 1;
                self.first_refusal.get_or_insert_with(|| error.to_string());
                again.push_back((Instant::now() + RETRY, ended.index));
            }
        })?;
        Ok(())
    }

    /// Whether there was one to begin.
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
            self.tokens[index] = self
                .host
                .token(room_of(self.host, index), &viewer::name(index))?;
            index
        };
        let request = self.handshakes.request("/", Some(&self.tokens[index]));
        self.handshakes
            .begin(index, request)
            .map_err(|cause| BenchError::Connect { index, cause })?;
        Ok(true)
    }
}

impl Storm {
    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "clients": self.clients,
            "cut_ms": self.cut.as_secs_f64() * 1e3,
            "last_back_ms": self.back.as_secs_f64() * 1e3,
            "returns_per_second": (self.clients as f64 / self.back.as_secs_f64()).round(),
            "refused": self.refused,
            "first_refusal": self.first_refusal,
            "handshake_us": self.handshakes.json(),
            "bystander_us_before": self.calm.json(),
            "bystander_us_during": self.during.json(),
            "bystander_wrong": self.wrong,
            "server_cpu_ms": self.cpu.map(|cpu| cpu.as_secs_f64() * 1e3),
        })
    }
}

/// Members of the bystanders' room, the speaker among them.
const BYSTANDERS: usize = 10;
/// Handshakes under way at once before the storm.
const GATHER_WIDTH: usize = 64;
/// Sockets touched between two looks at the bystanders.
const CHUNK: usize = 16;
/// Between two looks at the bystanders.
const TURN: Duration = Duration::from_millis(1);
/// Before a viewer that was refused tries again.
const RETRY: Duration = Duration::from_millis(100);
/// For all to come back.
const RETURN_MAX: Duration = Duration::from_mins(2);
