//! Both directions of a non-blocking viewer: frames taken out of what came, bytes kept until they went.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::viewer::{self, PONG};

/// One data frame that came.
pub(super) struct Frame<'a> {
    /// The clock after the read that completed it.
    pub now: u64,
    /// Its length on the wire, header included.
    pub bytes: u64,
    /// Whether what it carries is compressed.
    pub deflated: bool,
    /// What it carries.
    pub payload: &'a [u8],
}

/// The receiving half of a viewer, which also owns the socket.
#[derive(Debug)]
pub struct Inbox {
    /// The socket, non-blocking.
    pub stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
    pinged: bool,
}

impl Inbox {
    /// From a connection that has just shaken hands; `bytes` holds the longest frame.
    pub(super) fn new(stream: TcpStream, bytes: usize) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; bytes],
            filled: 0,
            pinged: false,
        })
    }

    /// Reads what is there and hands on each whole data frame; `clock` is read after each read.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the server closed the connection; the kernel's.
    pub(super) fn read(
        &mut self,
        clock: impl Fn() -> u64,
        mut each: impl FnMut(Frame<'_>),
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

    fn take_frames(&mut self, now: u64, each: &mut impl FnMut(Frame<'_>)) -> io::Result<()> {
        let mut start = 0;
        while let Some((opcode, head, len)) = header(&self.buffer[start..self.filled]) {
            let end = start + head + len;
            if end > self.filled {
                break;
            }
            match opcode {
                8 => return Err(io::ErrorKind::UnexpectedEof.into()),
                9 => self.pinged = true,
                _ => each(Frame {
                    now,
                    bytes: (head + len) as u64,
                    deflated: self.buffer[start] & RSV1 != 0,
                    payload: &self.buffer[start + head..end],
                }),
            }
            start = end;
        }
        self.buffer.copy_within(start..self.filled, 0);
        self.filled -= start;
        Ok(())
    }

    /// Whether a ping waits for its pong; then forgotten.
    pub(super) fn take_ping(&mut self) -> bool {
        std::mem::take(&mut self.pinged)
    }
}

/// RFC 7692 §6.
const RSV1: u8 = 0x40;

/// Opcode, length of the header, length of the payload of an unmasked frame.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let opcode = bytes.first()? & 0x0F;
    match *bytes.get(1)? {
        126 => {
            let len = bytes.get(2..4)?.try_into().expect("two bytes");
            Some((opcode, 4, usize::from(u16::from_be_bytes(len))))
        }
        127 => {
            let len = bytes.get(2..10)?.try_into().expect("eight bytes");
            Some((opcode, 10, usize::try_from(u64::from_be_bytes(len)).ok()?))
        }
        len => Some((opcode, 2, usize::from(len))),
    }
}

/// Frames on their way to the server, whole ones behind half a one.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Outbox {
    /// Appends a frame.
    pub(super) fn push(&mut self, opcode: u8, payload: &[u8]) {
        viewer::frame(&mut self.bytes, opcode, payload);
    }

    /// Appends the answer to a ping.
    pub(super) fn pong(&mut self) {
        self.push(PONG, b"");
    }

    /// Writes as much as the kernel takes.
    pub(super) fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
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
