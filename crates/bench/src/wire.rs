//! Both directions of a non-blocking viewer: frames taken out of what came, bytes kept until they went.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;

use super::dialect::Dialect;
use super::viewer;

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
    /// What comes in.
    pub(super) dialect: Dialect,
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
            dialect: Dialect::default(),
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
        while let Some(piece) = self.dialect.first(&self.buffer[start..self.filled])? {
            match piece.kind {
                Kind::Close => return Err(io::ErrorKind::UnexpectedEof.into()),
                Kind::Ping => self.pinged = true,
                Kind::Other => {}
                Kind::Data => each(Frame {
                    now,
                    bytes: piece.end as u64,
                    deflated: piece.deflated,
                    payload: &self.buffer[start..][piece.payload],
                }),
            }
            start += piece.end;
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

/// One whole piece of what a server sends.
#[derive(Debug)]
pub(super) struct Piece {
    /// What it is for.
    pub kind: Kind,
    /// Its content is compressed (RFC 7692).
    pub deflated: bool,
    /// Where its content is.
    pub payload: Range<usize>,
    /// Where the next piece begins.
    pub end: usize,
}

/// What a piece is for.
#[derive(Debug)]
pub(super) enum Kind {
    /// A message, or an answer.
    Data,
    /// Wants a pong.
    Ping,
    /// Ends the connection.
    Close,
    /// Nothing to us.
    Other,
}

/// The first whole frame.
pub(super) fn first(bytes: &[u8]) -> Option<Piece> {
    let (opcode, head, len) = header(bytes)?;
    let end = head + len;
    let kind = match opcode {
        8 => Kind::Close,
        9 => Kind::Ping,
        _ => Kind::Data,
    };
    (end <= bytes.len()).then_some(Piece {
        kind,
        deflated: bytes[0] & RSV1 != 0,
        payload: head..end,
        end,
    })
}

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
    dialect: Dialect,
}

impl Outbox {
    /// For a server of that dialect.
    pub(super) fn speaking(dialect: Dialect) -> Self {
        Self {
            dialect,
            ..Self::default()
        }
    }

    /// Appends what says `text` in room number `room`.
    pub(super) fn say(&mut self, room: usize, text: &str) {
        self.dialect.say(&mut self.bytes, room, text);
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, opcode: u8, payload: &[u8]) {
        viewer::frame(&mut self.bytes, opcode, payload);
    }

    /// Appends the answer to a ping.
    pub(super) fn pong(&mut self) {
        self.dialect.pong(&mut self.bytes);
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
