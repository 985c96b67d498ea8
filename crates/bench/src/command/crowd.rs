//! `uproar bench crowd`: flags and tables.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, Target, progress};
use crate::crowd::{self, Calculated, Plan, Stage, part_size};
use crate::program::Program;
use crate::sample::CONTENT_BYTES_MIN;

#[derive(Debug, Args)]
pub(crate) struct Crowd {
    #[command(flatten)]
    target: Target,
    /// Connections to the one server
    #[arg(long, default_value_t = 200_000, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=2_500_000))]
    connections: u32,
    /// Rooms of the server that is started, the crowd dealt to them
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    rooms: u16,
    /// Equal steps in which they come; everything is measured after each
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    stages: u8,
    /// Messages after each step, a second apart, in every room
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    messages: u8,
    /// Length of each message's content, in bytes
    #[arg(long, default_value_t = 200, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(CONTENT_BYTES_MIN as i64..=500))]
    size: u16,
    /// Between two looks of a client process at all its connections while a message is under way: a
    /// longer one takes less of the processor, and the times are coarser
    #[arg(long, default_value_t = 5, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=1000))]
    look_ms: u64,
    #[command(flatten)]
    clients: Clients,
}

/// The processes that hold the crowd.
#[derive(Debug, Args)]
pub(super) struct Clients {
    /// Connections of one client process [default: nine tenths of its descriptor limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    part: Option<u32>,
    /// Handshakes under way at once, all client processes together
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(super) width: u16,
}

impl Clients {
    pub(super) fn part_size(&self) -> usize {
        self.part.map_or_else(part_size, |size| size as usize)
    }
}

impl Crowd {
    pub(super) fn run(&self, program: &Program, machine: &str) -> Result<(), Failure> {
        let connections = self.connections as usize;
        let rooms = usize::from(self.rooms);
        let host = self.target.host_for(program, rooms, connections)?;
        let plan = Plan {
            connections,
            stages: usize::from(self.stages),
            messages: usize::from(self.messages),
            content_bytes: usize::from(self.size),
            part_size: self.clients.part_size(),
            width: usize::from(self.clients.width),
            shards: self.target.shards,
            look: Duration::from_millis(self.look_ms),
        };
        let rooms = host.room_count();
        let quiet = self.target.json;
        if !quiet {
            println!("machine   {machine}");
            println!(
                "work      {connections} connections to one server process, {rooms} room(s), client processes of {} each",
                plan.part_size
            );
        }
        let bar = progress(connections);
        let stages = crowd::run(
            &host,
            plan,
            |count| bar.set_position(count as u64),
            |stage| {
                if !quiet {
                    bar.suspend(|| print(stage));
                }
            },
        )?;
        bar.finish_and_clear();
        let held = stages.last().map_or(0, |stage| stage.held);
        let million = crowd::calculate(&stages, 1e6);
        if quiet {
            let result = json!({
                "machine": machine,
                "asked": connections,
                "held": held,
                "rooms": rooms,
                "client_processes": (connections - rooms).div_ceil(plan.part_size),
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
            println!(
                "by calculation, not measured: {} connections would take {:.2} GB of the server's memory, {:.1} GB of \
                 the kernel's for both ends on this machine, {:.0} s to connect and {:.1} s for a message to reach the last",
                million.connections,
                million.server_bytes / 1e9,
                million.kernel_bytes / 1e9,
                million.connecting.as_secs_f64(),
                million.last.as_secs_f64()
            );
        }
        Ok(())
    }
}

fn print(stage: &Stage) {
    let connecting = &stage.connecting;
    println!("-- {} connections", stage.held);
    println!(
        "connect   {} in {:.2} s, {:.0} handshakes/s, {}tried again: {}{}",
        connecting.opened,
        connecting.took.as_secs_f64(),
        stage.per_second(),
        share(connecting.busy.clients_share()),
        connecting.again,
        connecting
            .first_refusal
            .as_ref()
            .map_or_else(String::new, |first| format!(", the first: {first}"))
    );
    let (each, more) = (stage.memory_each, stage.memory_more);
    println!(
        "memory    {:.0} bytes of the server each, {:.0} for one more; kernel {:.0} + {:.0} + {:.0} (slab + tables + \
         socket buffers, both ends); clients {:.0}; whole machine {:.0}",
        each.server, more.server, each.slab, each.tables, each.buffers, each.clients, each.machine
    );
    println!(
        "message     first ms  median ms   p99 ms   last ms   pass ms   lost  cpu ns  clients"
    );
    for (index, message) in stage.messages.iter().enumerate() {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let [p50, p99, _, last] = message.ages.ms();
        let cpu = message.cpu_nanos().map(|nanos| format!("{nanos:.0}"));
        let clients = message.busy.clients_share();
        println!(
            "{:7}   {:10.2} {p50:10.2} {p99:8.2} {last:9.2} {:9.2} {:6}  {:>6}  {:>6}",
            index + 1,
            ms(message.first),
            ms(message.pass_max),
            message.lost,
            cpu.unwrap_or_default(),
            clients.map_or_else(String::new, |share| format!("{:.0} %", share * 100.0))
        );
    }
    if stage.gone + stage.stray_bytes > 0 {
        println!(
            "besides   {} connections ended by the server, {} bytes between messages",
            stage.gone, stage.stray_bytes
        );
    }
}

fn share(share: Option<f64>) -> String {
    share.map_or_else(String::new, |share| {
        format!(
            "clients took {:.0} % of the processor time, ",
            share * 100.0
        )
    })
}
