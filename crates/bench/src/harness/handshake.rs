//! Many handshakes at once in one thread, on non-blocking sockets.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use slab::Slab;

use super::poll::Poll;
use super::tls::client::TlsClient;
use super::tls::opening::Opening;
use super::viewer::{self, Upgrade};
use super::viewer_stream::ViewerStream;

/// A handshake that is over.
pub(crate) struct Ended {
    /// The viewer's number.
    pub(crate) index: usize,
    /// From the first packet to the end of the server's answer.
    pub(crate) took: Duration,
    /// The connection, or the reason why there is none.
    pub(crate) outcome: io::Result<ViewerStream>,
}

/// A handshake in progress.
struct Pending {
    /// The viewer's number.
    index: usize,
    stream: TcpStream,
    exchange: Exchange,
    begun: Instant,
}

/// What is said on the way.
enum Exchange {
    Plain {
        request: String,
        /// Bytes of the request that were written.
        written: usize,
        /// What came of the answer.
        answer: Vec<u8>,
    },
    Tls(Box<Opening>),
}

/// The handshakes in progress.
pub(crate) struct Handshakes {
    server: SocketAddr,
    /// `None`: the server speaks no TLS.
    tls: Option<TlsClient>,
    poll: Poll,
    /// Its indexes are the keys of `poll`.
    pending: Slab<Pending>,
    /// When overdue handshakes were last looked for.
    swept: Instant,
}

impl Handshakes {
    pub(crate) fn new(server: SocketAddr, tls: Option<TlsClient>) -> io::Result<Self> {
        Ok(Self {
            server,
            tls,
            poll: Poll::new()?,
            pending: Slab::new(),
            swept: Instant::now(),
        })
    }

    /// Returns how many are in progress.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Returns the request that [`Handshakes::begin`] sends.
    pub(crate) fn request(&self, path: &str, token: Option<&str>) -> String {
        let upgrade = Upgrade {
            path,
            token,
            compression: false,
        };
        upgrade.request(self.server)
    }

    /// Begins the handshake of viewer number `index`.
    pub(crate) fn begin(&mut self, index: usize, request: String) -> io::Result<()> {
        let begun = Instant::now();
        let exchange = match &self.tls {
            None => Exchange::Plain {
                request,
                written: 0,
                answer: Vec::new(),
            },
            Some(client) => {
                let opening = Opening::new(client, &request, viewer::ANSWER_BYTES_MAX)?;
                Exchange::Tls(Box::new(opening))
            }
        };
        let stream = viewer::begin(self.server, index)?;
        let entry = self.pending.vacant_entry();
        self.poll.add_edges(&stream, entry.key())?;
        entry.insert(Pending {
            index,
            stream,
            exchange,
            begun,
        });
        Ok(())
    }

    /// Waits at most for `wait` until a handshake can go on, and reports each that ends to `ended`.
    pub(crate) fn turn(&mut self, wait: Duration, mut ended: impl FnMut(Ended)) -> io::Result<()> {
        for key in self.poll.wait::<EVENTS>(wait)? {
            let Some(pending) = self.pending.get_mut(key) else {
                continue;
            };
            match pending.step() {
                Ok(Step::Blocked) => {}
                Ok(Step::Accepted) => ended(self.end(key, Ok(()))?),
                Err(error) => ended(self.end(key, Err(error))?),
            }
        }
        if self.swept.elapsed() > SWEEP {
            self.swept = Instant::now();
            let all = self.pending.iter();
            let overdue = all.filter(|(_, pending)| pending.begun.elapsed() > PATIENCE);
            for key in overdue.map(|(key, _)| key).collect::<Vec<_>>() {
                ended(self.end(key, Err(io::ErrorKind::TimedOut.into()))?);
            }
        }
        Ok(())
    }

    fn end(&mut self, key: usize, outcome: io::Result<()>) -> io::Result<Ended> {
        let pending = self.pending.remove(key);
        self.poll.remove(&pending.stream)?;
        Ok(Ended {
            index: pending.index,
            took: pending.begun.elapsed(),
            outcome: outcome.and_then(|()| pending.finish()),
        })
    }
}

