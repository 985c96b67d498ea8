//! The cluster's thread: moves bytes between the shards, the engine and the brokers, turn by turn.
//!
//! In a turn it takes what has come from shards and brokers, tells the engine, and does what the engine wants. Nothing in
//! a turn waits. Reads that need several answers are tasks of their own, whose results come back as items.

mod begin;
mod crowds;
mod deliver;
mod halt;
mod lines;
mod namesake;
mod node;
mod orders;
mod perform;
mod skew;
mod standby;
mod take;
mod user_events;

use std::io;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::hands::Hands;
use crate::logging::local;
use crate::net::event::Event;
use crate::supervisor::{Pulse, Stopped};

/// How long blocking work may continue when the server stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs until it is told to stop. What makes a beginning impossible is told to the handle, and no fault of the thread.
pub(super) fn run(runtime: Runtime, hands: Hands, pulse: &Pulse) -> io::Result<Stopped> {
    let tasks = LocalSet::new();
    let outcome = tasks.block_on(&runtime, async move {
        tokio::task::spawn_local(local::log_overdue());
        let event = Event::new(hands.end.bell.event())?;
        begin::begin(hands, event, pulse).await
    });
    drop(tasks);
    runtime.shutdown_timeout(STOP_TIMEOUT);
    outcome
}
