//! Receivers whose bytes are counted and dropped without being looked at, as most are. Over TLS
//! their records are counted and left sealed.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::tls::records::Tally;
use super::tls::stream::Sealed;
use super::viewer_stream::ViewerStream;

/// Empties sockets: `recv` with `MSG_TRUNC` drops the bytes in the kernel and copies none (tcp(7)).
pub(crate) struct Drain {
    /// Its length bounds what one `recv` drops. Nothing is written to it.
    scrap: Vec<u8>,
}

/// What [`Drain::empty`] found in a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Bytes that were dropped; over TLS the content of records that became whole.
    pub(crate) bytes: u64,
    /// Whether the connection still stands.
    pub(crate) is_open: bool,
}

impl Drain {
    pub(crate) fn new() -> Self {
        Self {
            scrap: vec![0; RECV_BYTES_MAX],
        }
    }

    /// Drops what waits in a socket. Does not block.
    pub(crate) fn empty(&mut self, socket: impl AsFd) -> Drained {
        let mut bytes = 0;
        loop {
            let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
            let is_open = match recv(&socket, &mut self.scrap[..], flags) {
                Ok((_, len)) if len > 0 => {
                    bytes += len as u64;
                    if len == self.scrap.len() {
                        continue;
                    }
                    true
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => true,
                Ok(_) | Err(_) => false,
            };
            return Drained { bytes, is_open };
        }
    }

    /// Does the same over TLS: counts the records in `tally`. Headers are read, with what lies
    /// between them where records are short; the rest of a long record is dropped in the kernel.
    pub(crate) fn count(&mut self, socket: impl AsFd, tally: &mut Tally) -> Drained {
        let before = tally.content;
        let mut look = LOOK_BYTES;
        let is_open = loop {
            let left = tally.body_left();
            let is_dropped = left >= DROP_BYTES_MIN;
            let (flags, most) = if is_dropped {
                (RecvFlags::TRUNC | RecvFlags::DONTWAIT, left)
            } else {
                (RecvFlags::DONTWAIT, look)
            };
            let len = match recv(&socket, &mut self.scrap[..most], flags) {
                Ok((_, len)) if len > 0 => len,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break true,
                Ok(_) | Err(_) => break false,
            };
            if is_dropped {
                tally.skip(len);
            } else if tally.take(&self.scrap[..len]).is_err() {
                break false;
            } else if tally.body_left() < DROP_BYTES_MIN {
                // Short records: more of them in the next look.
                look = LOOK_BYTES_MAX;
            }
            if len < most {
                break true;
            }
        };
        let bytes = tally.content - before;
        Drained { bytes, is_open }
    }
}

/// What a look for the next header reads, in bytes: it has a short record wholly.
const LOOK_BYTES: usize = 1024;
/// The same once records proved short.
const LOOK_BYTES_MAX: usize = 64 << 10;
/// Fewest bytes of a record that are dropped: a system call of its own costs less than copying more.
const DROP_BYTES_MIN: usize = 4096;

/// Between the beginnings of two passes over receivers that are not sampled.
pub(crate) const PASS: Duration = Duration::from_millis(5);
/// Most bytes that one `recv` drops.
const RECV_BYTES_MAX: usize = 4 << 20;

/// A receiver that is not sampled.
pub(crate) struct BulkReceiver {
    /// The socket, non-blocking.
    pub(crate) stream: TcpStream,
    /// Bytes dropped so far, over TLS the content of whole records. A lost connection shows up as
    /// missing bytes.
    pub(crate) bytes: u64,
    /// `None` without TLS.
    sealed: Option<Box<Sealed>>,
}

impl BulkReceiver {
    /// Takes over a connection that has just been admitted.
    pub(crate) fn new(stream: impl Into<ViewerStream>) -> io::Result<Self> {
        let (stream, sealed) = stream.into().sealed()?;
        stream.set_nonblocking(true)?;
        let bytes = sealed.as_ref().map_or(0, |sealed| sealed.tally.content);
        Ok(Self {
            stream,
            bytes,
            sealed,
        })
    }

    /// Drops what waits in the socket; returns its length in bytes.
    pub(crate) fn empty(&mut self, drain: &mut Drain) -> u64 {
        let bytes = match &mut self.sealed {
            None => drain.empty(&self.stream).bytes,
            Some(sealed) => drain.count(&self.stream, &mut sealed.tally).bytes,
        };
        self.bytes += bytes;
        bytes
    }

    /// Sends a frame. Whether the connection still stands is seen by what comes.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        let _seen_later = match &mut self.sealed {
            None => self.stream.write_all(frame),
            Some(sealed) => self.stream.write_all(&sealed.seal(frame)),
        };
    }

    /// Returns the records that came so far, and their content in bytes; nothing without TLS.
    pub(crate) fn records(&self) -> (u64, u64) {
        let tally = self.sealed.as_ref().map(|sealed| &sealed.tally);
        tally.map_or((0, 0), |tally| (tally.records, tally.content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Goal: bytes are counted once, an empty socket is open, and one that the server closed is
    /// not.
    #[test]
    fn bytes_are_counted_and_the_end_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
        let (mut server, _) = listener.accept().expect("just connected");
        let mut drain = Drain::new();
        let mut drained = |bytes, is_open| {
            assert_eq!(drain.empty(&client), Drained { bytes, is_open });
        };
        drained(0, true);
        server.write_all(&[0; 1000]).expect("loopback");
        // Loopback hands bytes over within the write.
        drained(1000, true);
        drained(0, true);
        drop(server);
        drained(0, false);
    }
}
