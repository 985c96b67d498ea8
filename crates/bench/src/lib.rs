//! `uproar bench`: what a server does, measured from outside over real sockets.
//!
//! Owns: viewers, their load, figures and reports; if none is given, a server of its own as a child
//! process. Never: anything inside the server under test; it is reached by sockets and `/proc` only.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "reports are printed for people"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people, not counts that must be exact"
)]

mod bystander;
mod command;
pub mod connect;
pub mod crowd;
pub mod dialect;
pub mod fanout;
pub mod floor;
mod handshake;
pub mod host;
pub mod idle;
pub mod ingest;
mod load;
pub mod loopback;
pub mod machine;
mod nats;
pub mod neighbours;
pub mod plot;
mod program;
pub mod sample;
pub mod scale;
pub mod storm;
pub mod sweep;
pub mod tokens;
pub mod viewer;
mod wire;

use std::io;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

pub use self::command::Bench;
pub use self::program::{DevAccess, Program};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Flags that exclude each other, or what this machine cannot do.
    #[error("{0}")]
    Usage(String),
    /// A measurement could not be made.
    #[error("{0}")]
    Measurement(#[from] BenchError),
}

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The server under test did not start or stopped.
    #[error("the server under test: {0}")]
    Server(String),
    /// A viewer could not connect.
    #[error("viewer {index} could not connect: {cause}")]
    Connect {
        /// Which, in order of connecting.
        index: usize,
        /// Why.
        cause: io::Error,
    },
    /// A connection that should have lived ended.
    #[error("a viewer lost its connection in the middle of a measurement: {0}")]
    Lost(String),
    /// One of the client processes of a measurement failed.
    #[error("a client process: {0}")]
    Client(String),
    /// No rate keeps the bound of latency.
    #[error("no rate keeps the bound of latency")]
    Bound,
    /// Anything else from the machine.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Longer ages count as this one: a minute.
const AGE_MICROS_MAX: u64 = 60_000_000;

/// For ages in microseconds.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, AGE_MICROS_MAX, 3).expect("bounds and digits are valid")
}

/// Ages in microseconds: 50th, 99th and 99.9th percentile, highest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages(pub [u64; 4]);

impl Ages {
    fn of(ages: &Histogram<u64>) -> Self {
        let at = |quantile| ages.value_at_quantile(quantile);
        Self([at(0.5), at(0.99), at(0.999), ages.max()])
    }

    /// In milliseconds.
    pub fn ms(self) -> [f64; 4] {
        self.0.map(|micros| micros as f64 / 1000.0)
    }

    fn json(self) -> Value {
        let [p50, p99, p999, max] = self.0;
        json!({"p50": p50, "p99": p99, "p999": p999, "max": max})
    }
}
