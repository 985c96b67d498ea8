//! `uproar bench idle`: what a connection costs while nobody speaks.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::BenchError;
use super::host::Host;
use super::machine;

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// Connections held.
    pub connections: usize,
    /// Memory of the server's process above the same process without connections, for each
    /// connection, in bytes. What the server allocates once for its first connections is in it.
    pub user_bytes: f64,
    /// The same for the second half of the connections alone: what one more costs.
    pub user_bytes_more: f64,
    /// Slab of the whole machine, for each connection, both ends together, in bytes.
    pub kernel_bytes: f64,
    /// Handshakes a second, one after the other from one thread.
    pub handshakes_per_second: f64,
}

/// Connects `connections` viewers with user ids of `user_id_bytes` bytes and compares memory.
pub fn run(
    host: &Host,
    connections: usize,
    user_id_bytes: usize,
    mut connected: impl FnMut(),
) -> Result<Idle, BenchError> {
    let memory = || {
        std::thread::sleep(SETTLE);
        let usage = host.usage().filter(|usage| usage.memory > 0);
        let usage = usage.ok_or_else(|| {
            BenchError::Server("idle needs the server's process id: --pid".to_owned())
        });
        usage.map(|usage| usage.memory as f64)
    };
    let (empty, kernel_empty) = (memory()?, machine::kernel_memory() as f64);
    let mut streams = Vec::with_capacity(connections);
    let mut half = empty;
    let mut busy = Duration::ZERO;
    for index in 0..connections {
        if index == connections / 2 {
            half = memory()?;
        }
        let user = format!("{index:0user_id_bytes$}");
        let room = index % host.room_count();
        let entrance = host.entrance(room, &user)?;
        let started = Instant::now();
        let stream = host.enter(room, &entrance, index)?;
        busy += started.elapsed();
        streams.push(stream);
        connected();
    }
    let (all, kernel_all) = (memory()?, machine::kernel_memory() as f64);
    let count = connections as f64;
    Ok(Idle {
        connections,
        user_bytes: (all - empty) / count,
        user_bytes_more: (all - half) / (count - (connections / 2) as f64),
        kernel_bytes: (kernel_all - kernel_empty) / count,
        handshakes_per_second: count / busy.as_secs_f64(),
    })
}

impl Idle {
    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "user_bytes_per_connection": self.user_bytes.round(),
            "user_bytes_of_one_more": self.user_bytes_more.round(),
            "kernel_bytes_per_connection_both_ends": self.kernel_bytes.round(),
            "handshakes_per_second": self.handshakes_per_second.round(),
        })
    }
}

/// For the allocator and the kernel to settle.
const SETTLE: Duration = Duration::from_secs(1);
