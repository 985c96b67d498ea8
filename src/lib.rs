//! Uproar: a self-hosted chat server for crowds, wire-compatible with Amazon IVS Chat.
//!
//! Layers, lowest first; a module uses only lower ranks (`tests/architecture.rs` holds them to it):
//!
//! | rank | modules | subject |
//! |---|---|---|
//! | 7 | `cli` | edge: flags |
//! | 6 | `server`, `bench`, `doctor` | start-up, wiring, signals; measuring from outside; what the machine allows |
//! | 5 | `config` | files, environment and flags to validated settings |
//! | 4 | `control` | HTTP API, storage |
//! | 3 | `shard` | one core: ring, sessions, rooms, mailboxes |
//! | 2 | `session`, `room`, `supervisor` | pure state machines: bytes and time in, effects out; threads that must live |
//! | 1 | `net`, `protocol`, `durable`, `logging` | bytes in and out; bytes to meaning; files that keep what they promise; log lines |
//! | 0 | `base` | limits, ids, clock, tables |

pub mod base;
pub mod bench;
pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
pub mod durable;
pub mod logging;
pub mod net;
pub mod protocol;
pub mod room;
pub mod server;
pub mod session;
pub mod shard;
pub mod supervisor;
