//! `uproar bench idle`: what a connection costs while nobody speaks.

use std::time::Duration;

use serde_json::{Value, json};

use super::BenchError;
use super::host::Host;
use super::{machine, viewer};

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// Connections held.
    pub connections: usize,
    /// Of the server's process, for each connection, in bytes.
    pub user_bytes: f64,
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
    let mut streams = Vec::with_capacity(connections);
    let open = |index: usize| -> Result<_, BenchError> {
        let user = format!("{index:0user_id_bytes$}");
        let token = host.token(index % host.rooms.len(), &user)?;
        viewer::open(host.messaging, Some(&token), index)
            .map_err(|cause| BenchError::Connect { index, cause })
    };
    // The first ones pay for what the server allocates once.
    let warmup = (connections / 10).max(1);
    for index in 0..warmup {
        streams.push(open(index)?);
        connected();
    }
    std::thread::sleep(SETTLE);
    let (before, kernel_before) = (host.usage(), machine::kernel_memory());
    let started = std::time::Instant::now();
    for index in warmup..connections {
        streams.push(open(index)?);
        connected();
    }
    let elapsed = started.elapsed();
    std::thread::sleep(SETTLE);
    let (after, kernel_after) = (host.usage(), machine::kernel_memory());
    let measured = (connections - warmup).max(1) as f64;
    let (before, after) = before.zip(after).ok_or_else(|| {
        BenchError::Server("idle needs the server's process id: --pid".to_owned())
    })?;
    Ok(Idle {
        connections,
        user_bytes: (after.memory as f64 - before.memory as f64) / measured,
        kernel_bytes: (kernel_after as f64 - kernel_before as f64) / measured,
        handshakes_per_second: measured / elapsed.as_secs_f64(),
    })
}

impl Idle {
    /// For scripts.
    pub fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "user_bytes_per_connection": self.user_bytes.round(),
            "kernel_bytes_per_connection_both_ends": self.kernel_bytes.round(),
            "handshakes_per_second": self.handshakes_per_second.round(),
        })
    }
}

/// For the allocator and the kernel to settle.
const SETTLE: Duration = Duration::from_millis(1500);
