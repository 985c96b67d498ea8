//! `uproar bench scale`: the fan-out of one large room by the time it takes, with receivers that nobody
//! reads meanwhile.
//!
//! A load generator that reads needs a processor of its own, which a machine with as many processors as
//! shards does not have. So the sockets' receive buffers take a whole burst. The tool says a few messages,
//! sleeps until they have reached everybody, and says the next: what it looks at is how many bytes wait
//! (`FIONREAD`) at a few sockets, and at the end of the burst at all. Only then everything is read and
//! checked. Each flush of the room carries the same messages however many shards there are, so that a
//! send is the same work everywhere.

use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;
use rustix::net::sockopt::socket_recv_buffer_size;
use serde_json::{Value, json};

use super::host::Host;
use super::load::{Member, SCRAP_BYTES};
use super::program::Program;
use super::sample::{self, Sample};
use super::viewer::{self, Ask, PONG, TEXT};
use super::{BenchError, histogram};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Viewers in the room.
    pub receivers: usize,
    /// Bytes of a message's content.
    pub content_bytes: usize,
    /// Messages said at once, which one send should carry.
    pub messages: usize,
    /// How often, before anything is read.
    pub chunks: usize,
    /// Such bursts that are measured; one more, before them, warms up.
    pub bursts: usize,
}

impl Plan {
    /// What waits at one receiver at the end of a burst, roughly.
    fn burst_bytes(&self) -> usize {
        self.messages * self.chunks * (self.content_bytes + FRAME_BYTES_MORE)
    }

    /// Whether the kernel holds a burst without shedding or shrinking windows.
    ///
    /// # Errors
    ///
    /// What is too much, and the sysctl that bounds it.
    pub fn check(&self) -> Result<(), String> {
        let needed = self.receivers as u64 * self.burst_bytes() as u64 * 3 / 2;
        let bound = socket_memory().unwrap_or(u64::MAX);
        if needed > bound {
            return Err(format!(
                "a burst fills {} MiB of receive buffers, and the second figure of net.ipv4.tcp_mem allows {} MiB: fewer --receivers, --messages or --chunks",
                needed >> 20,
                bound >> 20
            ));
        }
        Ok(())
    }
}

/// What came of it on one server.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Shards of the server.
    pub shards: usize,
    /// Deliveries of all measured bursts.
    pub deliveries: u64,
    /// From the first message of a burst to the last byte at the last receiver, all bursts together.
    pub elapsed: Duration,
    /// Sends of the server.
    pub sends: f64,
    /// Messages that one of them carried, mean.
    pub messages_per_send: f64,
    /// Processor time of the server, user and system.
    pub cpu: [Duration; 2],
    /// Time on a processor of the server's busiest thread, which is a shard, burst by burst.
    pub busiest: Duration,
    /// Bytes on the wire of one delivery.
    pub frame_bytes: f64,
    /// Lost or repeated.
    pub wrong: u64,
}

impl Run {
    /// Deliveries a second.
    pub fn deliveries_per_second(&self) -> f64 {
        self.deliveries as f64 / self.elapsed.as_secs_f64()
    }

    /// Sends for each second of the busiest shard's own time: what `sends_per_second` would be if nothing
    /// else ran on the machine and no shard waited.
    pub fn sends_per_busy_second(&self) -> f64 {
        self.sends / self.busiest.as_secs_f64()
    }

    /// Sends a second.
    pub fn sends_per_second(&self) -> f64 {
        self.sends / self.elapsed.as_secs_f64()
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / self.sends.max(1.0);
        let [user, system] = self.cpu.map(micros);
        json!({
            "shards": self.shards,
            "deliveries_per_second": self.deliveries_per_second().round(),
            "sends_per_second": self.sends_per_second().round(),
            "sends_per_second_of_busiest_shard": self.sends_per_busy_second().round(),
            "messages_per_send": self.messages_per_send,
            "seconds": self.elapsed.as_secs_f64(),
            "server_cpu_us_per_send": {"user": user, "system": system},
            "frame_bytes": self.frame_bytes,
            "lost_or_repeated": self.wrong,
        })
    }
}

/// Starts a server with `shards` shards, over all of which the room is spread, and without pace: a room
/// flushes at once.
pub fn start(program: &Program, shards: usize, extra: &[String]) -> Result<Host, BenchError> {
    let settings = [
        ("UPROAR_DELIVERY__PACE_CEILING_MS", "0"),
        ("UPROAR_DELIVERY__SPREAD_MEMBERS", "0"),
    ];
    Host::start_with(program, shards, 1, extra, &settings)
}

