//! `uproar bench idle`: what a connection costs while nobody sends.

use std::time::{Duration, Instant};

use clap::Args;
use rustls::CipherSuite;
use serde_json::{Value, json};

use crate::harness::error::{BenchError, Failure};
use crate::harness::flags::count;
use crate::harness::machine::Meminfo;
use crate::harness::program::Environment;
use crate::harness::report::{Progress, print};
use crate::harness::server::ServerUnderTest;
use crate::harness::target::{Peer, Target};
use crate::harness::tls::client::{TlsClient, suite_name};

/// Flags of `uproar bench idle`.
#[derive(Debug, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    peer: Peer,
    /// Viewers
    #[arg(long, default_value_t = 18_000, value_name = "N", value_parser = count(1..))]
    connections: usize,
    /// Length of the viewers' user ids, in bytes
    #[arg(long = "user-id", default_value_t = 40, value_name = "BYTES", value_parser = count(8..=128))]
    user_id_bytes: usize,
}

/// The result of the measurement.
struct Report {
    connections: usize,
    user_id_bytes: usize,
    /// The suite that was agreed on; `None` without TLS.
    suite: Option<CipherSuite>,
    /// Memory of the server's process for each connection, above that of the same process without
    /// connections, in bytes. What the server allocates once, for its first connections, is in it.
    user_bytes: f64,
    /// The same for the second half of the connections alone: what one more costs.
    user_bytes_more: f64,
    /// Slab of the whole machine for each connection, both ends together, in bytes.
    kernel_bytes: f64,
    /// Handshakes per second, one after another, from one thread.
    handshakes_per_second: f64,
}

impl Idle {
    pub(crate) fn run(&self, environment: &Environment<'_>) -> Result<(), Failure> {
        let server = self
            .peer
            .server(&self.target, environment.program, 1, &[])?;
        let report = self.measure(&server, &Progress::new(self.connections))?;
        let machine = &environment.machine;
        print(self.target.json, machine, report.json(), &report.lines());
        Ok(())
    }

    /// Connects the viewers and compares memory before, halfway and after.
    fn measure(&self, server: &ServerUnderTest, progress: &Progress) -> Result<Report, BenchError> {
        let memory = || {
            std::thread::sleep(SETTLE);
            let usage = server.usage().filter(|usage| usage.memory > 0);
            let usage = usage.ok_or_else(|| {
                BenchError::Server("idle needs the server's process id: --pid".to_owned())
            });
            usage.map(|usage| usage.memory as f64)
        };
        let slab = || Meminfo::now().slab as f64;
        let (empty, slab_empty) = (memory()?, slab());
        let mut streams = Vec::with_capacity(self.connections);
        let mut half = empty;
        let mut busy = Duration::ZERO;
        let width = self.user_id_bytes;
        for index in 0..self.connections {
            if index == self.connections / 2 {
                half = memory()?;
            }
            let user = format!("{index:0width$}");
            let room = index % server.room_count();
            let access = server.access(room, &user)?;
            let started = Instant::now();
            let stream = server.connect_with(room, &access, index)?;
            busy += started.elapsed();
            streams.push(stream);
            progress.step();
        }
        let (all, slab_all) = (memory()?, slab());
        let count = self.connections as f64;
        Ok(Report {
            connections: self.connections,
            user_id_bytes: self.user_id_bytes,
            suite: server.tls.as_ref().and_then(TlsClient::suite),
            user_bytes: (all - empty) / count,
            user_bytes_more: (all - half) / (count - (self.connections / 2) as f64),
            kernel_bytes: (slab_all - slab_empty) / count,
            handshakes_per_second: count / busy.as_secs_f64(),
        })
    }
}

impl Report {
    fn lines(&self) -> [(&'static str, String); 4] {
        [
            (
                "connections",
                format!(
                    "{}, user ids of {} bytes{}",
                    self.connections,
                    self.user_id_bytes,
                    self.suite
                        .map_or_else(String::new, |suite| format!(", {}", suite_name(suite)))
                ),
            ),
            (
                "server memory",
                format!(
                    "{:.0} bytes each above the empty server (Pss of its process, files aside), {:.0} for one more",
                    self.user_bytes, self.user_bytes_more
                ),
            ),
            (
                "kernel memory",
                format!("{:.0} bytes each (Slab, both ends)", self.kernel_bytes),
            ),
            (
                "handshakes",
                format!(
                    "{:.0} a second, one after the other",
                    self.handshakes_per_second
                ),
            ),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "connections": self.connections,
            "user_id_bytes": self.user_id_bytes,
            "tls": self.suite.map(suite_name),
            "user_bytes_per_connection": self.user_bytes.round(),
            "user_bytes_of_one_more": self.user_bytes_more.round(),
            "kernel_bytes_per_connection_both_ends": self.kernel_bytes.round(),
            "handshakes_per_second": self.handshakes_per_second.round(),
        })
    }
}

/// Time for the allocator and the kernel to settle.
const SETTLE: Duration = Duration::from_secs(1);
