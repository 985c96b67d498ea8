//! A viewer's connection of which the measuring process does both directions itself: what comes is read, what is due is sent.

use std::io;

use super::client_protocol::ClientProtocol;
use super::error::BenchError;
use super::stream::{DataFrame, Inbox, Outbox};
use super::viewer_stream::ViewerStream;

/// One connection.
pub(crate) struct Caller {
    /// What comes.
    pub(crate) inbox: Inbox,
    out: Outbox,
}

impl Caller {
    /// Takes over a connection that has just been admitted. `bytes` is the length of the longest frame.
    pub(crate) fn new(stream: impl Into<ViewerStream>, bytes: usize) -> io::Result<Self> {
        Ok(Self {
            inbox: Inbox::new(stream, ClientProtocol::Chat, bytes)?,
            out: Outbox::new(ClientProtocol::Chat),
        })
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, text: &str) -> Result<(), BenchError> {
        self.out.send(0, text);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        let written = self.out.flush(&mut self.inbox.stream);
        written.map_err(BenchError::lost)
    }

    /// Reads what came and passes each data frame to `each`; `clock` is read after each read.
    pub(crate) fn receive(
        &mut self,
        clock: impl Fn() -> u64,
        each: impl FnMut(DataFrame<'_>),
    ) -> Result<(), BenchError> {
        self.inbox.read(clock, each).map_err(BenchError::lost)?;
        if self.inbox.take_ping() {
            self.out.pong();
        }
        // Also what the kernel did not take before.
        self.flush()
    }
}
