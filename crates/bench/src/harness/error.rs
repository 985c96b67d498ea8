//! Why a command or a measurement failed.

use std::io;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The flags exclude each other, or ask for more than this machine has.
    #[error("{0}")]
    Usage(String),
    /// The measurement could not be made.
    #[error("{0}")]
    Measurement(#[from] BenchError),
}

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The server under test did not start, ended, or does not do what the measurement needs.
    #[error("the server under test: {0}")]
    Server(String),
    /// A viewer could not connect.
    #[error("viewer {index} could not connect: {cause}")]
    Connect {
        /// Its number, in order of connecting.
        index: usize,
        /// The refusal, or the kernel's error.
        cause: io::Error,
    },
    /// The server ended a connection that the measurement needs.
    #[error("a viewer lost its connection in the middle of a measurement: {0}")]
    Lost(String),
    /// A client process failed.
    #[error("a client process: {0}")]
    Client(String),
    /// No rate keeps the bound of latency.
    #[error("no rate keeps the bound of latency")]
    Bound,
    /// The kernel refused something else.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl BenchError {
    /// The error of a connection that was open before.
    pub(crate) fn lost(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Measurement(error.into())
    }
}
