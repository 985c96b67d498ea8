//! Requirements of a number of connections, calculated from measured values (docs/results/2026-11.md).

use crate::net::backend::Kind;
use crate::net::capacity::{divide, kept};
use uproar_proto::base::limits::{
    RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, RING_CONNECTIONS_MAX, SOCKET_SEND_BYTES,
};

/// User memory of an idle connection, in bytes: 0.4 KB measured.
pub(super) const CONNECTION_USER_BYTES: u64 = 410;
/// Kernel memory of an idle connection, its own end only, in bytes: 4.9 KB measured.
pub(super) const CONNECTION_KERNEL_BYTES: u64 = 5018;
/// Memory of the server before its first connection, in bytes: program, database cache, room logs.
const PROCESS_BYTES: u64 = 128 * 1024 * 1024;
/// Memory of a shard before its first connection: receive buffers, and as much again for the rest.
#[expect(
    clippy::as_conversions,
    reason = "constants widened, where try_from cannot be called"
)]
const SHARD_BYTES: u64 = 2 * RECEIVE_BUFFERS as u64 * RECEIVE_BUFFER_BYTES as u64;
/// Unit of `tcp_mem`, in bytes. Larger pages make the requirements smaller, so this is safe.
pub(super) const PAGE_BYTES: u64 = 4096;
/// One viewer in this many does not read, and has a full send buffer.
const STALLED_ONE_IN: u64 = 100;
/// Tracked connections for each open one: after a reconnect storm the old entries stay for minutes.
const TRACKED_PER_CONNECTION: u64 = 2;
/// Locked memory of a shard's two rings, in bytes, rounded up: Linux 6.18 refuses its own ring at 512 KiB and
/// creates it at 600, unless the server has `CAP_IPC_LOCK`.
const SHARD_LOCKED_BYTES: u64 = 1024 * 1024;
/// Threads beside those of the shards, with workers that tokio and `io_uring` may start.
const THREADS: u64 = 64;
/// Threads per shard.
const SHARD_THREADS: u64 = 8;
/// Viewers whose acknowledgements one processor can receive from a network card: about 500,000 packets/s, one for
/// each flush of a busy room (`PACE_CEILING`, 20 a second).
const VIEWERS_PER_RECEIVING_CPU: u64 = 25_000;

/// The target of the examination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// Viewers at once.
    pub connections: u64,
    /// The server's shards.
    pub shards: u64,
    /// What moves the bytes of viewers.
    pub io: Kind,
    /// This machine opens the connections instead: a load generator, or a proxy in front.
    pub opens: bool,
}

impl Target {
    /// The smallest sufficient limit on open files. A load generator needs one for each connection; a server's
    /// viewers are fixed files of its rings, whose tables the limit bounds one by one, or take one each with epoll.
    pub(crate) fn descriptors(&self) -> u64 {
        let all = self.files();
        if self.opens {
            return all;
        }
        let (mut short, mut enough) = (self.descriptors_beside().saturating_sub(1), all);
        if self.io == Kind::Epoll {
            // Handshakes and hand-overs have up to a third as many.
            enough = all.saturating_mul(2);
        }
        while enough - short > 1 {
            let middle = short + (enough - short) / 2;
            if self.connections_of_descriptors(middle) < self.connections {
                short = middle;
            } else {
                enough = middle;
            }
        }
        enough
    }

    /// Descriptors that are not viewers'.
    pub(crate) fn descriptors_beside(&self) -> u64 {
        kept(self.shards)
    }

    /// Connections for which a limit on open files suffices.
    pub(crate) fn connections_of_descriptors(&self, limit: u64) -> u64 {
        let beside = self.descriptors_beside();
        if limit == u64::MAX {
            u64::MAX
        } else if self.opens {
            limit.saturating_sub(beside)
        } else if limit < beside {
            0
        } else {
            divide(self.io, limit, self.shards).connections
        }
    }

    /// Open files the kernel keeps for it, in any table.
    pub(crate) fn files(&self) -> u64 {
        self.connections.saturating_add(self.descriptors_beside())
    }

    /// Memory before the first connection, in bytes.
    pub(crate) fn memory_beside(&self) -> u64 {
        PROCESS_BYTES.saturating_add(self.shards.saturating_mul(SHARD_BYTES))
    }

    /// All memory: idle connections, and socket buffers under load.
    pub(crate) fn memory(&self) -> u64 {
        self.connections
            .saturating_mul(memory_per_connection())
            .saturating_add(self.memory_beside())
    }

    /// Pages of socket buffers (`tcp_mem`).
    pub(crate) fn tcp_pages(&self) -> u64 {
        self.connections
            .saturating_mul(buffer_bytes_per_connection())
            .div_ceil(PAGE_BYTES)
    }

    /// Entries of the firewall's table.
    pub(crate) fn tracked(&self) -> u64 {
        self.connections.saturating_mul(TRACKED_PER_CONNECTION)
    }

    /// Locked memory, in bytes: the rings of every shard, and further ones for its connections.
    pub(crate) fn locked(&self) -> u64 {
        let further = self.connections / u64::from(RING_CONNECTIONS_MAX);
        let rings = self.shards.saturating_add(further);
        rings.saturating_mul(SHARD_LOCKED_BYTES)
    }

    /// Threads.
    pub(crate) fn threads(&self) -> u64 {
        self.shards
            .saturating_mul(SHARD_THREADS)
            .saturating_add(THREADS)
    }

    /// Processors that should take part in receiving.
    pub(crate) fn receiving_cpus(&self) -> u64 {
        self.connections.div_ceil(VIEWERS_PER_RECEIVING_CPU)
    }
}

/// Socket buffers under load: one page in flight, and the share of stalled readers.
fn buffer_bytes_per_connection() -> u64 {
    let stalled = u64::try_from(SOCKET_SEND_BYTES).expect("a constant of 512 KiB");
    PAGE_BYTES + stalled.div_ceil(STALLED_ONE_IN)
}

/// Memory of one connection under load, one end, in bytes.
pub(super) fn memory_per_connection() -> u64 {
    CONNECTION_USER_BYTES + CONNECTION_KERNEL_BYTES + buffer_bytes_per_connection()
}

/// Connections for which this many pages of socket buffers suffice.
pub(super) fn connections_of_pages(pages: u64) -> u64 {
    pages.saturating_mul(PAGE_BYTES) / buffer_bytes_per_connection()
}

/// Connections for which a firewall's table suffices.
pub(super) fn connections_of_tracked(entries: u64) -> u64 {
    entries / TRACKED_PER_CONNECTION
}
