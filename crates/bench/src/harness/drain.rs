//! Receivers whose bytes are counted and dropped without being looked at, as most are.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Empties sockets: `recv` with `MSG_TRUNC` drops the bytes in the kernel and copies none (tcp(7)).
pub(crate) struct Drain {
    /// Its length bounds what one `recv` drops. Nothing is written to it.
    scrap: Vec<u8>,
}

/// What [`Drain::empty`] found in a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Drained {
    /// Bytes that were dropped.
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
}

/// Between the beginnings of two passes over receivers that are not sampled.
pub(crate) const PASS: Duration = Duration::from_millis(5);
/// Most bytes that one `recv` drops.
const RECV_BYTES_MAX: usize = 4 << 20;

/// A receiver that is not sampled.
pub(crate) struct BulkReceiver {
    /// The socket, non-blocking.
    pub(crate) stream: TcpStream,
    /// Bytes dropped so far. A lost connection shows up as missing bytes.
    pub(crate) bytes: u64,
}

impl BulkReceiver {
    /// Takes over a connection that has just been admitted.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, bytes: 0 })
    }

    /// Drops what waits in the socket; returns its length in bytes.
    pub(crate) fn empty(&mut self, drain: &mut Drain) -> u64 {
        let bytes = drain.empty(&self.stream).bytes;
        self.bytes += bytes;
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
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