/// How far a handshake came.
enum Step {
    /// The kernel has nothing more at the moment.
    Blocked,
    /// The server accepted the connection.
    Accepted,
}

impl Pending {
    /// Writes and reads until the kernel has nothing more.
    fn step(&mut self) -> io::Result<Step> {
        let Exchange::Plain {
            request,
            written,
            answer,
        } = &mut self.exchange
        else {
            return self.step_tls();
        };
        while *written < request.len() {
            match self.stream.write(&request.as_bytes()[*written..]) {
                Ok(len) => *written += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Step::Blocked);
                }
                Err(error) => return Err(error),
            }
        }
        loop {
            let mut part = [0; 1024];
            match self.stream.read(&mut part) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => answer.extend_from_slice(&part[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Step::Blocked);
                }
                Err(error) => return Err(error),
            }
            // The server sends nothing before the viewer does: only a refusal has bytes behind its
            // head.
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = head {
                return viewer::accepted(&answer[..end]).map(|()| Step::Accepted);
            }
            if answer.len() > viewer::ANSWER_BYTES_MAX {
                return Err(io::Error::other("the answer to the upgrade is too long"));
            }
        }
    }

    fn step_tls(&mut self) -> io::Result<Step> {
        let Exchange::Tls(opening) = &mut self.exchange else {
            return Ok(Step::Blocked);
        };
        let is_answered = opening.step(&mut self.stream)?;
        Ok(if is_answered {
            Step::Accepted
        } else {
            Step::Blocked
        })
    }

    /// Returns the connection of a server that answered.
    fn finish(self) -> io::Result<ViewerStream> {
        match self.exchange {
            Exchange::Plain { .. } => Ok(self.stream.into()),
            Exchange::Tls(opening) => {
                let established = opening.finish()?;
                viewer::accepted(&established.answer)?;
                Ok(ViewerStream::Tls(self.stream, Box::new(established)))
            }
        }
    }
}

/// Handshakes that one turn continues.
const EVENTS: usize = 32;
/// Longest handshake: a lost SYN is repeated after 1, 3, 7 and 15 seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks for handshakes that take too long.
const SWEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Goal: a handshake ends with a connection, a refusal's status or the server's silence, and
    /// each is reported once. Method: a listener that treats three handshakes in three ways.
    #[test]
    fn each_handshake_ends_once() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut handshakes =
            Handshakes::new(listener.local_addr().expect("bound"), None).expect("epoll");
        for index in 0..3 {
            let request = handshakes.request("/r7", Some("token"));
            handshakes.begin(index, request).expect("listening");
        }
        assert_eq!(handshakes.pending(), 3);
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 101 S\r\n\r\n", "HTTP/1.1 429 T\r\n\r\n", ""] {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a request");
                    request.extend(byte);
                }
                let request = String::from_utf8(request).expect("a head");
                assert!(request.starts_with("GET /r7 HTTP/1.1\r\n"));
                assert!(request.contains("Sec-WebSocket-Protocol: token\r\n"));
                // Cut where a reader must wait for the rest.
                let (first, rest) = answer.split_at(answer.len() / 2);
                stream.write_all(first.as_bytes()).expect("open");
                stream.write_all(rest.as_bytes()).expect("open");
            }
        });
        let mut ends = vec![Vec::new(); 3];
        let begun = Instant::now();
        while handshakes.pending() > 0 && begun.elapsed() < PATIENCE {
            let turn = handshakes.turn(Duration::from_millis(10), |ended| {
                let outcome = ended
                    .outcome
                    .map_or_else(|error| error.to_string(), |_| "open".into());
                ends[ended.index].push(outcome);
            });
            turn.expect("epoll");
        }
        server.join().expect("no assertion failed");
        assert_eq!(ends[0], ["open"]);
        assert_eq!(ends[1], ["the server answered HTTP/1.1 429 T"]);
        assert_eq!(ends[2].len(), 1, "{:?}", ends[2]);
        assert_ne!(ends[2], ["open"]);
    }
}
