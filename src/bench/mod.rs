//! `uproar bench`: what a server does, measured from outside over real sockets.
//!
//! Owns: viewers, their load, figures and reports; if none is given, a server of its own as a child
//! process. Never: anything inside the server under test; it is reached by sockets and `/proc` only.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people, not counts that must be exact"
)]

pub mod fanout;
pub mod host;
pub mod idle;
mod load;
pub mod machine;
pub mod sample;
pub mod tokens;
pub mod viewer;

use std::io;

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
    /// Anything else from the machine.
    #[error("{0}")]
    Io(#[from] io::Error),
}
