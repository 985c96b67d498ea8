//! `uproar bench crowd`: more connections to one server process than one process may have descriptors,
//! held by several client processes, and messages that reach all of them.
//!
//! The measuring process speaks, in each room as that room's first viewer; `parts` are its client
//! processes. A delivery's time is when a client process found it, so its resolution is one pass over
//! the connections, which is measured, too.

mod connecting;
mod memory;
mod part;
mod parts;
mod speakers;
mod speech;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use self::memory::Memory;
pub use self::part::run as run_part;
pub(super) use self::parts::Parts;
pub use self::parts::part_size;
pub(super) use self::speakers::Speakers;
pub(super) use self::speech::now_nanos;
use super::host::Host;
use super::machine::Usage;
use super::{Ages, BenchError, histogram};

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Viewers, the speakers included.
    pub connections: usize,
    /// Equal steps in which they come; everything is measured after each.
    pub stages: usize,
    /// Messages after each stage, in every room.
    pub messages: usize,
    /// Bytes of each message's content.
    pub content_bytes: usize,
    /// Connections of one client process.
    pub part_size: usize,
    /// Handshakes under way at once.
    pub width: usize,
    /// Processors that are the server's, if it is ours.
    pub shards: usize,
    /// Between the beginnings of two looks of a client process at all its connections.
    pub look: Duration,
}

/// What was measured after one step.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Connections that stand.
    pub held: usize,
    /// Of the step's connections.
    pub connecting: Connecting,
    /// Above the same processes without connections, for each.
    pub memory_each: Memory,
    /// The same of this step's connections alone: what one more costs.
    pub memory_more: Memory,
    /// In order of saying.
    pub messages: Vec<Message>,
    /// Bytes that came when no message was under way: pings, or repetitions.
    pub stray_bytes: u64,
    /// Connections that the server ended, ever.
    pub gone: u64,
}

/// How one step's connections were made.
#[derive(Debug, Clone, Default)]
pub struct Connecting {
    /// Those that came to stand.
    pub opened: usize,
    /// From the first to the last.
    pub took: Duration,
    /// Handshakes that failed and were tried again, and why the first failed.
    pub again: u64,
    /// See there.
    pub first_refusal: Option<String>,
    /// The server took no more.
    pub gave_up: bool,
    /// Processor time of the server and of the clients meanwhile.
    pub busy: Busy,
}

/// Processor time of both sides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Busy {
    /// Of the server; `None` if it is not known which process that is.
    pub server: Option<Duration>,
    /// Of the client processes.
    pub clients: Duration,
}

/// One message on its way to everybody.
#[derive(Debug, Clone)]
pub struct Message {
    /// Connections it should reach, the speakers not counted.
    pub wanted: u64,
    /// Those it did not.
    pub lost: u64,
    /// From saying it to being found at the first connection.
    pub first: Duration,
    /// In microseconds; the highest is the last connection.
    pub ages: Ages,
    /// Longest time between two looks at one connection: what the times above may be too long by.
    pub pass_max: Duration,
    /// Bytes that each connection got.
    pub frame_bytes: f64,
    /// From saying it to the report of the last process.
    pub busy: Busy,
}

/// What the steps say of a number of connections that were not made.
#[derive(Debug, Clone, Copy)]
pub struct Calculated {
    /// So many.
    pub connections: f64,
    /// Of the server's process.
    pub server_bytes: f64,
    /// Of the kernel, both ends on this machine.
    pub kernel_bytes: f64,
    /// For all of them to connect.
    pub connecting: Duration,
    /// For a message to reach the last one.
    pub last: Duration,
}

/// Connects step by step; `holding` hears how many stand, `tell` each step's result.
pub fn run(
    host: &Host,
    plan: Plan,
    mut holding: impl FnMut(usize),
    mut tell: impl FnMut(&Stage),
) -> Result<Vec<Stage>, BenchError> {
    let rooms = host.room_count();
    if plan.connections <= rooms {
        let text = "a crowd needs more connections than rooms";
        return Err(BenchError::Server(text.to_owned()));
    }
    let crowd = plan.connections - rooms;
    let mut parts = Parts::start(host, crowd, plan.part_size, plan.width, plan.shards)?;
    let mut speakers = Speakers::new(rooms)?;
    std::thread::sleep(SETTLE);
    let empty = Memory::now(host, &parts);
    for room in 0..rooms {
        speakers.join(host, room, room)?;
    }
    let mut stages: Vec<Stage> = Vec::new();
    let (mut joined, mut before) = (0, empty);
    for stage in 1..=plan.stages {
        let until = crowd * stage / plan.stages;
        let held_before = stages.last().map_or(0, |stage| stage.held);
        let (clock, begun) = (Clock::start(host, &parts), Instant::now());
        let done = parts.connect(joined..until, rooms, &(0..rooms), |count| {
            holding(count + rooms);
            // Speakers answer pings, too.
            while speakers.listen(Duration::ZERO)? {}
            Ok(())
        })?;
        let connecting = Connecting {
            opened: done.holding + rooms - held_before,
            took: begun.elapsed(),
            again: done.again,
            first_refusal: done.first_refusal,
            gave_up: done.gave_up,
            busy: clock.stop(host, &parts),
        };
        joined = until;
        std::thread::sleep(SETTLE);
        let now = Memory::now(host, &parts);
        let mut found = Stage {
            held: done.holding + rooms,
            memory_each: now.each_since(empty, done.holding + rooms),
            memory_more: now.each_since(before, connecting.opened),
            connecting,
            messages: Vec::new(),
            stray_bytes: 0,
            gone: 0,
        };
        before = now;
        for _ in 0..plan.messages {
            let message = say(host, plan, &mut parts, &mut speakers, &mut found)?;
            found.messages.push(message);
            std::thread::sleep(BETWEEN);
        }
        tell(&found);
        let full = found.connecting.gave_up;
        stages.push(found);
        if full {
            break;
        }
    }
    Ok(stages)
}

