//! The log: how its lines are written, and how many of them strangers may cause.
//!
//! Logging never blocks the caller: a line goes into a bounded queue, a thread of its own writes it, and lines that
//! cannot be written are counted and reported later. Lines that strangers can cause pass a [`Limiter`], one line a
//! second of each [`Kind`].

mod kind;
mod limiter;
pub mod local;
mod metrics;
mod queue;
mod start;
mod stderr;
mod text;
mod writer;

pub use kind::Kind;
pub use limiter::{Limiter, Overdue};
pub use metrics::render;
pub use start::{flush, print, start};
pub use text::bounded;
