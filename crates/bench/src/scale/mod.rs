//! `uproar bench scale`: the fan-out of one large room on one shard and on more, by the time it
//! takes, with receivers that are not read meanwhile.
//!
//! A load generator that reads needs a processor of its own, which a machine with as many
//! processors as shards does not have. So the sockets' receive buffers take a whole burst. This
//! process sends a chunk of messages, sleeps until they have reached everybody, and sends the next:
//! it only looks how many bytes wait (`FIONREAD`), in a few sockets, and in all at the end of the
//! burst. Then everything is read and checked. Each flush of the room has the same messages with
//! any number of shards, so each send is the same work.

mod room;

use std::thread::available_parallelism;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use self::room::Room;
use crate::harness::child::Start;
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{content_bytes, count};
use crate::harness::machine;
use crate::harness::program::Environment;
use crate::harness::report::user_and_system;
use crate::harness::server::{Sends, ServerUnderTest};

/// Flags of `uproar bench scale`.
#[derive(Debug, Args)]
pub(crate) struct Scale {
    /// Numbers of shards to compare with the first one; separate by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2], value_name = "N", value_parser = count(1..=1024))]
    shards: Vec<usize>,
    /// Viewers of the room, which is spread over all shards
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = count(1..=1_000_000))]
    receivers: usize,
    /// Length of each message's content, in bytes
    #[arg(long = "size", default_value_t = 200, value_name = "BYTES", value_parser = content_bytes())]
    content_bytes: usize,
    /// Messages sent at once, as a chunk that one send to each viewer carries; the next chunk waits
    /// until this one has reached everybody
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = count(1..=512))]
    messages: usize,
    /// Chunks of a burst; then everything is read
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = count(1..=65_535))]
    chunks: usize,
    /// Measured bursts of a run, after one that is not measured
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = count(1..=65_535))]
    bursts: usize,
    /// Rounds, each with every number of shards in turn on a fresh server; ratios are of one round
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = count(1..=99))]
    runs: usize,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Arguments of the servers that are started, as in `-- --config FILE`
    #[arg(last = true)]
    extra: Vec<String>,
}

/// The result of one server.
#[derive(Debug, Clone, Copy)]
struct Run {
    shards: usize,
    /// Deliveries of all measured bursts.
    deliveries: u64,
    /// From the first message of a burst to the last byte at the last receiver, all bursts
    /// together.
    elapsed: Duration,
    /// Sends of the server.
    sends: Sends,
    /// Processor time of the server, user and system.
    cpu: [Duration; 2],
    /// Time that the server's busiest thread, which is a shard, ran; the sum over the bursts.
    busiest: Duration,
    /// Bytes of one delivery on the wire, mean.
    frame_bytes: f64,
    /// Deliveries lost or repeated.
    wrong: u64,
}

/// A number of shards compared with the first one: medians and spreads over the rounds.
struct Ratio {
    shards: usize,
    deliveries: f64,
    deliveries_lowest: f64,
    deliveries_highest: f64,
    sends: f64,
    /// By the busiest shard's own time.
    sends_of_busiest_shard: f64,
}