/// Says one message in every room and waits until it reached everybody.
fn say(
    host: &Host,
    plan: Plan,
    parts: &mut Parts,
    speakers: &mut Speakers,
    stage: &mut Stage,
) -> Result<Message, BenchError> {
    let rooms = host.room_count();
    // A frame is longer than its content, and a ping far shorter.
    stage.stray_bytes += parts.watch(Some(plan.content_bytes as u64), plan.look)?;
    while speakers.listen(Duration::ZERO)? {}
    let own_before = speakers.bytes(0);
    let clock = Clock::start(host, parts);
    let said = now_nanos();
    for room in 0..rooms {
        speakers.say(room, said, plan.content_bytes)?;
    }
    let report = parts.collect(REACH_MAX, || {
        while speakers.listen(Duration::ZERO)? {}
        Ok(())
    })?;
    let busy = clock.stop(host, parts);
    for _ in 0..ECHO_LOOKS {
        if (0..rooms).all(|room| speakers.all_came(room)) {
            break;
        }
        speakers.listen(ECHO)?;
    }
    let refused: u64 = (0..rooms).map(|room| speakers.wrong(room)).sum();
    if refused > 0 {
        return Err(BenchError::Lost(format!(
            "{refused} messages were refused or did not come back to their speaker"
        )));
    }
    let mut ages = histogram();
    let (mut first, mut reached) = (u64::MAX, 0);
    for (at, count) in report.reached {
        let age = at.saturating_sub(said);
        first = first.min(age);
        reached += u64::from(count);
        ages.saturating_record_n(age / 1000, count.into());
    }
    stage.gone = report.gone;
    let wanted = (stage.held - rooms) as u64;
    Ok(Message {
        wanted,
        lost: wanted - reached,
        first: Duration::from_nanos(if reached > 0 { first } else { 0 }),
        ages: Ages::of(&ages),
        pass_max: report.pass_max,
        frame_bytes: (speakers.bytes(0) - own_before) as f64,
        busy,
    })
}

/// Processor time so far.
struct Clock {
    server: Option<Usage>,
    clients: Usage,
}

impl Clock {
    fn start(host: &Host, parts: &Parts) -> Self {
        Self {
            server: host.usage(),
            clients: parts.usage(),
        }
    }

    fn stop(self, host: &Host, parts: &Parts) -> Busy {
        let server = self.server.zip(host.usage());
        Busy {
            server: server.map(|(before, after)| after.busy_since(&before)),
            clients: parts.usage().busy_since(&self.clients),
        }
    }
}

impl Busy {
    /// The clients' share of both; `None` if the server's is not known or nothing was counted.
    pub fn clients_share(&self) -> Option<f64> {
        let both = self.server? + self.clients;
        (!both.is_zero()).then(|| self.clients.as_secs_f64() / both.as_secs_f64())
    }

    fn json(&self) -> Value {
        json!({
            "server_ms": self.server.map(|time| time.as_millis()),
            "clients_ms": self.clients.as_millis(),
            "clients_share": self.clients_share(),
        })
    }
}

impl Stage {
    /// Connections that came to stand, a second.
    pub fn per_second(&self) -> f64 {
        self.connecting.opened as f64 / self.connecting.took.as_secs_f64()
    }

    /// The message whose last receipt is the median of all.
    pub fn median(&self) -> Option<&Message> {
        let mut sorted: Vec<_> = self.messages.iter().collect();
        sorted.sort_by_key(|message| message.ages.0[3]);
        sorted.get(sorted.len() / 2).copied()
    }

    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "held": self.held,
            "opened": self.connecting.opened,
            "connecting_ms": self.connecting.took.as_millis(),
            "handshakes_per_second": self.per_second().round(),
            "tried_again": self.connecting.again,
            "first_refusal": self.connecting.first_refusal,
            "gave_up": self.connecting.gave_up,
            "connecting_cpu": self.connecting.busy.json(),
            "memory_bytes_each": self.memory_each.json(),
            "memory_bytes_of_one_more": self.memory_more.json(),
            "messages": self.messages.iter().map(Message::json).collect::<Vec<_>>(),
            "stray_bytes": self.stray_bytes,
            "gone": self.gone,
        })
    }
}

