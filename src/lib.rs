//! Uproar: a self-hosted chat server for crowds, wire-compatible with Amazon IVS Chat.
//!
//! Layers, lowest first; a module uses only lower ranks (`tests/architecture` holds them to it):
//!
//! | rank | modules | subject |
//! |---|---|---|
//! | 9 | `cli` | edge: flags |
//! | 8 | `server`, `doctor` | start-up, wiring, signals; what the machine allows |
//! | 7 | `config` | files, environment and flags to validated settings |
//! | 6 | `control` | HTTP API, storage |
//! | 5 | `cluster` | this server as one node of several: its thread, the brokers |
//! | 4 | `shard` | one core: ring, sessions, rooms, mailboxes |
//! | 3 | `supervisor`, `takeover`, `audit` | threads that must live; how a new process takes over, as messages and state machines; the file of who moderated what |
//! | 2 | `net`, `durable`, `logging` | bytes in and out; files that keep what they promise; log lines |
//! | 1 | `clock`, `random`, `exposition` | the only reader of the clocks; of randomness; the only writer of Prometheus' text format |
//! | 0 | the crate `uproar-proto` | bytes and time in, meaning and effects out |
//!
//! `cli` also links the crate `uproar-bench`, which measures a server from outside and sees `uproar-proto` only.

#![cfg_attr(
    test,
    allow(
        clippy::as_conversions,
        clippy::wildcard_enum_match_arm,
        reason = "a test may stop at its first surprise"
    )
)]

// Public is what the binary needs (`cli`), and what tests, benches, fuzz targets and `crates/testing` drive from outside:
// the shard's machine, the parsers and formats of `control` and `config`, and what these take. All else is private, so
// that the compiler reports what is not used.

pub mod audit;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod control;
mod doctor;
mod durable;
mod exposition;
mod logging;
pub mod net;
mod random;
mod server;
pub mod shard;
pub mod supervisor;
mod takeover;
