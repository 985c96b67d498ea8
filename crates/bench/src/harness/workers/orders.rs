//! What the measuring process and its client processes send each other: one JSON value in a line,
//! orders to the client's standard input, replies from its standard output.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An order to a client process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Names the server. This is the first order, and has no reply.
    Join {
        /// Its messaging listener.
        messaging: SocketAddr,
        /// Its data directory, which has the sealing keys.
        data_dir: PathBuf,
        /// Ids of its rooms.
        rooms: Vec<String>,
        /// Handshakes in progress at once.
        width: usize,
        /// Whether they connect over TLS.
        tls: bool,
    },
    /// Connects viewers. The reply is [`Reply::Connected`].
    Connect {
        /// Their numbers among all viewers.
        viewers: Range<usize>,
        /// Numbers of the rooms among which they are spread.
        rooms: Range<usize>,
    },
    /// Forgets what came, then empties all connections again and again. The replies are
    /// [`Reply::Watching`] at once, and [`Reply::Watched`] when every connection got `bytes` bytes,
    /// or after [`Order::Report`].
    Watch {
        /// A connection that got this many is counted as reached and left alone; `None`: all are
        /// emptied until the report.
        bytes: Option<u64>,
        /// Between the beginnings of two passes over the connections.
        every: Duration,
    },
    /// Ends an [`Order::Watch`].
    Report,
}

/// A reply of a client process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The number of open connections, while more are made.
    Holding(usize),
    /// An [`Order::Connect`] is done.
    Connected(Connected),
    /// An [`Order::Watch`] has begun.
    Watching {
        /// Bytes that came while nobody watched: pings, or what should not have come.
        stray_bytes: u64,
    },
    /// An [`Order::Watch`] is over.
    Watched(Watched),
    /// The client process cannot go on.
    Failed(String),
}

/// The result of an [`Order::Connect`].
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Connected {
    /// Open connections, those of earlier orders included.
    pub(crate) holding: usize,
    /// Handshakes that failed and were tried again.
    pub(crate) again: u64,
    /// Viewers that were given up.
    pub(crate) failed: u64,
    /// Why the first handshake failed.
    pub(crate) first_refusal: Option<String>,
    /// Whether the rest was not tried because too many viewers were given up.
    pub(crate) gave_up: bool,
}

/// The result of an [`Order::Watch`].
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Watched {
    /// When connections were found to be reached, by
    /// [`now_nanos`](super::super::machine::now_nanos), and how many.
    pub(super) reached: Vec<(u64, u32)>,
    /// Bytes of all connections.
    pub(super) bytes: u64,
    /// Connections that the server ever ended.
    pub(super) gone: u64,
    /// Longest time between two looks at one connection, in microseconds.
    pub(super) pass_micros_max: u64,
}

/// Writes one value as a line.
pub(super) fn write_line(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}