/// Connects everybody to the room of `host`, which has `shards` shards, and measures.
pub fn run(
    host: &Host,
    shards: usize,
    plan: &Plan,
    connected: impl FnMut(),
) -> Result<Run, BenchError> {
    let mut crowd = Crowd::connect(host, plan, connected)?;
    crowd.learn()?;
    crowd.burst(plan)?;
    crowd.read()?;
    let unknown = || BenchError::Server("its metrics cannot be read".to_owned());
    let mut run = Run {
        shards,
        deliveries: 0,
        elapsed: Duration::ZERO,
        sends: 0.0,
        messages_per_send: 0.0,
        cpu: [Duration::ZERO; 2],
        busiest: Duration::ZERO,
        frame_bytes: crowd.frame_bytes,
        wrong: 0,
    };
    let mut delivered = 0.0;
    for _ in 0..plan.bursts {
        let before = (host.sends(), host.usage());
        let threads_before = host.thread_times();
        run.elapsed += crowd.burst(plan)?;
        let busy = host.thread_times().into_iter().map(|(thread, time)| {
            let before = threads_before.get(&thread).copied();
            time.saturating_sub(before.unwrap_or_default())
        });
        run.busiest += busy.max().unwrap_or_default();
        let after = (host.sends(), host.usage());
        let (frames, sends) = before.0.ok_or_else(unknown)?;
        let (frames_after, sends_after) = after.0.ok_or_else(unknown)?;
        delivered += frames_after - frames;
        run.sends += sends_after - sends;
        if let (Some(before), Some(after)) = (before.1, after.1) {
            let [user, system] = after.since(&before);
            run.cpu = [run.cpu[0] + user, run.cpu[1] + system];
        }
        run.wrong += crowd.read()?;
        run.deliveries += (plan.receivers * plan.messages * plan.chunks) as u64;
    }
    run.deliveries = run.deliveries.saturating_sub(run.wrong);
    run.messages_per_send = delivered / run.sends.max(1.0);
    Ok(run)
}

/// Receivers of one room. The first sample's connection also speaks.
struct Crowd {
    samples: Vec<Sample>,
    members: Vec<Member>,
    content_bytes: usize,
    sent: u64,
    // Mean of what was read so far: a `SendTime` varies by its trailing zeros.
    frame_bytes: f64,
    wrong: u64,
    ponged: Instant,
    scrap: Vec<u8>,
}

impl Crowd {
    fn connect(host: &Host, plan: &Plan, mut connected: impl FnMut()) -> Result<Self, BenchError> {
        let (mut samples, mut members) = (Vec::new(), Vec::new());
        // The kernel doubles what is asked for, for its own records of what it holds.
        let receive_bytes = plan.burst_bytes() * 2;
        let every = plan.receivers.div_ceil(SAMPLES).max(1);
        for index in 0..plan.receivers {
            let token = host.token(0, &viewer::name(index))?;
            let ask = Ask {
                path: "/",
                token: Some(&token),
                compression: false,
            };
            let stream = viewer::open_deep(host.messaging, ask, index, receive_bytes)
                .map_err(|cause| BenchError::Connect { index, cause })?;
            let got = socket_recv_buffer_size(&stream).map_err(io::Error::from)?;
            if got < receive_bytes {
                let text = format!(
                    "a receive buffer of {receive_bytes} bytes was asked for, {got} came: raise net.core.rmem_max, or run as root"
                );
                return Err(io::Error::other(text).into());
            }
            if index % every == 0 {
                samples.push(Sample::new(stream)?);
            } else {
                members.push(Member::new(stream)?);
            }
            connected();
        }
        Ok(Self {
            samples,
            members,
            content_bytes: plan.content_bytes,
            sent: 0,
            frame_bytes: 1.0,
            wrong: 0,
            ponged: Instant::now(),
            scrap: vec![0; SCRAP_BYTES],
        })
    }

    /// One message, for the length of its frame.
    fn learn(&mut self) -> Result<(), BenchError> {
        self.say(1)?;
        Self::wait(1, &self.everybody())?;
        self.read()?;
        Ok(())
    }

    /// Says everything, chunk after chunk; the time until the last byte is at the last receiver.
    fn burst(&mut self, plan: &Plan) -> Result<Duration, BenchError> {
        let begun = Instant::now();
        let mut waiting = 0;
        for _ in 0..plan.chunks {
            self.say(plan.messages)?;
            // Half a frame less: lengths vary by bytes, and the last frame must be there.
            let least = (plan.messages as f64 - 0.5) * self.frame_bytes;
            waiting = Self::wait(waiting + least as u64, &self.lookouts())?;
        }
        Self::wait(waiting, &self.everybody())?;
        Ok(begun.elapsed())
    }

