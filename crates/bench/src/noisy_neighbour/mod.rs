//! `uproar bench noisy-neighbour`: how a huge room affects a small one on the same shard.
//!
//! The small room's members and some of the huge one's belong to this process and are sampled. The
//! rest of the huge room is held by client processes of the lowest priority, which look at all
//! their connections all the time, also while the huge room is silent: so their part in the figures
//! is the same in every row. What is left of it is measured, as the delay with which this process
//! sends what is due.

mod row;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;

use self::row::{HEADING, Row, picture};

use crate::harness::ages::{Ages, histogram};
use crate::harness::drain::PASS;
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{content_bytes, count, millis, seconds};
use crate::harness::machine::now_nanos;
use crate::harness::message::CONTENT_BYTES_MIN;
use crate::harness::program::Environment;
use crate::harness::report::Progress;
use crate::harness::server::ServerUnderTest;
use crate::harness::speakers::Speakers;
use crate::harness::target::Target;
use crate::harness::workers::{Clients, Workers};

/// Flags of `uproar bench noisy-neighbour`.
#[derive(Debug, Args)]
pub(crate) struct NoisyNeighbour {
    #[command(flatten)]
    target: Target,
    /// Members of the huge room
    #[arg(long, default_value_t = 50_000, value_name = "N", value_parser = count(1..=2_500_000))]
    crowd: usize,
    /// Members of the small room
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = count(1..=1000))]
    members: usize,
    /// Messages per second in the small room
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    member_rate: u16,
    /// Messages per second in the huge room, one row each [default: doubled from 1 until its limit]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rates: Option<Vec<u32>>,
    /// Length of the content of the huge room's messages, in bytes
    #[arg(long = "size", default_value_t = 200, value_name = "BYTES", value_parser = content_bytes())]
    content_bytes: usize,
    /// Bound of the huge room's 99th percentile of latency, in milliseconds; a row above it is over
    /// the limit
    #[arg(long = "p99-ms", default_value = "1000", value_name = "MS", value_parser = millis(..))]
    p99_max: Duration,
    /// Length of each row's measurement, in seconds
    #[arg(long = "seconds", default_value = "5", value_name = "SECONDS", value_parser = seconds())]
    measured: Duration,
    /// Draw both rooms' 99th percentiles against the huge room's deliveries
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    clients: Clients,
}

/// The numbers of the rooms.
const SMALL: usize = 0;
const HUGE: usize = 1;

