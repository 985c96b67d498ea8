//! Connections on their way in, for one client process.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use super::speech::Connected;
use crate::BenchError;
use crate::handshake::Handshakes;
use crate::host::Host;
use crate::viewer;

/// Some viewers, from the first packet of the first to the last.
pub(super) struct Connecting {
    handshakes: Handshakes,
    viewers: Range<usize>,
    rooms: Range<usize>,
    width: usize,
    again: VecDeque<(Instant, usize)>,
    // Only of those that failed at least once.
    tries: HashMap<usize, u32>,
    outcome: Connected,
}

impl Connecting {
    pub(super) fn new(
        messaging: SocketAddr,
        viewers: Range<usize>,
        rooms: Range<usize>,
        width: usize,
    ) -> io::Result<Self> {
        Ok(Self {
            handshakes: Handshakes::new(messaging)?,
            viewers,
            rooms,
            width,
            again: VecDeque::new(),
            tries: HashMap::new(),
            outcome: Connected::default(),
        })
    }

    /// Begins what the width allows and waits a moment; hands on what came to stand. How it went, when
    /// it is over.
    pub(super) fn turn(
        &mut self,
        host: &Host,
        mut stands: impl FnMut(TcpStream),
    ) -> Result<Option<Connected>, BenchError> {
        while self.handshakes.under_way() < self.width {
            let Some(viewer) = self.next() else { break };
            let room = self.rooms.start + viewer % self.rooms.len();
            let token = host.token(room, &viewer::name(viewer))?;
            let request = self.handshakes.request("/", Some(&token));
            if let Err(error) = self.handshakes.begin(socket_index(viewer), request) {
                self.failed(viewer, &error);
                break;
            }
        }
        let mut failed = Vec::new();
        self.handshakes.turn(TURN, |ended| match ended.outcome {
            Ok(stream) => stands(stream),
            Err(error) => failed.push((viewer_of(ended.index), error)),
        })?;
        for (viewer, error) in failed {
            self.failed(viewer, &error);
        }
        if self.outcome.failed > FAILED_MAX {
            self.outcome.gave_up = true;
            return Ok(Some(std::mem::take(&mut self.outcome)));
        }
        let over =
            self.viewers.is_empty() && self.again.is_empty() && self.handshakes.under_way() == 0;
        Ok(over.then(|| std::mem::take(&mut self.outcome)))
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

/// [`viewer`] gives 20,000 indices one source address. The kernel looks for a free port among every
/// second one of 28,232 first, from a random one on: nearly full, each search is thousands of looks.
/// So half as many viewers share an address here.
fn socket_index(viewer: usize) -> usize {
    viewer / VIEWERS_PER_ADDRESS * 2 * VIEWERS_PER_ADDRESS + viewer % VIEWERS_PER_ADDRESS
}

fn viewer_of(index: usize) -> usize {
    index / (2 * VIEWERS_PER_ADDRESS) * VIEWERS_PER_ADDRESS + index % VIEWERS_PER_ADDRESS
}

const VIEWERS_PER_ADDRESS: usize = 10_000;
/// Longest wait for something to happen.
const TURN: Duration = Duration::from_millis(10);
/// Before a viewer that was refused tries again.
const RETRY: Duration = Duration::from_millis(200);
/// Handshakes of one viewer before it is given up.
const TRIES_MAX: u32 = 3;
/// Viewers given up before the rest is: the server is full.
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