    fn say(&mut self, messages: usize) -> Result<(), BenchError> {
        let (mut text, mut bytes) = (String::new(), Vec::new());
        for _ in 0..messages {
            text.clear();
            sample::request(&mut text, self.sent, 0, self.content_bytes);
            viewer::frame(&mut bytes, TEXT, text.as_bytes());
            self.sent += 1;
        }
        let speaker = self.samples.first_mut().expect("a room has a speaker");
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match speaker.inbox.stream.write(rest) {
                Ok(len) => rest = &rest[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(LOOK);
                }
                Err(error) => return Err(BenchError::Lost(error.to_string())),
            }
        }
        Ok(())
    }

    fn everybody(&self) -> Vec<&TcpStream> {
        let samples = self.samples.iter().map(|sample| &sample.inbox.stream);
        let members = self.members.iter().map(|member| &member.stream);
        samples.chain(members).collect()
    }

    /// Those that joined last, whom a shard serves last, and some of the others.
    fn lookouts(&self) -> Vec<&TcpStream> {
        let samples = self.samples.iter().map(|sample| &sample.inbox.stream);
        let last = self.members.iter().rev().take(SAMPLES);
        last.map(|member| &member.stream).chain(samples).collect()
    }

    /// Sleeps until at least `bytes` wait at each of these; how many wait at the last one.
    fn wait(bytes: u64, streams: &[&TcpStream]) -> Result<u64, BenchError> {
        let begun = Instant::now();
        let mut waiting = 0;
        for stream in streams {
            loop {
                waiting = ioctl_fionread(stream).map_err(io::Error::from)?;
                if waiting >= bytes {
                    break;
                }
                if begun.elapsed() > PATIENCE {
                    let text = format!("{waiting} of {bytes} bytes came within {PATIENCE:?}");
                    return Err(BenchError::Lost(text));
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(waiting)
    }

    /// Reads everything: samples message by message, of the others the bytes, which must be as many.
    /// What was lost or repeated since the last time.
    fn read(&mut self) -> Result<u64, BenchError> {
        let lost = |error: io::Error| BenchError::Lost(error.to_string());
        let mut ages = histogram();
        for sample in &mut self.samples {
            sample.read(|| 0, &mut ages, 0).map_err(lost)?;
        }
        let first = self.samples.first().expect("a room has a speaker");
        let expected = first.bytes;
        self.frame_bytes = first.bytes as f64 / first.messages.max(1) as f64;
        let mut wrong = 0;
        for sample in &self.samples {
            wrong += sample.lost + sample.repeated + sample.errors;
            wrong += self.sent.saturating_sub(sample.next);
        }
        for member in &mut self.members {
            member.drain(&mut self.scrap);
            let missing = expected.abs_diff(member.bytes) as f64 / self.frame_bytes;
            wrong += missing.ceil() as u64;
        }
        if self.ponged.elapsed() > KEEP_ALIVE {
            self.keep_alive().map_err(lost)?;
        }
        Ok(wrong - std::mem::replace(&mut self.wrong, wrong))
    }

    /// Speaks up for everybody, so that no ping comes into the bytes that are counted.
    fn keep_alive(&mut self) -> io::Result<()> {
        self.ponged = Instant::now();
        for mut stream in self.everybody() {
            let mut pong = Vec::new();
            viewer::frame(&mut pong, PONG, b"");
            stream.write_all(&pong)?;
        }
        Ok(())
    }
}

/// The kernel begins to save socket memory beyond so many bytes of the whole machine.
fn socket_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

/// Of the unit of `tcp_mem`, on x86; where pages are larger, the check is too strict.
const PAGE_BYTES: u64 = 4096;
/// Receivers that are read message by message, and as many of the last that are looked at meanwhile.
const SAMPLES: usize = 16;
/// What a frame has beside its content: JSON, ids, header; at most.
const FRAME_BYTES_MORE: usize = 200;
/// Between two looks.
const LOOK: Duration = Duration::from_micros(200);
/// For one chunk to reach everybody.
const PATIENCE: Duration = Duration::from_secs(20);
/// Below the server's ping interval, less the longest burst one would wait for.
const KEEP_ALIVE: Duration = Duration::from_secs(8);
