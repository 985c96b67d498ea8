//! Both directions of a viewer's non-blocking connection: frames in, bytes out.

use std::io::{self, Read, Write};

use super::client_protocol::ClientProtocol;
use super::frame::Kind;
use super::viewer_stream::ViewerStream;

/// A data frame that came.
pub(crate) struct DataFrame<'a> {
    /// The clock after the read that completed the frame.
    pub(crate) now: u64,
    /// Length on the wire, header included, in bytes.
    pub(crate) bytes: u64,
    /// Whether the payload is compressed.
    pub(crate) deflated: bool,
    pub(crate) payload: &'a [u8],
}

/// The receiving direction, which also owns the socket.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// The connection, non-blocking.
    pub(crate) stream: ViewerStream,
    protocol: ClientProtocol,
    /// Space for the longest frame. The first `filled` bytes are the beginning of a frame.
    buffer: Vec<u8>,
    filled: usize,
    /// Whether a ping waits for its pong.
    pinged: bool,
}

impl Inbox {
    /// Takes over a connection that has just been admitted. `bytes` is the length of the longest
    /// frame.
    pub(crate) fn new(
        stream: impl Into<ViewerStream>,
        protocol: ClientProtocol,
        bytes: usize,
    ) -> io::Result<Self> {
        let stream = stream.into().opened();
        stream.socket().set_nonblocking(true)?;
        Ok(Self {
            stream,
            protocol,
            buffer: vec![0; bytes],
            filled: 0,
            pinged: false,
        })
    }

    /// Reads until the socket is empty and passes each whole data frame to `each`. `clock` is read
    /// after each read from the socket.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the server closed the connection; the kernel's.
    pub(crate) fn read(
        &mut self,
        clock: impl Fn() -> u64,
        mut each: impl FnMut(DataFrame<'_>),
    ) -> io::Result<()> {
        loop {
            let spare = &mut self.buffer[self.filled..];
            let len = match self.stream.read(spare) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let was_full = len == spare.len();
            self.filled += len;
            self.take_frames(clock(), &mut each)?;
            if !was_full {
                return Ok(());
            }
        }
    }

    fn take_frames(&mut self, now: u64, each: &mut impl FnMut(DataFrame<'_>)) -> io::Result<()> {
        let mut start = 0;
        while let Some(frame) = self.protocol.first(&self.buffer[start..self.filled])? {
            match frame.kind {
                Kind::Close => return Err(io::ErrorKind::UnexpectedEof.into()),
                Kind::Ping => self.pinged = true,
                Kind::Other => {}
                Kind::Data => each(DataFrame {
                    now,
                    bytes: frame.end as u64,
                    deflated: frame.deflated,
                    payload: &self.buffer[start..][frame.payload],
                }),
            }
            start += frame.end;
        }
        debug_assert!(start <= self.filled, "a frame ends within what came");
        self.buffer.copy_within(start..self.filled, 0);
        self.filled -= start;
        Ok(())
    }

    /// Returns whether a ping waits for its pong, and forgets it.
    pub(crate) fn take_ping(&mut self) -> bool {
        std::mem::take(&mut self.pinged)
    }

    /// Answers a ping on a connection that sends nothing else.
    pub(crate) fn answer_ping(&mut self) -> io::Result<()> {
        if self.take_ping() {
            self.stream.write_all(&self.protocol.pong())?;
        }
        Ok(())
    }
}

/// The sending direction: whole messages behind the rest of one that the kernel took in part.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    protocol: ClientProtocol,
    /// Bytes to send; the first `start` of them were sent.
    bytes: Vec<u8>,
    start: usize,
}

impl Outbox {
    pub(crate) fn new(protocol: ClientProtocol) -> Self {
        Self {
            protocol,
            ..Self::default()
        }
    }

    /// Appends the bytes that send `text` to room number `room`.
    pub(crate) fn send(&mut self, room: usize, text: &str) {
        self.protocol.send(&mut self.bytes, room, text);
    }

    /// Appends the answer to a ping.
    pub(crate) fn pong(&mut self) {
        self.bytes.extend(self.protocol.pong());
    }

    /// Writes what the kernel takes.
    pub(crate) fn flush(&mut self, stream: &mut ViewerStream) -> io::Result<()> {
        // What was sealed before and not taken.
        match stream.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            flushed => flushed?,
        }
        while self.start < self.bytes.len() {
            match stream.write(&self.bytes[self.start..]) {
                Ok(len) => self.start += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.start = 0;
        Ok(())
    }
}
