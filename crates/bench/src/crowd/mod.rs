//! `uproar bench crowd`: more connections to one server process than one process may have
//! descriptors, held by several client processes, and messages that reach all of them.
//!
//! The measuring process is each room's first viewer, and sends. A delivery's time is when a client
//! process found it, so its resolution is one pass over the connections, which is measured, too.

mod calculated;
mod memory;
mod stage;

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use self::calculated::Calculated;
use self::memory::Memory;
use self::stage::{Busy, Message, Stage, StepConnections};
use crate::harness::ages::{Ages, histogram};
use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::{content_bytes, count, millis};
use crate::harness::machine::{Usage, now_nanos};
use crate::harness::program::Environment;
use crate::harness::report::Progress;
use crate::harness::server::ServerUnderTest;
use crate::harness::speakers::Speakers;
use crate::harness::target::Target;
use crate::harness::workers::{Clients, Workers};

/// Flags of `uproar bench crowd`.
#[derive(Debug, Args)]
pub(crate) struct Crowd {
    #[command(flatten)]
    target: Target,
    /// Connections to the one server
    #[arg(long, default_value_t = 200_000, value_name = "N", value_parser = count(2..=2_500_000))]
    connections: usize,
    /// Rooms of the server that is started, over which the connections are spread
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count(1..=4096))]
    rooms: usize,
    /// Equal steps in which the connections are made; everything is measured after each
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = count(1..=100))]
    stages: usize,
    /// Messages after each step, a second apart, in every room
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = count(1..=100))]
    messages: usize,
    /// Length of each message's content, in bytes
    #[arg(long = "size", default_value_t = 200, value_name = "BYTES", value_parser = content_bytes())]
    content_bytes: usize,
    /// Between two looks of a client process at all its connections while a message is on its way,
    /// in milliseconds: a longer time takes less of the processor and makes the figures coarser
    #[arg(long = "look-ms", default_value = "5", value_name = "MS", value_parser = millis(1..=1000))]
    look: Duration,
    #[command(flatten)]
    clients: Clients,
}

impl Crowd {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let connections = self.connections;
        let (target, program) = (&self.target, environment.program);
        let server = target.server_for(program, self.rooms, connections)?;
        let rooms = server.room_count();
        let part_size = self.clients.part_size();
        if !self.target.json {
            println!("machine   {}", environment.machine);
            println!(
                "work      {connections} connections to one server process, {rooms} room(s), client processes of {part_size} each"
            );
        }
        let stages = self.measure(&server)?;
        let held = stages.last().map_or(0, |stage| stage.held);
        let million = Calculated::from(&stages, 1e6);
        if self.target.json {
            let result = json!({
                "machine": environment.machine,
                "asked": connections,
                "held": held,
                "rooms": rooms,
                "tls": self.target.tls,
                "client_processes": (connections - rooms).div_ceil(part_size),
                "stages": stages.iter().map(Stage::json).collect::<Vec<_>>(),
                "calculated": million.as_ref().map_or(Value::Null, Calculated::json),
            });
            println!("{result}");
            return Ok(());
        }
        if held < connections {
            println!("short     the server took {held} of {connections} connections");
        }
        if let Some(million) = million {
            println!("{}", million.line());
        }
        Ok(())
    }

    /// Connects and measures step by step, and prints each step for people.
    fn measure(&self, server: &ServerUnderTest) -> Result<Vec<Stage>, BenchError> {
        let progress = Progress::new(self.connections);
        let mut rooms = Rooms::join(server, self)?;
        let mut stages: Vec<Stage> = Vec::new();
        for number in 1..=self.stages {
            let held = stages.last().map_or(0, |stage| stage.held);
            let stage = rooms.measure(number, held, &progress)?;
            if !self.target.json {
                progress.suspend(|| stage.print());
            }
            let full = stage.connecting.gave_up;
            stages.push(stage);
            if full {
                break;
            }
        }
        Ok(stages)
    }
}

/// The rooms with their viewers.
struct Rooms<'a> {
    server: &'a ServerUnderTest,
    flags: &'a Crowd,
    workers: Workers,
    /// The first viewer of each room.
    speakers: Speakers,
    /// Viewers of the client processes that were asked to connect so far.
    joined: usize,
    /// Memory without connections.
    empty: Memory,
    /// Memory after the last step.
    before: Memory,
}

impl<'a> Rooms<'a> {
    /// Starts the client processes, reads the memory, and connects the senders.
    fn join(server: &'a ServerUnderTest, flags: &'a Crowd) -> Result<Self, BenchError> {
        let count = server.room_count();
        if flags.connections <= count {
            let text = "a crowd needs more connections than rooms";
            return Err(BenchError::Server(text.to_owned()));
        }
        let viewers = flags.connections - count;
        let workers = Workers::start(server, viewers, &flags.clients, flags.target.shards)?;
        let mut speakers = Speakers::new(count)?;
        std::thread::sleep(SETTLE);
        let empty = Memory::now(server, &workers);
        for room in 0..count {
            speakers.join(server, room, room)?;
        }
        Ok(Self {
            server,
            flags,
            workers,
            speakers,
            joined: 0,
            empty,
            before: empty,
        })
    }

