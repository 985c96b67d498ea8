//! The results after one step of connections.

use std::time::Duration;

use serde_json::{Value, json};

use super::memory::Memory;
use crate::harness::ages::Ages;
use crate::harness::report::percent;

/// The measurement after one step.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    /// Open connections, of all steps.
    pub(super) held: usize,
    /// How this step's connections were made.
    pub(super) connecting: StepConnections,
    /// Memory for each connection, above the same processes without connections.
    pub(super) memory_each: Memory,
    /// Memory for each connection of this step alone: what one more costs.
    pub(super) memory_more: Memory,
    /// In the order in which they were sent.
    pub(super) messages: Vec<Message>,
    /// Bytes that came while no message was on its way: pings, or repetitions.
    pub(super) stray_bytes: u64,
    /// Connections that the server ever ended.
    pub(super) gone: u64,
}

/// How one step's connections were made.
#[derive(Debug, Clone, Default)]
pub(super) struct StepConnections {
    /// Connections that were opened.
    pub(super) opened: usize,
    /// From the first handshake to the last.
    pub(super) took: Duration,
    /// Handshakes that failed and were tried again.
    pub(super) again: u64,
    /// Why the first handshake failed.
    pub(super) first_refusal: Option<String>,
    /// Whether the server took no more.
    pub(super) gave_up: bool,
    /// Processor time while they were made.
    pub(super) busy: Busy,
}

/// Processor time of both sides.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Busy {
    /// Of the server; `None` if its process is not known.
    pub(super) server: Option<Duration>,
    /// Of the client processes.
    pub(super) clients: Duration,
}

/// One message in every room, from sending it to its last receipt.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Connections that it should reach; the senders' are not counted.
    pub(super) wanted: u64,
    /// Connections that it did not reach.
    pub(super) lost: u64,
    /// Until it was found at the first connection.
    pub(super) first: Duration,
    /// Until it was found at each connection.
    pub(super) ages: Ages,
    /// Longest time between two looks at one connection: the upper bound of the error of the times
    /// above.
    pub(super) pass_max: Duration,
    /// Bytes that each connection got.
    pub(super) frame_bytes: f64,
    /// Processor time until the report of the last client process.
    pub(super) busy: Busy,
}

impl Busy {
    /// Returns the clients' share of both; `None` if the server's is not known or both are zero.
    fn clients_share(&self) -> Option<f64> {
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

impl StepConnections {
    /// Opened connections per second.
    pub(super) fn per_second(&self) -> f64 {
        self.opened as f64 / self.took.as_secs_f64()
    }

    fn line(&self) -> String {
        let clients = self.busy.clients_share().map_or_else(String::new, |share| {
            let share = percent(Some(share));
            format!("clients took {share} of the processor time, ")
        });
        let first = self.first_refusal.as_ref();
        let first = first.map_or_else(String::new, |first| format!(", the first: {first}"));
        format!(
            "connect   {} in {:.2} s, {:.0} handshakes/s, {clients}tried again: {}{first}",
            self.opened,
            self.took.as_secs_f64(),
            self.per_second(),
            self.again,
        )
    }
}

impl Stage {
    /// Returns how long the median message took to its last connection.
    pub(super) fn reach(&self) -> Option<Duration> {
        let mut last: Vec<u64> = self.messages.iter().map(|each| each.ages.max).collect();
        last.sort_unstable();
        last.get(last.len() / 2)
            .map(|micros| Duration::from_micros(*micros))
    }

    /// Prints the step for people.
    pub(super) fn print(&self) {
        println!("-- {} connections", self.held);
        println!("{}", self.connecting.line());
        let (each, more) = (self.memory_each, self.memory_more);
        println!(
            "memory    {:.0} bytes of the server each, {:.0} for one more; kernel {:.0} + {:.0} + {:.0} (slab + tables + \
             socket buffers, both ends); clients {:.0}; whole machine {:.0}",
            each.server,
            more.server,
            each.slab,
            each.tables,
            each.buffers,
            each.clients,
            each.machine
        );
        println!(
            "message     first ms  median ms   p99 ms   last ms   pass ms   lost  cpu ns  clients"
        );
        for (index, message) in self.messages.iter().enumerate() {
            println!("{:7}   {}", index + 1, message.line());
        }
        if self.gone + self.stray_bytes > 0 {
            println!(
                "besides   {} connections ended by the server, {} bytes between messages",
                self.gone, self.stray_bytes
            );
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "held": self.held,
            "opened": self.connecting.opened,
            "connecting_ms": self.connecting.took.as_millis(),
            "handshakes_per_second": self.connecting.per_second().round(),
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
    /// Returns the server's processor time for one delivery, in nanoseconds.
    fn cpu_nanos(&self) -> Option<f64> {
        let reached = (self.wanted - self.lost).max(1) as f64;
        self.busy
            .server
            .map(|time| time.as_nanos() as f64 / reached)
    }

    fn line(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let [p50, p99, _, last] = self.ages.ms();
        let cpu = self.cpu_nanos().map(|nanos| format!("{nanos:.0}"));
        format!(
            "{:10.2} {p50:10.2} {p99:8.2} {last:9.2} {:9.2} {:6}  {:>6}  {:>6}",
            ms(self.first),
            ms(self.pass_max),
            self.lost,
            cpu.unwrap_or_default(),
            percent(self.busy.clients_share()),
        )
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
