//! Which interface of the kernel a server uses: what is configured, and what the kernel lets it.

use std::fmt;

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

use super::remedy::ring_remedy;
use crate::config::IoChoice;
use crate::net::backend::Kind;
use crate::net::rings::Rings;

/// What was chosen, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChosenIo {
    /// What moves the bytes of viewers.
    pub(crate) kind: Kind,
    /// Why it is not `io_uring`, where that was wanted.
    pub(crate) refused: Option<String>,
}

impl ChosenIo {
    /// Follows `choice`; `auto` asks the kernel whether `shards` shards may have rings.
    pub(crate) fn of(choice: IoChoice, shards: usize) -> Self {
        let refused = match choice {
            IoChoice::IoUring => None,
            IoChoice::Epoll => {
                return Self {
                    kind: Kind::Epoll,
                    refused: None,
                };
            }
            IoChoice::Auto => refusal(shards),
        };
        let kind = if refused.is_none() {
            Kind::IoUring
        } else {
            Kind::Epoll
        };
        Self { kind, refused }
    }

    /// Says what an operator may want to change.
    pub(super) fn warn(&self) {
        if let Some(why) = &self.refused {
            tracing::warn!(
                why,
                "io_uring cannot be used: viewers are served with epoll"
            );
        }
    }
}

impl fmt::Display for ChosenIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        match &self.refused {
            Some(why) => write!(f, ", because io_uring cannot be used: {why}"),
            None => Ok(()),
        }
    }
}

/// Why the kernel lets this process have no rings, with the remedy.
fn refusal(shards: usize) -> Option<String> {
    if let Some(bytes) = locked_memory_missing(shards) {
        return Some(format!(
            "the limit on locked memory is {bytes} bytes, too little for {shards} shards. Raise it, as with \
             LimitMEMLOCK=infinity in the unit (`ulimit -l`)"
        ));
    }
    match Rings::try_small() {
        Ok(missing) if missing.is_empty() => None,
        Ok(missing) => Some(format!(
            "this kernel lacks {}; Linux 6.1 or later has it",
            missing.join(", ")
        )),
        Err(cause) => Some(format!("{cause}. {}", ring_remedy(&cause))),
    }
}

/// The limit on locked memory if rings certainly exceed it.
fn locked_memory_missing(shards: usize) -> Option<u64> {
    let limit = getrlimit(Resource::Memlock).current?;
    let needed = RING_LOCKED_BYTES_MIN.saturating_mul(u64::try_from(shards).unwrap_or(u64::MAX));
    let exempt =
        || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    (limit < needed && charges_rings() && !exempt()).then_some(limit)
}

/// Whether this kernel counts rings to locked memory. An unknown one is asked by trying.
fn charges_rings() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || parts.next()?.parse::<u64>().ok();
    next()
        .zip(next())
        .is_some_and(|version| version >= KERNEL_CHARGES_RINGS)
}

/// Locked memory with which a shard's ring is refused (Linux 6.18), in bytes.
const RING_LOCKED_BYTES_MIN: u64 = 512 * 1024;
/// First kernel that counts rings to locked memory again.
const KERNEL_CHARGES_RINGS: (u64, u64) = (6, 14);
