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
//! | 2 | `supervisor` | threads that must live |
//! | 1 | `net`, `durable`, `logging` | bytes in and out; files that keep what they promise; log lines |
//! | 0 | the crate `uproar-proto` | bytes and time in, meaning and effects out |

pub mod bench;
pub mod cli;
pub mod config;
pub mod control;
pub mod doctor;
pub mod durable;
pub mod logging;
pub mod net;
pub mod server;
pub mod shard;
pub mod supervisor;
