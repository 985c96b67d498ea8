//! Memory at one moment: of the server, of the client processes, of the kernel.

use std::fs;

use serde_json::{Value, json};

use super::parts::Parts;
use crate::host::Host;
use crate::machine;

/// In bytes; differences of two moments, divided by connections, are what a connection costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Memory {
    /// Private and proportional memory of the server's process; nothing if it is not known which.
    pub server: f64,
    /// The same of all client processes.
    pub clients: f64,
    /// Slab of the whole machine: sockets and what belongs to them, both ends.
    pub slab: f64,
    /// Large tables of the kernel (`VmallocUsed`), those of direct descriptors among them.
    pub tables: f64,
    /// Socket buffers of TCP, of the whole machine.
    pub buffers: f64,
    /// Everything: by how much `MemAvailable` is below `MemTotal`.
    pub machine: f64,
}

impl Memory {
    /// Right now.
    pub(super) fn now(host: &Host, parts: &Parts) -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let bytes = |name| kilobytes(&meminfo, name) * 1024.0;
        Self {
            server: host.usage().map_or(0.0, |usage| usage.memory as f64),
            clients: parts.usage().memory as f64,
            slab: machine::kernel_memory() as f64,
            tables: bytes("VmallocUsed:"),
            buffers: buffers(),
            machine: bytes("MemTotal:") - bytes("MemAvailable:"),
        }
    }

    /// Combines each figure with that of another moment.
    fn with(self, other: Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            server: combine(self.server, other.server),
            clients: combine(self.clients, other.clients),
            slab: combine(self.slab, other.slab),
            tables: combine(self.tables, other.tables),
            buffers: combine(self.buffers, other.buffers),
            machine: combine(self.machine, other.machine),
        }
    }

    /// What each of `count` connections has added since `before`.
    pub(super) fn each_since(self, before: Self, count: usize) -> Self {
        self.with(before, |now, before| (now - before) / count.max(1) as f64)
    }

    /// Of the kernel for a connection that is silent, both ends. Socket buffers come and go with
    /// whatever any process of the machine sends.
    pub(super) fn kernel(&self) -> f64 {
        self.slab + self.tables
    }

    /// For scripts.
    pub(super) fn json(&self) -> Value {
        json!({
            "server": self.server.round(),
            "clients": self.clients.round(),
            "kernel_slab_both_ends": self.slab.round(),
            "kernel_tables": self.tables.round(),
            "socket_buffers_both_ends": self.buffers.round(),
            "machine": self.machine.round(),
        })
    }
}

/// Pages, behind `mem` of the line `TCP:`.
fn buffers() -> f64 {
    let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = sockstat.lines().find(|line| line.starts_with("TCP:"));
    let pages = line.and_then(|line| {
        let mut words = line.split_whitespace();
        words.find(|word| *word == "mem")?;
        words.next()?.parse().ok()
    });
    pages.unwrap_or(0.0) * PAGE_BYTES
}

/// Where a kernel has larger ones, the figure of the socket buffers is too low.
const PAGE_BYTES: f64 = 4096.0;

fn kilobytes(text: &str, name: &str) -> f64 {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}