impl NoisyNeighbour {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let connections = self.crowd + self.members;
        let server = self
            .target
            .server_for(environment.program, 2, connections)?;
        if !self.target.json {
            println!("machine   {}", environment.machine);
            println!(
                "work      a room of {} at {} messages/s beside one of {}, {} shard(s)",
                self.members, self.member_rate, self.crowd, self.target.shards
            );
        }
        let rows = self.measure(&server)?;
        if let Some(path) = &self.plot {
            let title = format!(
                "p99 of a room of {} beside one of {} on the same shard",
                self.members, self.crowd
            );
            fs::write(path, picture(&title, &rows, self.p99_max))?;
        }
        if self.target.json {
            let result = json!({
                "machine": environment.machine,
                "crowd": self.crowd,
                "members": self.members,
                "member_rate": self.member_rate,
                "content_bytes": self.content_bytes,
                "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
            });
            println!("{result}");
        }
        Ok(())
    }

    /// Connects all members, then measures row by row, and prints each row for people.
    fn measure(&self, server: &ServerUnderTest) -> Result<Vec<Row>, BenchError> {
        let mut rooms = self.gather(server, &Progress::new(self.crowd))?;
        let mut rows = Vec::new();
        for rate in std::iter::once(0.0).chain(self.rates()) {
            let row = rooms.measure(rate)?;
            if !self.target.json {
                if rows.is_empty() {
                    println!("{HEADING}");
                }
                println!("{}", row.line());
            }
            let over = self.rates.is_none() && !row.kept || row.gone > 0;
            rows.push(row);
            if over {
                break;
            }
        }
        Ok(rows)
    }

    /// Returns the rates of the rows in which the huge room is not silent.
    fn rates(&self) -> Vec<f64> {
        if let Some(rates) = &self.rates {
            return rates.iter().copied().map(f64::from).collect();
        }
        let doubled = (0..DOUBLINGS_MAX).map(|step| FIRST_RATE * f64::from(1 << step));
        doubled.collect()
    }

    /// Connects the members of both rooms. Sampled members of the huge room are spread evenly over
    /// the order of joining, in which the server serves them.
    fn gather<'a>(
        &'a self,
        server: &'a ServerUnderTest,
        progress: &Progress,
    ) -> Result<Rooms<'a>, BenchError> {
        if server.room_count() < 2 {
            let text = "noisy-neighbour needs two rooms";
            return Err(BenchError::Server(text.to_owned()));
        }
        let samples = SAMPLES.min(self.crowd);
        let others = self.crowd - samples;
        let mut speakers = Speakers::new(2)?;
        let mut workers = Workers::start(server, others, &self.clients, self.target.shards)?;
        for index in 0..self.members {
            speakers.join(server, SMALL, index)?;
        }
        for sample in 0..samples {
            speakers.join(server, HUGE, self.members + sample)?;
            let share = others * sample / samples..others * (sample + 1) / samples;
            let first = self.members + samples;
            let done = workers.connect(share, first, &(HUGE..HUGE + 1), |count| {
                progress.reach(count + sample + 1);
                speakers.receive_all()
            })?;
            if done.failed > 0 {
                return Err(BenchError::Server(format!(
                    "it took {} of {} viewers: {}",
                    done.holding,
                    self.crowd,
                    done.first_refusal.unwrap_or_default()
                )));
            }
        }
        Ok(Rooms {
            server,
            flags: self,
            workers,
            speakers,
        })
    }
}

/// Both rooms with all their members.
struct Rooms<'a> {
    server: &'a ServerUnderTest,
    flags: &'a NoisyNeighbour,
    /// The members of the huge room that are not sampled.
    workers: Workers,
    speakers: Speakers,
}

/// The messages of one room in one row: sent by the clock.
struct Schedule {
    room: usize,
    /// Time between two messages.
    interval_nanos: f64,
    /// Messages sent so far.
    sent: u64,
    /// Messages of the row.
    total: u64,
    content_bytes: usize,
}

impl Schedule {
    /// Returns when the next message is due, of a row that began at `begun`.
    fn next(&self, begun: u64) -> Option<u64> {
        (self.sent < self.total).then(|| begun + (self.sent as f64 * self.interval_nanos) as u64)
    }
}

/// The result of [`Rooms::talk`].
struct Talk {
    /// Delays with which messages were sent, in microseconds.
    late: Histogram<u64>,
    /// From the first message to the last receipt.
    elapsed: Duration,
}