impl Message {
    /// Server's processor time for one delivery, in nanoseconds.
    pub fn cpu_nanos(&self) -> Option<f64> {
        let reached = (self.wanted - self.lost).max(1) as f64;
        self.busy
            .server
            .map(|time| time.as_nanos() as f64 / reached)
    }

    fn json(&self) -> Value {
        json!({
            "wanted": self.wanted,
            "lost": self.lost,
            "first_us": self.first.as_micros(),
            "latency_us": self.ages.json(),
            "pass_us_max": self.pass_max.as_micros(),
            "frame_bytes": self.frame_bytes,
            "server_cpu_ns_per_delivery": self.cpu_nanos(),
            "cpu": self.busy.json(),
        })
    }
}

/// From the last complete step, and from how it differs from the one before: memory and time go on as
/// they went from there to there. `None` before there is anything to go on.
pub fn calculate(stages: &[Stage], connections: f64) -> Option<Calculated> {
    // A step in which the server refused viewers says nothing about one in which it does not.
    let complete = stages.iter().filter(|stage| !stage.connecting.gave_up);
    let complete: Vec<_> = complete.collect();
    let (last, earlier) = complete.split_last()?;
    let held = last.held as f64;
    let more = connections - held;
    let (each, one_more) = (last.memory_each, last.memory_more);
    let reached = |stage: &Stage| Some(stage.median()?.ages.0[3] as f64 / 1e6);
    let reach = reached(last)?;
    let slope = earlier.last().and_then(|before| {
        let slope = (reach - reached(before)?) / (held - before.held as f64);
        // Noise is not a gain: then every connection takes the same.
        (slope > 0.0).then_some(slope)
    });
    let connecting = complete.iter().map(|stage| stage.connecting.took);
    let connecting = connecting.sum::<Duration>().as_secs_f64() + more / last.per_second();
    let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Some(Calculated {
        connections,
        server_bytes: each.server * held + one_more.server * more,
        kernel_bytes: each.kernel() * held + one_more.kernel() * more,
        connecting: seconds(connecting),
        last: seconds(reach + slope.unwrap_or(reach / held) * more),
    })
}

impl Calculated {
    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "server_bytes": self.server_bytes.round(),
            "kernel_bytes_both_ends": self.kernel_bytes.round(),
            "connecting_ms": self.connecting.as_millis(),
            "last_ms": self.last.as_millis(),
        })
    }
}

/// For the allocator and the kernel to settle.
const SETTLE: Duration = Duration::from_secs(1);
/// From the last receipt of a message to the next message.
const BETWEEN: Duration = Duration::from_secs(1);
/// For the speakers' own messages to come back, so often.
const ECHO: Duration = Duration::from_millis(100);
const ECHO_LOOKS: u32 = 50;
/// For a message to reach everybody.
const REACH_MAX: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(held: usize, opened: usize, last_micros: u64) -> Stage {
        let memory = |server| Memory {
            server,
            ..Memory::default()
        };
        Stage {
            held,
            connecting: Connecting {
                opened,
                took: Duration::from_secs(1),
                ..Connecting::default()
            },
            memory_each: memory(300.0),
            memory_more: memory(200.0),
            messages: vec![Message {
                wanted: held as u64,
                lost: 0,
                first: Duration::ZERO,
                ages: Ages([0, 0, 0, last_micros]),
                pass_max: Duration::ZERO,
                frame_bytes: 386.0,
                busy: Busy::default(),
            }],
            stray_bytes: 0,
            gone: 0,
        }
    }

    /// Goal: what was not measured goes on from the last step at the slope between the last two.
    #[test]
    fn the_slope_goes_on() {
        let stages = [stage(1000, 1000, 100_000), stage(2000, 1000, 250_000)];
        let found = calculate(&stages, 10_000.0).expect("two steps");
        assert!((found.server_bytes - (2000.0 * 300.0 + 8000.0 * 200.0)).abs() < 1.0);
        assert_eq!(found.connecting, Duration::from_secs(10));
        assert_eq!(found.last.as_millis(), 250 + 8 * 150);
        assert!(calculate(&[], 1.0).is_none());
        // A step that was not completed is left out.
        let mut short = stage(2001, 1, 1);
        short.connecting.gave_up = true;
        let with = calculate(
            &[stages[0].clone(), stages[1].clone(), short.clone()],
            10_000.0,
        );
        assert_eq!(with.expect("two steps").last, found.last);
        assert!(calculate(&[short], 1.0).is_none());
        // A slope downhill is noise.
        let noise = calculate(
            &[stage(1000, 1000, 100_000), stage(2000, 1000, 90_000)],
            4000.0,
        );
        assert_eq!(noise.expect("two steps").last.as_millis(), 180);
    }
}
