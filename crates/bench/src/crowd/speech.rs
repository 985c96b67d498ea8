//! What the measuring process and its client processes say to each other: one JSON value a line, orders
//! on the client's standard input, words on its standard output.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// To a client process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The first one: which server.
    Join {
        /// Its messaging listener.
        messaging: SocketAddr,
        /// Its data directory, for the sealing keys.
        data_dir: PathBuf,
        /// Ids of its rooms.
        rooms: Vec<String>,
        /// Handshakes under way at once.
        width: usize,
    },
    /// Connects so many more; answered by [`Word::Connected`].
    Connect {
        /// Their numbers among all viewers.
        viewers: Range<usize>,
        /// Numbers of the rooms they are dealt to.
        rooms: Range<usize>,
    },
    /// Forgets what came, then looks at every connection again and again; answered by
    /// [`Word::Watching`], then, when every one got `bytes`, or on [`Order::Report`], by [`Word::Heard`].
    Watch {
        /// A connection that got as many was reached and is looked at no more; `None`: all are, always.
        bytes: Option<u64>,
        /// Between the beginnings of two looks at all connections.
        every: Duration,
    },
    /// Ends the watching.
    Report,
}

/// From a client process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// Connections that stand, while more are made.
    Holding(usize),
    /// An [`Order::Connect`] is done.
    Connected(Connected),
    /// An [`Order::Watch`] has begun.
    Watching {
        /// Bytes that nobody watched for: pings, or what must not have come.
        stray_bytes: u64,
    },
    /// The end of an [`Order::Watch`].
    Heard(Heard),
    /// It cannot go on.
    Failed(String),
}

/// How connecting went.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Connected {
    /// Connections that stand, those of earlier orders included.
    pub holding: usize,
    /// Handshakes that failed and were tried again.
    pub again: u64,
    /// Viewers given up.
    pub failed: u64,
    /// Why the first handshake failed.
    pub first_refusal: Option<String>,
    /// So many were given up that the rest was not tried.
    pub gave_up: bool,
}

/// What came while it was watched.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Heard {
    /// When connections were found to be reached, by [`now_nanos`], and how many.
    pub reached: Vec<(u64, u32)>,
    /// Bytes of all connections.
    pub bytes: u64,
    /// Connections that the server ended, ever.
    pub gone: u64,
    /// Longest time between two looks at one connection, in microseconds.
    pub pass_micros_max: u64,
}

/// Writes one value as a line.
pub(super) fn say(to: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// A clock that all processes of the machine share.
pub(crate) fn now_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).expect("time since boot");
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).expect("below a second")
}
