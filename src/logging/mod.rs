//! The log: how its lines are written, and how many of them strangers may cause.
//!
//! Logging never blocks the caller: a line goes into a bounded queue, a thread of its own writes it, and lines that
//! cannot be written are counted and reported later. Lines that strangers can cause pass a [`Limiter`], one line a
//! second of each [`Kind`].

mod kind;
mod limiter;
pub(crate) mod local;
mod metrics;
mod queue;
mod start;
mod stderr;
mod text;
mod writer;

pub(crate) use kind::Kind;
pub(crate) use limiter::{Limiter, Overdue};
pub(crate) use metrics::render;
pub(crate) use start::{flush, pass_on, print, set_filter, start, whole};
pub(crate) use text::{bounded, with_causes};
