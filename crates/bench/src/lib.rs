//! `uproar bench`: what a chat server does, measured from outside over real sockets.
//!
//! Owns: viewers, their load, figures and reports; if no server is named, one of its own as a child
//! process. Never: anything inside the server under test, which is reached by sockets and `/proc`
//! only. So this crate depends on `uproar-proto` and not on the server.
//!
//! A module uses only modules of lower ranks (`tests/architecture`):
//!
//! | rank | modules | subject |
//! |---|---|---|
//! | 2 | `command` | the command line, which chooses a measurement |
//! | 1 | one for each measurement, by its command's name | its flags, its run, its report |
//! | 0 | `harness` | what they share: the server under test, viewers, load, pictures |

#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "a measurement reads clocks")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "reports are printed for people and scripts"
)]
#![expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people, not counts that must be exact"
)]

mod across;
mod cluster;
mod command;
mod connect;
mod crowd;
mod fanout;
mod features;
mod floor;
mod harness;
mod idle;
mod ingest;
mod live;
mod loopback;
mod noisy_neighbour;
mod plan;
mod reconnect;
mod scale;
mod sweep;
mod tokens;

pub use self::command::Bench;
pub use self::harness::error::{BenchError, Failure};
pub use self::harness::program::{DevAccess, Program};
