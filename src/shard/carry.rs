//! Leaving on their way from one shard of the old process to the new process: descriptors and records, in batches.
//!
//! The old shard's thread sends while its core is frozen; a thread of the new process receives, hands each batch on and
//! acknowledges it. At most two batches are unacknowledged, and plain descriptors are closed as soon as they
//! are sent: so neither process needs more of them than one batch a shard, whatever its number of viewers. Any
//! fault on either side is an error on both, and leaves the old shard as it was.

mod receive;
mod send;
mod wire;

use std::io;

pub use receive::receive_viewers;
pub use send::{Leaving, send_viewers};

use crate::net::pass::PassError;
use uproar_proto::base::limits::{CARRIED_RECORD_BYTES_MAX, DESCRIPTORS_A_MESSAGE_MAX};

/// What one shard has sent, or what was received of it. Both are equal when all went well.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// Number of viewers.
    pub viewers: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// CRC-32 of the records, one after another, each behind its length.
    pub checksum: u32,
}

/// Why viewers were not carried over.
#[derive(Debug, thiserror::Error)]
pub enum CarryFault {
    /// The shard serves: it was thawed, or never asked to freeze.
    #[error("viewers were not carried over: the shard is not frozen")]
    Serving,
    /// The connection between the processes failed, or the deadline came first.
    #[error("viewers were not carried over: {0}")]
    Pass(#[from] PassError),
    /// The kernel made no plain descriptors of fixed files.
    #[error("viewers were not carried over: no plain descriptors: {0}")]
    Detach(io::Error),
    /// The new process could not go on, for this reason.
    #[error("viewers were not carried over: the new process: {0}")]
    Refused(String),
    /// The receiver of the batches could not take one.
    #[error("viewers were not carried over: {0}")]
    Deliver(io::Error),
    /// A viewer's record is longer than any should be.
    #[error("a viewer's record has {0} bytes, at most {CARRIED_RECORD_BYTES_MAX}")]
    Record(usize),
    /// The other process sent what it should not, or not in this order.
    #[error("viewers were not carried over: the other process sent {0}")]
    Unexpected(&'static str),
    /// Not all that was sent came.
    #[error("viewers were not carried over: {sent:?} was sent, {received:?} came")]
    Incomplete {
        /// The sender's sums.
        sent: Sums,
        /// The receiver's sums.
        received: Sums,
    },
}

/// Returns the viewers of a batch for each of `shards` shards when `passing` descriptors are for connections on their way:
/// together the batches take an eighth of them, in the old process as in the new, and their messages a quarter.
pub fn batch_viewers(passing: u64, shards: usize) -> usize {
    let share = usize::try_from(passing / 8).unwrap_or(usize::MAX) / shards.max(1);
    share.clamp(1, DESCRIPTORS_A_MESSAGE_MAX)
}

#[cfg(test)]
mod tests;