    /// Makes one step: connects its viewers and sends its messages. `held` connections are open
    /// already.
    fn measure(
        &mut self,
        number: usize,
        held: usize,
        progress: &Progress,
    ) -> Result<Stage, BenchError> {
        let connecting = self.connect(number, held, progress)?;
        std::thread::sleep(SETTLE);
        let now = Memory::now(self.server, &self.workers);
        let held = held + connecting.opened;
        let mut stage = Stage {
            held,
            memory_each: now.each_since(self.empty, held),
            memory_more: now.each_since(self.before, connecting.opened),
            connecting,
            messages: Vec::new(),
            stray_bytes: 0,
            gone: 0,
        };
        self.before = now;
        for _ in 0..self.flags.messages {
            let message = self.send(&mut stage)?;
            stage.messages.push(message);
            std::thread::sleep(BETWEEN);
        }
        Ok(stage)
    }

    /// Connects the viewers of step `number`.
    fn connect(
        &mut self,
        number: usize,
        held: usize,
        progress: &Progress,
    ) -> Result<StepConnections, BenchError> {
        let rooms = self.server.room_count();
        let until = (self.flags.connections - rooms) * number / self.flags.stages;
        let (before, begun) = (self.usage(), Instant::now());
        let speakers = &mut self.speakers;
        let viewers = self.joined..until;
        let done = self.workers.connect(viewers, rooms, &(0..rooms), |count| {
            progress.reach(count + rooms);
            // Senders answer pings, too.
            speakers.receive_all()
        })?;
        self.joined = until;
        Ok(StepConnections {
            opened: done.holding + rooms - held,
            took: begun.elapsed(),
            again: done.again,
            first_refusal: done.first_refusal,
            gave_up: done.gave_up,
            busy: self.busy_since(before),
        })
    }

    /// Sends one message in every room and waits until it has reached everybody.
    fn send(&mut self, stage: &mut Stage) -> Result<Message, BenchError> {
        let rooms = self.server.room_count();
        // A frame is longer than its content, and a ping far shorter.
        let reached_at = Some(self.flags.content_bytes as u64);
        stage.stray_bytes += self.workers.watch(reached_at, self.flags.look)?;
        self.speakers.receive_all()?;
        let own_before = self.speakers.bytes(0);
        let before = self.usage();
        let sent = now_nanos();
        for room in 0..rooms {
            self.speakers.send(room, sent, self.flags.content_bytes)?;
        }
        let speakers = &mut self.speakers;
        let report = self.workers.collect(REACH_MAX, || speakers.receive_all())?;
        let busy = self.busy_since(before);
        self.await_echoes(rooms)?;
        let mut ages = histogram();
        let (mut first, mut reached) = (u64::MAX, 0);
        for (at, count) in report.reached {
            let age = at.saturating_sub(sent);
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
            frame_bytes: (self.speakers.bytes(0) - own_before) as f64,
            busy,
        })
    }

    /// Waits until the senders' own messages have come back.
    ///
    /// # Errors
    ///
    /// If one was refused, or did not come back in time.
    fn await_echoes(&mut self, rooms: usize) -> Result<(), BenchError> {
        for _ in 0..ECHO_LOOKS {
            if (0..rooms).all(|room| self.speakers.all_arrived(room)) {
                break;
            }
            self.speakers.receive(ECHO)?;
        }
        let refused: u64 = (0..rooms).map(|room| self.speakers.wrong(room)).sum();
        if refused > 0 {
            return Err(BenchError::Lost(format!(
                "{refused} messages were refused or did not come back to their speaker"
            )));
        }
        Ok(())
    }

    fn usage(&self) -> (Option<Usage>, Usage) {
        (self.server.usage(), self.workers.usage())
    }

    fn busy_since(&self, (server, clients): (Option<Usage>, Usage)) -> Busy {
        Busy {
            server: self.server.busy_since(server),
            clients: self.workers.usage().busy_since(&clients),
        }
    }
}

/// Time for the allocator and the kernel to settle.
const SETTLE: Duration = Duration::from_secs(1);
/// From the last receipt of a message to the next message.
const BETWEEN: Duration = Duration::from_secs(1);
/// Longest single wait for the senders' own messages, and how often it is repeated.
const ECHO: Duration = Duration::from_millis(100);
const ECHO_LOOKS: u32 = 50;
/// Longest wait until a message has reached everybody.
const REACH_MAX: Duration = Duration::from_mins(1);
