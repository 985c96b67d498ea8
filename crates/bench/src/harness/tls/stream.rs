//! A viewer that opens its records: bytes in and out, as of a socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::keys::{ReadyKey, RecordKey};
use super::opening::Established;
use super::records::{CONTENT_MAX, Tally};

/// What one read takes from the socket, in bytes: some whole records.
const READ_BYTES: usize = 32 * 1024;

/// A connection whose records are opened.
#[derive(Debug)]
pub(crate) struct TlsStream {
    pub(crate) socket: TcpStream,
    sealing: ReadyKey,
    opening: ReadyKey,
    /// Records that came; the last one may not be whole.
    incoming: Vec<u8>,
    /// What they had; the first `read` bytes were read.
    plain: Vec<u8>,
    read: usize,
    /// Records to send; the first `sent` bytes were sent.
    outgoing: Vec<u8>,
    sent: usize,
}

/// A connection whose records are left sealed.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// What came.
    pub(crate) tally: Tally,
    /// Seals the pongs, which is all that such a viewer says.
    sealing: RecordKey,
}

impl TlsStream {
    pub(crate) fn new(socket: TcpStream, established: Established) -> Self {
        Self {
            socket,
            sealing: established.sealing.ready(),
            opening: established.opening.ready(),
            incoming: established.incoming,
            plain: established.plain,
            read: 0,
            outgoing: Vec::new(),
            sent: 0,
        }
    }

    /// Takes what the socket has, at most [`READ_BYTES`].
    fn receive(&mut self) -> io::Result<usize> {
        let start = self.incoming.len();
        self.incoming.resize(start + READ_BYTES, 0);
        let came = self.socket.read(&mut self.incoming[start..]);
        let len = came.as_ref().copied().unwrap_or(0);
        self.incoming.truncate(start + len);
        came
    }

    /// Opens the whole records that came, once those before are read.
    fn open_if_read(&mut self) -> io::Result<()> {
        if self.read < self.plain.len() {
            return Ok(());
        }
        self.plain.clear();
        self.read = 0;
        let opened = self.opening.open(&mut self.incoming, &mut self.plain)?;
        self.incoming.drain(..opened.used);
        if opened.is_closed && self.plain.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Sends records that wait.
    fn push(&mut self) -> io::Result<()> {
        while self.sent < self.outgoing.len() {
            self.sent += self.socket.write(&self.outgoing[self.sent..])?;
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(())
    }
}

impl Read for TlsStream {
    /// Reads less than there is space for only if the socket had no more whole record.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (mut filled, mut is_drained) = (0, false);
        // What came with the handshake is opened before anything is read.
        self.open_if_read()?;
        while filled < buf.len() {
            if self.read < self.plain.len() {
                let there = &self.plain[self.read..];
                let len = there.len().min(buf.len() - filled);
                buf[filled..filled + len].copy_from_slice(&there[..len]);
                self.read += len;
                filled += len;
                continue;
            }
            if is_drained && filled > 0 {
                break;
            }
            match self.receive() {
                Ok(0) if filled == 0 => return Ok(0),
                Err(error) if filled == 0 => return Err(error),
                Ok(0) | Err(_) => break,
                Ok(len) => is_drained = len < READ_BYTES,
            }
            self.open_if_read()?;
        }
        Ok(filled)
    }
}

impl Write for TlsStream {
    /// Takes up to a record. What the kernel does not take at once is sent by the next call, or by
    /// [`Write::flush`].
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.push()?;
        let len = buf.len().min(CONTENT_MAX);
        self.sealing.seal(&buf[..len], &mut self.outgoing);
        match self.push() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            Ok(()) | Err(_) => Ok(len),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.push()
    }
}

impl Sealed {
    /// Leaves the records of a connection sealed from now on.
    ///
    /// # Errors
    ///
    /// `InvalidData` if bytes behind the handshake are no records.
    pub(crate) fn new(established: Established) -> io::Result<Self> {
        let mut tally = Tally::default();
        tally.content = established.plain.len() as u64;
        tally.take(&established.incoming)?;
        Ok(Self {
            tally,
            sealing: established.sealing,
        })
    }

    /// Returns `frame` as a record. Each must be sent, whole and in order.
    pub(crate) fn seal(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.sealing.seal(frame, &mut out);
        out
    }
}
