//! Memory at one moment: of the server, of the client processes, of the kernel.

use serde_json::{Value, json};

use crate::harness::machine::{Meminfo, socket_buffers};
use crate::harness::server::ServerUnderTest;
use crate::harness::workers::Workers;

/// Memory in bytes. Differences of two moments, divided by connections, are what a connection
/// costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Memory {
    /// Private and proportional memory of the server's process; zero if its process is not known.
    pub(super) server: f64,
    /// The same of all client processes.
    pub(super) clients: f64,
    /// Slab of the whole machine: sockets and what belongs to them, both ends.
    pub(super) slab: f64,
    /// Large tables of the kernel (`VmallocUsed`), those of fixed files among them.
    pub(super) tables: f64,
    /// Socket buffers of TCP, of the whole machine.
    pub(super) buffers: f64,
    /// All memory in use: by how much `MemAvailable` is below `MemTotal`.
    pub(super) machine: f64,
}

impl Memory {
    /// Reads the memory now.
    pub(super) fn now(server: &ServerUnderTest, workers: &Workers) -> Self {
        let meminfo = Meminfo::now();
        Self {
            server: server.usage().map_or(0.0, |usage| usage.memory as f64),
            clients: workers.usage().memory as f64,
            slab: meminfo.slab as f64,
            tables: meminfo.tables as f64,
            buffers: socket_buffers() as f64,
            machine: meminfo.used as f64,
        }
    }

    /// Returns what each of `count` connections has added since `before`.
    pub(super) fn each_since(self, before: Self, count: usize) -> Self {
        let each = |now: f64, before: f64| (now - before) / count.max(1) as f64;
        Self {
            server: each(self.server, before.server),
            clients: each(self.clients, before.clients),
            slab: each(self.slab, before.slab),
            tables: each(self.tables, before.tables),
            buffers: each(self.buffers, before.buffers),
            machine: each(self.machine, before.machine),
        }
    }

    /// Returns the memory of the kernel for silent connections, both ends. Socket buffers are left
    /// out: they come and go with what any process of the machine sends.
    pub(super) fn kernel(&self) -> f64 {
        self.slab + self.tables
    }

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
