//! A viewer's connection once it is admitted: a socket, or TLS over one.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use super::tls::opening::Established;
use super::tls::stream::{Sealed, TlsStream};

/// A viewer's connection.
#[derive(Debug)]
pub(crate) enum ViewerStream {
    Plain(TcpStream),
    /// Its handshake is over, and nothing was opened since.
    Tls(TcpStream, Box<Established>),
    /// The viewer opens its records.
    Opened(Box<TlsStream>),
}

impl ViewerStream {
    /// Returns the socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) | Self::Tls(socket, _) => socket,
            Self::Opened(stream) => &stream.socket,
        }
    }

    /// Makes the connection one that is read from and written to.
    pub(crate) fn opened(self) -> Self {
        match self {
            Self::Tls(socket, established) => {
                Self::Opened(Box::new(TlsStream::new(socket, *established)))
            }
            other @ (Self::Plain(_) | Self::Opened(_)) => other,
        }
    }

    /// Takes the connection apart for a viewer that only counts what comes: the socket, and with
    /// TLS what counts records.
    ///
    /// # Errors
    ///
    /// `InvalidData` if bytes behind the handshake are no records.
    pub(crate) fn sealed(self) -> io::Result<(TcpStream, Option<Box<Sealed>>)> {
        match self {
            Self::Plain(socket) => Ok((socket, None)),
            Self::Tls(socket, established) => {
                Ok((socket, Some(Box::new(Sealed::new(*established)?))))
            }
            Self::Opened(_) => Err(io::Error::other("its records were opened")),
        }
    }
}

impl From<TcpStream> for ViewerStream {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }
}

impl AsFd for ViewerStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl Read for ViewerStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Opened(stream) => stream.read(buf),
            Self::Tls(..) => Err(not_opened()),
        }
    }
}

impl Write for ViewerStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            Self::Opened(stream) => stream.write(buf),
            Self::Tls(..) => Err(not_opened()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Opened(stream) => stream.flush(),
            Self::Plain(_) | Self::Tls(..) => Ok(()),
        }
    }
}

fn not_opened() -> io::Error {
    io::Error::other("a viewer that leaves its records sealed was asked for their content")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    use crate::harness::drain::{BulkReceiver, Drain};
    use crate::harness::tls::client::{Kinds, TlsClient};
    use crate::harness::tls::testing::{accept, server_config};
    use crate::harness::viewer::{self, Upgrade};

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    const UPGRADE: Upgrade<'_> = Upgrade {
        path: "/r0",
        token: None,
        compression: false,
    };

    /// Connects to a server that answers `answer`, then sends each of `parts` as records of its
    /// own, reads `echo` bytes, and ends.
    fn served(
        client: &TlsClient,
        answer: &'static [u8],
        parts: Vec<Vec<u8>>,
        echo: usize,
    ) -> (io::Result<ViewerStream>, thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let (socket, _) = listener.accept().expect("a client");
            let Ok(mut stream) = accept(socket, &server_config(), answer) else {
                return Vec::new();
            };
            for part in parts {
                stream.write_all(&part).expect("open");
                stream.flush().expect("open");
            }
            let mut heard = vec![0; echo];
            stream.read_exact(&mut heard).expect("open");
            heard
        });
        (viewer::open_tls(address, client, UPGRADE, 0), server)
    }

    fn parts() -> Vec<Vec<u8>> {
        [1, 400, 5000, 16_384, 40_000, 3]
            .map(|len| vec![b'x'; len])
            .into()
    }

    /// Goal: a viewer that leaves records sealed counts exactly the bytes that were sealed, long
    /// records and short ones; its pong is the server's to read.
    #[test]
    fn sealed_bytes_are_counted_without_keys() {
        let client = TlsClient::new(false);
        let (stream, server) = served(&client, ANSWER, parts(), 8);
        let mut receiver = BulkReceiver::new(stream.expect("a server")).expect("records");
        let (mut drain, total) = (Drain::new(), 61_788);
        while receiver.bytes < total {
            receiver.empty(&mut drain);
        }
        assert_eq!(receiver.bytes, total);
        assert_eq!(receiver.records(), (8, total));
        receiver.send(b"ping");
        receiver.send(b"pong");
        assert_eq!(server.join().expect("no panic"), b"pingpong");
        assert!(client.suite().is_some());
        assert_eq!(
            client.kinds(),
            Kinds {
                resumed: 0,
                full: 1
            }
        );
    }

    /// Goal: a viewer that opens its records reads what was sealed, however small its buffer, and
    /// what it writes arrives.
    #[test]
    fn opened_records_have_what_was_sealed() {
        let (stream, server) = served(&TlsClient::new(false), ANSWER, parts(), 20_000);
        let mut stream = stream.expect("a server").opened();
        let mut heard = vec![0; 61_788];
        for part in heard.chunks_mut(777) {
            stream.read_exact(part).expect("open");
        }
        assert!(heard.iter().all(|byte| *byte == b'x'));
        stream.write_all(&vec![b'y'; 20_000]).expect("open");
        stream.flush().expect("open");
        assert_eq!(server.join().expect("no panic"), vec![b'y'; 20_000]);
        // close_notify was not sent: the end of the socket is the end.
        assert!(matches!(stream.read(&mut [0; 9]), Ok(0) | Err(_)));
    }

    /// Goal: a refusal's status is told over TLS, too, and content behind the answer counts.
    #[test]
    fn answers_are_read_to_the_end_of_their_head() {
        let (refused, server) = served(
            &TlsClient::new(false),
            b"HTTP/1.1 429 T\r\n\r\nbusy",
            Vec::new(),
            0,
        );
        let refused = refused.expect_err("refused").to_string();
        assert_eq!(refused, "the server answered HTTP/1.1 429 T");
        server.join().expect("no panic");
        let answer = b"HTTP/1.1 101 S\r\n\r\n\x81\x02hi";
        let (stream, server) = served(&TlsClient::new(false), answer, Vec::new(), 0);
        let receiver = BulkReceiver::new(stream.expect("a server")).expect("records");
        assert_eq!(receiver.bytes, 4);
        server.join().expect("no panic");
    }

    /// Goal: a server that speaks no TLS is an error, not a wait.
    #[test]
    fn a_server_without_tls_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("a client");
            let mut hello = [0; 5];
            socket.read_exact(&mut hello).expect("a hello");
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .expect("open");
        });
        let opened = viewer::open_tls(address, &TlsClient::new(false), UPGRADE, 0);
        assert!(opened.is_err());
        server.join().expect("no panic");
    }
}
