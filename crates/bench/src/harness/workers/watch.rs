//! The connections that a client process holds: emptied in turn, and kept alive.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::orders::Watched;
use crate::harness::drain::Drain;
use crate::harness::machine::now_nanos;
use crate::harness::tls::stream::Sealed;
use crate::harness::viewer_stream::ViewerStream;
use crate::harness::websocket;

/// A connection that is held.
pub(super) struct Held {
    /// `None`: the server ended the connection.
    pub(super) socket: Option<OwnedFd>,
    /// Bytes that came since the last watch began; over TLS the content of whole records.
    pub(super) bytes: u64,
    /// `None` without TLS.
    sealed: Option<Box<Sealed>>,
}

impl Held {
    /// Takes over a connection that has just been admitted.
    ///
    /// # Errors
    ///
    /// `InvalidData` if bytes behind a TLS handshake are no records.
    pub(super) fn new(stream: ViewerStream) -> io::Result<Self> {
        let (stream, sealed) = stream.sealed()?;
        Ok(Self {
            socket: Some(stream.into()),
            bytes: sealed.as_ref().map_or(0, |sealed| sealed.tally.content),
            sealed,
        })
    }

    /// Drops what waits in the socket; returns its length in bytes.
    pub(super) fn empty(&mut self, drain: &mut Drain) -> u64 {
        let Some(socket) = &self.socket else {
            return 0;
        };
        let drained = match &mut self.sealed {
            None => drain.empty(socket),
            Some(sealed) => drain.count(socket, &mut sealed.tally),
        };
        self.bytes += drained.bytes;
        if !drained.is_open {
            self.socket = None;
        }
        drained.bytes
    }
}

/// Passes over the connections, one after another, until all are reached or the measuring process
/// ends them.
pub(super) struct Watch {
    /// A connection that got this many bytes is reached; `None`: none ever is.
    bytes: Option<u64>,
    /// Between the beginnings of two passes.
    every: Duration,
    /// Indexes of connections to empty, in order of joining.
    pending: Vec<u32>,
    watched: Watched,
    pass_begun: Instant,
    /// Since when the watch should end. It ends when nothing comes any more.
    ending: Option<Instant>,
}

impl Watch {
    pub(super) fn new(connections: usize, bytes: Option<u64>, every: Duration) -> Self {
        let count = u32::try_from(connections).expect("below the descriptor limit");
        Self {
            bytes,
            every,
            pending: (0..count).collect(),
            watched: Watched::default(),
            pass_begun: Instant::now(),
            ending: None,
        }
    }

    /// Has the watch end soon.
    pub(super) fn end(&mut self) {
        self.ending.get_or_insert_with(Instant::now);
    }

    /// Returns the time until the next pass is due.
    pub(super) fn until_next(&self) -> Duration {
        self.every.saturating_sub(self.pass_begun.elapsed())
    }

    /// Empties each pending connection once. Returns the result if the watch is over.
    pub(super) fn pass(&mut self, held: &mut [Held], drain: &mut Drain) -> Option<Watched> {
        let quiet = self.empty_pending(held, drain) == 0;
        let reached = self.bytes.is_some() && self.pending.is_empty();
        let ended = self
            .ending
            .is_some_and(|since| quiet || self.bytes.is_some() || since.elapsed() > ENDING_MAX);
        if !reached && !ended {
            return None;
        }
        let mut watched = std::mem::take(&mut self.watched);
        watched.bytes = held.iter().map(|each| each.bytes).sum();
        watched.gone = held.iter().filter(|each| each.socket.is_none()).count() as u64;
        Some(watched)
    }

    /// Returns the bytes that came.
    fn empty_pending(&mut self, held: &mut [Held], drain: &mut Drain) -> u64 {
        let begun = Instant::now();
        let since_last = begun.duration_since(self.pass_begun).as_micros() as u64;
        self.watched.pass_micros_max = self.watched.pass_micros_max.max(since_last);
        self.pass_begun = begun;
        let mut came = 0;
        let mut left = Vec::with_capacity(self.pending.len());
        // The clock is read once for 64 connections, which take about a tenth of a millisecond.
        for some in self.pending.chunks(64) {
            let mut reached = 0;
            for index in some {
                let each = &mut held[*index as usize];
                came += each.empty(drain);
                if self.bytes.is_some_and(|bytes| each.bytes >= bytes) {
                    reached += 1;
                } else if each.socket.is_some() {
                    left.push(*index);
                }
            }
            if reached > 0 {
                self.watched.reached.push((now_nanos(), reached));
            }
        }
        self.pending = left;
        came
    }
}

/// Pongs that the server did not ask for: each connection's at its time, evenly spread.
pub(super) struct Pongs {
    frame: Vec<u8>,
    /// The connection that sent the last pong.
    last: usize,
    /// Pongs that are due; a fraction is left over from the last turn.
    due: f64,
    turned: Instant,
}

impl Pongs {
    pub(super) fn new() -> Self {
        Self {
            frame: websocket::pong(),
            last: 0,
            due: 0.0,
            turned: Instant::now(),
        }
    }

    /// Sends the pongs that are due.
    pub(super) fn turn(&mut self, held: &mut [Held]) {
        let passed = self.turned.elapsed().as_secs_f64();
        self.turned = Instant::now();
        let count = held.len() as f64;
        // If this is late by more than a round, one round is enough.
        self.due = (self.due + passed / PONG_EVERY.as_secs_f64() * count).min(count);
        while self.due >= 1.0 {
            self.due -= 1.0;
            self.last = (self.last + 1) % held.len();
            let each = &mut held[self.last];
            let Some(socket) = &each.socket else {
                continue;
            };
            let sealed = each.sealed.as_mut().map(|sealed| sealed.seal(&self.frame));
            let frame = sealed.as_ref().unwrap_or(&self.frame);
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(socket, frame, flags) {
                // The server does not read from a full socket: it will end the connection, which is
                // seen then.
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => each.socket = None,
            }
        }
    }
}

/// Between two pongs of a connection: below the server's ping interval, with time to be late.
const PONG_EVERY: Duration = Duration::from_secs(22);
/// Longest wait, at the end of a watch, until nothing comes any more.
const ENDING_MAX: Duration = Duration::from_secs(5);
