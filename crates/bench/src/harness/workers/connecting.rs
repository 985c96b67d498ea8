//! The handshakes of one [`Order::Connect`](super::orders::Order::Connect), in a client process.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::orders::Connected;
use crate::harness::error::BenchError;
use crate::harness::handshake::Handshakes;
use crate::harness::server::ServerUnderTest;
use crate::harness::viewer;
use crate::harness::viewer_stream::ViewerStream;

/// Some viewers, from the first packet of the first to the last one's admission.
pub(super) struct Connecting {
    handshakes: Handshakes,
    /// Numbers of viewers whose first handshake has not begun.
    viewers: Range<usize>,
    /// Rooms among which they are spread.
    rooms: Range<usize>,
    /// Most handshakes in progress at once.
    width: usize,
    /// Viewers that were refused, and when they try again; in order of time.
    again: VecDeque<(Instant, usize)>,
    /// Failed handshakes of each viewer that had any.
    tries: HashMap<usize, u32>,
    outcome: Connected,
}

impl Connecting {
    pub(super) fn new(
        server: &ServerUnderTest,
        viewers: Range<usize>,
        rooms: Range<usize>,
        width: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            handshakes: Handshakes::new(server.messaging, server.tls.clone())?,
            viewers,
            rooms,
            width,
            again: VecDeque::new(),
            tries: HashMap::new(),
            outcome: Connected::default(),
        })
    }

    /// Begins as many handshakes as the width allows, waits a moment, and passes open connections
    /// to `opened`. Returns the outcome when all viewers are connected or given up.
    pub(super) fn turn(
        &mut self,
        server: &ServerUnderTest,
        mut opened: impl FnMut(ViewerStream),
    ) -> Result<Option<Connected>, BenchError> {
        while self.handshakes.pending() < self.width {
            let Some(viewer) = self.next() else { break };
            let room = self.rooms.start + viewer % self.rooms.len();
            let token = server.uproar()?.token(room, &viewer::name(viewer))?;
            let request = self.handshakes.request("/", Some(&token));
            if let Err(error) = self.handshakes.begin(socket_index(viewer), request) {
                self.failed(viewer, &error);
                break;
            }
        }
        let mut failed = Vec::new();
        self.handshakes.turn(TURN, |ended| match ended.outcome {
            Ok(stream) => opened(stream),
            Err(error) => failed.push((viewer_of(ended.index), error)),
        })?;
        for (viewer, error) in failed {
            self.failed(viewer, &error);
        }
        self.outcome.gave_up = self.outcome.failed > FAILED_MAX;
        let over =
            self.viewers.is_empty() && self.again.is_empty() && self.handshakes.pending() == 0;
        Ok((over || self.outcome.gave_up).then(|| std::mem::take(&mut self.outcome)))
    }

    fn next(&mut self) -> Option<usize> {
        let due = |(at, _): &mut (Instant, usize)| *at <= Instant::now();
        let again = self.again.pop_front_if(due).map(|(_, viewer)| viewer);
        again.or_else(|| self.viewers.next())
    }

    fn failed(&mut self, viewer: usize, error: &io::Error) {
        let why = || error.to_string();
        self.outcome.first_refusal.get_or_insert_with(why);
        let tries = self.tries.entry(viewer).or_default();
        *tries += 1;
        if *tries < TRIES_MAX {
            self.outcome.again += 1;
            self.again.push_back((Instant::now() + RETRY, viewer));
        } else {
            self.outcome.failed += 1;
        }
    }
}

/// Returns the index by which [`viewer`] chooses a source address: half as many viewers share an
/// address here as there. The kernel looks for a free port among every second one of 28,232 first,
/// from a random one on, so with an address nearly full each search takes thousands of looks.
fn socket_index(viewer: usize) -> usize {
    viewer / VIEWERS_PER_ADDRESS * viewer::VIEWERS_PER_ADDRESS + viewer % VIEWERS_PER_ADDRESS
}

/// Returns the viewer of a [`socket_index`].
fn viewer_of(index: usize) -> usize {
    index / viewer::VIEWERS_PER_ADDRESS * VIEWERS_PER_ADDRESS + index % VIEWERS_PER_ADDRESS
}

/// Viewers that share one source address.
const VIEWERS_PER_ADDRESS: usize = viewer::VIEWERS_PER_ADDRESS / 2;
/// Longest wait until a handshake can go on.
const TURN: Duration = Duration::from_millis(10);
/// Before a refused viewer tries again.
const RETRY: Duration = Duration::from_millis(200);
/// Handshakes of one viewer before it is given up.
const TRIES_MAX: u32 = 3;
/// Viewers that are given up before the rest is not tried: the server is full.
const FAILED_MAX: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no two viewers share an index, and no address gets more than its share.
    #[test]
    fn viewers_are_spread_over_addresses() {
        for viewer in [0, 1, 9_999, 10_000, 19_999, 20_000, 999_999] {
            assert_eq!(viewer_of(socket_index(viewer)), viewer);
        }
        assert_eq!(socket_index(9_999) / 20_000, 0);
        assert_eq!(socket_index(10_000) / 20_000, 1);
        assert_eq!(socket_index(999_999) / 20_000, 99);
    }
}