impl Rooms<'_> {
    /// Measures one row.
    fn measure(&mut self, rate: f64) -> Result<Row, BenchError> {
        let flags = self.flags;
        let small = self.schedule(SMALL, f64::from(flags.member_rate), CONTENT_BYTES_MIN);
        let huge = self.schedule(HUGE, rate, flags.content_bytes);
        let messages = huge.total;
        let wrong_before = [SMALL, HUGE].map(|room| self.speakers.wrong(room));
        let bytes_before = self.speakers.bytes(HUGE);
        self.workers.watch(None, PASS)?;
        let (server_before, clients_before) = (self.server.usage(), self.workers.usage());
        let started = Instant::now();
        let talk = self.talk([small, huge])?;
        let wall = started.elapsed().as_secs_f64();
        let server_busy = self.server.busy_since(server_before);
        let clients_busy = self.workers.usage().busy_since(&clients_before);
        self.workers.end_watch()?;
        let speakers = &mut self.speakers;
        let report = self
            .workers
            .collect(SETTLE_MAX, || speakers.receive_all())?;
        let bytes = self.speakers.bytes(HUGE) - bytes_before;
        let huge_wrong = if messages == 0 {
            0
        } else {
            let wrong = self.speakers.wrong(HUGE) - wrong_before[HUGE];
            wrong + self.missing(bytes, messages, report.bytes)
        };
        let deliveries = (messages * flags.crowd as u64).saturating_sub(huge_wrong);
        let huge = Ages::of(&self.speakers.take_ages(HUGE));
        Ok(Row {
            rate,
            deliveries_per_second: deliveries as f64 / talk.elapsed.as_secs_f64(),
            small: Ages::of(&self.speakers.take_ages(SMALL)),
            huge,
            small_wrong: self.speakers.wrong(SMALL) - wrong_before[SMALL],
            huge_wrong,
            late: [talk.late.value_at_quantile(0.99), talk.late.max()],
            server_busy: server_busy.map(|time| time.as_secs_f64() / wall),
            clients_busy: clients_busy.as_secs_f64() / wall,
            gone: report.gone,
            kept: huge_wrong == 0 && report.gone == 0 && huge.keep(flags.p99_max),
        })
    }

    fn schedule(&self, room: usize, rate: f64, content_bytes: usize) -> Schedule {
        Schedule {
            room,
            interval_nanos: 1e9 / rate.max(f64::MIN_POSITIVE),
            sent: 0,
            total: (rate * self.flags.measured.as_secs_f64()).round() as u64,
            content_bytes,
        }
    }

    /// Returns how many deliveries the client processes lack, if each of the `messages` came with
    /// its share of `bytes` bytes: all members are sent the same bytes. Pings are few and short; a
    /// member that got one more or less than the sender has lost nothing, so less than half a
    /// message counts as nothing.
    fn missing(&self, bytes: u64, messages: u64, got: u64) -> u64 {
        let others = (self.flags.crowd - self.speakers.count(HUGE)) as u64;
        let frame_bytes = bytes as f64 / messages.max(1) as f64;
        let differ = (others * bytes).abs_diff(got) as f64;
        (differ / frame_bytes.max(1.0)).round() as u64
    }

    /// Sends the messages of both rooms, each when it is due, then receives until all have arrived.
    fn talk(&mut self, mut rooms: [Schedule; 2]) -> Result<Talk, BenchError> {
        let (begun, started) = (now_nanos(), Instant::now());
        let mut late = histogram();
        let (mut last_receipt, mut all_sent) = (started, None);
        loop {
            let mut next = None;
            for schedule in &mut rooms {
                let mut now = now_nanos();
                while let Some(due) = schedule.next(begun).filter(|due| *due <= now) {
                    late.saturating_record((now - due) / 1000);
                    self.speakers
                        .send(schedule.room, due, schedule.content_bytes)?;
                    schedule.sent += 1;
                    now = now_nanos();
                }
                next = next.into_iter().chain(schedule.next(begun)).min();
            }
            let wait = match next {
                Some(next) => Duration::from_nanos(next.saturating_sub(now_nanos())),
                None => QUIET,
            };
            if self.speakers.receive(wait.min(QUIET))? {
                last_receipt = Instant::now();
            }
            if next.is_none() {
                let since = all_sent.get_or_insert_with(Instant::now);
                let all = [SMALL, HUGE];
                let arrived = all.iter().all(|room| self.speakers.all_arrived(*room));
                if arrived || since.elapsed() > SETTLE_MAX {
                    let elapsed = last_receipt.duration_since(started);
                    return Ok(Talk { late, elapsed });
                }
            }
        }
    }
}

/// Sampled members of the huge room.
const SAMPLES: usize = 10;
/// Messages per second in the huge room in the first row that searches for its limit.
const FIRST_RATE: f64 = 1.0;
/// Most rows that search for it.
const DOUBLINGS_MAX: u32 = 14;
/// Longest wait for the next receipt.
const QUIET: Duration = Duration::from_millis(20);
/// Longest wait for deliveries after the last message.
const SETTLE_MAX: Duration = Duration::from_secs(20);