impl Scale {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        self.check()?;
        if !self.json {
            self.print_heading(&environment.machine);
        }
        let mut rounds: Vec<Vec<Run>> = Vec::new();
        for round in 0..self.runs {
            let mut runs: Vec<Run> = Vec::new();
            for shards in &self.shards {
                let run = self.measure(environment, *shards)?;
                runs.push(run);
                if !self.json {
                    println!("{}", run.line(round, &runs[0]));
                }
            }
            rounds.push(runs);
        }
        let ratios = self.ratios(&rounds);
        if self.json {
            println!("{}", self.json(&environment.machine, &rounds, &ratios));
            return Ok(());
        }
        for ratio in ratios {
            println!("{}", ratio.line(self.shards[0]));
        }
        Ok(())
    }

    /// Checks that the kernel holds a burst without dropping or shrinking windows, and that there
    /// are processors for the shards.
    fn check(&self) -> Result<(), Failure> {
        let needed = self.receivers as u64 * self.burst_bytes() as u64 * 3 / 2;
        let bound = machine::socket_buffers_pressure().unwrap_or(u64::MAX);
        if needed > bound {
            return Err(Failure::Usage(format!(
                "a burst fills {} MiB of receive buffers, and the second figure of net.ipv4.tcp_mem allows {} MiB: fewer --receivers, --messages or --chunks",
                needed >> 20,
                bound >> 20
            )));
        }
        let (most, cores) = (self.shards_max(), processors());
        if most > cores {
            let text = format!("--shards {most}: this machine has {cores} processors");
            return Err(Failure::Usage(text));
        }
        Ok(())
    }

    fn shards_max(&self) -> usize {
        self.shards.iter().copied().max().unwrap_or(1)
    }

    /// Returns about how many bytes wait at one receiver at the end of a burst.
    fn burst_bytes(&self) -> usize {
        self.messages * self.chunks * (self.content_bytes + FRAME_BYTES_MORE)
    }

    fn print_heading(&self, machine: &str) {
        println!("machine  {machine}");
        println!(
            "work     1 room x {} receivers, {} messages at once, {} times, {} bursts; nobody reads meanwhile",
            self.receivers, self.messages, self.chunks, self.bursts
        );
        // Before a server is started, which pins this thread.
        if self.shards_max() == processors() {
            println!("load     shares a processor with a shard, and sleeps");
        }
        println!("{HEADING}");
    }

    /// Starts a server with `shards` shards, over all of which the room is spread, and whose rooms
    /// flush at once. Connects everybody and measures.
    fn measure(&self, environment: &Environment<'_>, shards: usize) -> Result<Run, BenchError> {
        let start = Start {
            shards,
            rooms: 1,
            extra: &self.extra,
            settings: &[
                ("UPROAR_DELIVERY__PACE_CEILING_MS", "0"),
                ("UPROAR_DELIVERY__SPREAD_MEMBERS", "0"),
            ],
        };
        let server = ServerUnderTest::start(environment.program, start)?;
        // The kernel charges its own records to the buffer, about as much as the bytes themselves.
        let receive_bytes = self.burst_bytes() * 2;
        let mut room = Room::connect(&server, self.receivers, receive_bytes, self.content_bytes)?;
        room.learn_frame_bytes()?;
        room.burst(self.messages, self.chunks)?;
        room.read()?;
        let mut run = Run {
            shards,
            deliveries: 0,
            elapsed: Duration::ZERO,
            sends: Sends::default(),
            cpu: [Duration::ZERO; 2],
            busiest: Duration::ZERO,
            frame_bytes: room.frame_bytes,
            wrong: 0,
        };
        for _ in 0..self.bursts {
            self.measure_burst(&server, &mut room, &mut run)?;
        }
        run.deliveries = run.deliveries.saturating_sub(run.wrong);
        Ok(run)
    }

    /// Adds one burst to `run`.
    fn measure_burst(
        &self,
        server: &ServerUnderTest,
        room: &mut Room,
        run: &mut Run,
    ) -> Result<(), BenchError> {
        let unknown = || BenchError::Server("its metrics cannot be read".to_owned());
        let (sends_before, usage_before) = (server.sends(), server.usage());
        let threads_before = server.thread_times();
        run.elapsed += room.burst(self.messages, self.chunks)?;
        let busy = server.thread_times().into_iter().map(|(thread, time)| {
            let before = threads_before.get(&thread).copied();
            time.saturating_sub(before.unwrap_or_default())
        });
        run.busiest += busy.max().unwrap_or_default();
        let sends_after = server.sends();
        if let Some([user, system]) = server.cpu_since(usage_before) {
            run.cpu = [run.cpu[0] + user, run.cpu[1] + system];
        }
        let sends = sends_before.zip(sends_after).ok_or_else(unknown)?;
        run.sends = run.sends.plus(sends.1.since(sends.0));
        run.wrong += room.read()?;
        run.deliveries += (self.receivers * self.messages * self.chunks) as u64;
        Ok(())
    }

    /// Compares each number of shards with the first one, round by round.
    fn ratios(&self, rounds: &[Vec<Run>]) -> Vec<Ratio> {
        let sorted = |index: usize, figure: fn(&Run) -> f64| {
            let of = |runs: &Vec<Run>| figure(&runs[index]) / figure(&runs[0]);
            let mut ratios: Vec<f64> = rounds.iter().map(of).collect();
            ratios.sort_by(f64::total_cmp);
            ratios
        };
        let middle = rounds.len() / 2;
        let ratios = (1..self.shards.len()).map(|index| {
            let deliveries = sorted(index, Run::deliveries_per_second);
            Ratio {
                shards: self.shards[index],
                deliveries: deliveries[middle],
                deliveries_lowest: deliveries[0],
                deliveries_highest: deliveries[deliveries.len() - 1],
                sends: sorted(index, Run::sends_per_second)[middle],
                sends_of_busiest_shard: sorted(index, Run::sends_per_busy_second)[middle],
            }
        });
        ratios.collect()
    }

    fn json(&self, machine: &str, rounds: &[Vec<Run>], ratios: &[Ratio]) -> Value {
        json!({
            "machine": machine,
            "receivers": self.receivers,
            "content_bytes": self.content_bytes,
            "messages_at_once": self.messages,
            "chunks": self.chunks,
            "bursts": self.bursts,
            "ratios": ratios.iter().map(Ratio::json).collect::<Vec<_>>(),
            "runs": rounds.iter().flatten().map(Run::json).collect::<Vec<_>>(),
        })
    }
}

