//! One core: its ring, its connections, its rooms, its mailboxes. Shards share no mutable state but
//! mailboxes and counters.
//!
//! [`core::Core`] is the state machine: completions and commands in, submissions and commands out. It knows
//! no descriptor and no clock, so that the simulation drives the code that ships. [`run`] gives it a
//! thread, rings and the time; [`accept`] and `handshake` bring it connections.

mod accept;
mod archived;
mod aside;
pub mod bans;
pub mod carry;
pub mod close_reason;
pub mod cluster;
pub mod command;
mod connection;
pub mod core;
mod departed;
mod detour;
pub mod doorbell;
pub mod durability;
mod early;
pub mod estate;
pub mod export;
mod figure;
pub mod frames;
pub mod gateway;
pub mod handshake;
pub mod inbox;
pub mod journal;
pub mod mailbox;
pub mod mesh;
pub mod metrics;
mod pace;
mod parked;
mod requests;
pub mod review;
mod room_ruled;
pub mod room_sizes;
mod room_tallies;
pub mod rule_times;
pub mod rules;
pub mod run;
pub mod settings;
mod shard_room;
pub mod survey;
pub mod times;
pub mod tokens;
mod turn_timer;
pub mod user_event;
mod watched;