fn processors() -> usize {
    available_parallelism().map_or(1, usize::from)
}

const HEADING: &str = "round  shards  deliveries/s   sends/s  sends/busy s  messages/send  cpu us/send (user+system)  wrong  ratio";

impl Run {
    fn deliveries_per_second(&self) -> f64 {
        self.deliveries as f64 / self.elapsed.as_secs_f64()
    }

    fn sends_per_second(&self) -> f64 {
        self.sends.sends / self.elapsed.as_secs_f64()
    }

    /// Sends per second of the busiest shard's own time: the sends per second if nothing else ran
    /// on the machine and no shard waited.
    fn sends_per_busy_second(&self) -> f64 {
        self.sends.sends / self.busiest.as_secs_f64()
    }

    /// Processor microseconds of the server for each send, user and system.
    fn cpu_micros(&self) -> [f64; 2] {
        let sends = self.sends.sends.max(1.0);
        self.cpu.map(|time| time.as_secs_f64() * 1e6 / sends)
    }

    fn line(&self, round: usize, first: &Self) -> String {
        let [user, system] = self.cpu_micros();
        format!(
            "{:5}  {:6}  {:12.0}  {:8.0}  {:12.0}  {:13.2}  {:>25}  {:5}  {:5.2}",
            round + 1,
            self.shards,
            self.deliveries_per_second(),
            self.sends_per_second(),
            self.sends_per_busy_second(),
            self.sends.messages_per_send(),
            format!("{user:.2}+{system:.2}"),
            self.wrong,
            self.deliveries_per_second() / first.deliveries_per_second(),
        )
    }

    fn json(&self) -> Value {
        json!({
            "shards": self.shards,
            "deliveries_per_second": self.deliveries_per_second().round(),
            "sends_per_second": self.sends_per_second().round(),
            "sends_per_second_of_busiest_shard": self.sends_per_busy_second().round(),
            "messages_per_send": self.sends.messages_per_send(),
            "seconds": self.elapsed.as_secs_f64(),
            "server_cpu_us_per_send": user_and_system(self.cpu_micros()),
            "frame_bytes": self.frame_bytes,
            "lost_or_repeated": self.wrong,
        })
    }
}

impl Ratio {
    fn line(&self, first: usize) -> String {
        format!(
            "result   {} shards: {:.2} x {first} in deliveries/s ({:.2} to {:.2}), {:.2} x in sends/s, {:.2} x by the busiest shard's own time",
            self.shards,
            self.deliveries,
            self.deliveries_lowest,
            self.deliveries_highest,
            self.sends,
            self.sends_of_busiest_shard,
        )
    }

    fn json(&self) -> Value {
        json!({
            "shards": self.shards,
            "deliveries": self.deliveries,
            "deliveries_lowest": self.deliveries_lowest,
            "deliveries_highest": self.deliveries_highest,
            "sends": self.sends,
            "sends_of_busiest_shard": self.sends_of_busiest_shard,
        })
    }
}

/// Bytes of a frame beside its content, at most: JSON, ids, header.
const FRAME_BYTES_MORE: usize = 200;
