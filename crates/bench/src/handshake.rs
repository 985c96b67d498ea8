//! Many handshakes under way at once in one thread: non-blocking sockets over one epoll set.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use slab::Slab;

use super::viewer::{self, Ask};

/// A handshake that is over.
pub(super) struct Ended {
    /// Which viewer.
    pub index: usize,
    /// From the first packet to the end of the server's answer.
    pub took: Duration,
    /// The connection, or why there is none.
    pub outcome: io::Result<TcpStream>,
}

struct Pending {
    index: usize,
    stream: TcpStream,
    request: String,
    written: usize,
    answer: Vec<u8>,
    begun: Instant,
}

/// The handshakes under way.
pub(super) struct Handshakes {
    server: SocketAddr,
    epoll: OwnedFd,
    pending: Slab<Pending>,
    swept: Instant,
}

impl Handshakes {
    pub(super) fn new(server: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            server,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            pending: Slab::new(),
            swept: Instant::now(),
        })
    }

    pub(super) fn under_way(&self) -> usize {
        self.pending.len()
    }

    /// What [`Handshakes::begin`] sends for `path`, with a token if there are tokens.
    pub(super) fn request(&self, path: &str, token: Option<&str>) -> String {
        let ask = Ask {
            path,
            token,
            compression: false,
        };
        ask.request(self.server)
    }

    /// Begins one.
    pub(super) fn begin(&mut self, index: usize, request: String) -> io::Result<()> {
        let begun = Instant::now();
        let stream = viewer::begin(self.server, index)?;
        let entry = self.pending.vacant_entry();
        // Edge-triggered: one registration serves connecting, writing and reading.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(entry.key() as u64);
        epoll::add(&self.epoll, &stream, data, flags)?;
        entry.insert(Pending {
            index,
            stream,
            request,
            written: 0,
            answer: Vec::new(),
            begun,
        });
        Ok(())
    }

    /// Waits at most `wait` (below a second) for something to happen; `ended` hears of each end.
    pub(super) fn turn(&mut self, wait: Duration, mut ended: impl FnMut(Ended)) -> io::Result<()> {
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let mut events = [const { std::mem::MaybeUninit::uninit() }; EVENTS];
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&wait)) {
            Ok((ready, _)) => &*ready,
            Err(rustix::io::Errno::INTR) => &[],
            Err(error) => return Err(error.into()),
        };
        for event in ready {
            let key = usize::try_from(event.data.u64()).expect("64 bits");
            let Some(pending) = self.pending.get_mut(key) else {
                continue;
            };
            match pending.step() {
                Ok(false) => {}
                Ok(true) => ended(self.end(key, Ok(()))?),
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
        epoll::delete(&self.epoll, &pending.stream)?;
        Ok(Ended {
            index: pending.index,
            took: pending.begun.elapsed(),
            outcome: outcome.map(|()| pending.stream),
        })
    }
}

impl Pending {
    /// Goes on until the kernel has nothing more; whether the connection stands.
    fn step(&mut self) -> io::Result<bool> {
        while self.written < self.request.len() {
            match self.stream.write(&self.request.as_bytes()[self.written..]) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        loop {
            let mut part = [0; 1024];
            match self.stream.read(&mut part) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.answer.extend_from_slice(&part[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            // Nobody speaks before the viewer does: a 101 is all there is, only a refusal has a body.
            if self.answer.ends_with(b"\r\n\r\n") {
                return viewer::accepted(&self.answer).map(|()| true);
            }
            if let Some(end) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") {
                return viewer::accepted(&self.answer[..end]).map(|()| true);
            }
            if self.answer.len() > viewer::ANSWER_BYTES_MAX {
                return Err(io::Error::other("the answer to the upgrade is too long"));
            }
        }
    }
}

/// Looked at in one turn.
const EVENTS: usize = 32;
/// Longest handshake: a lost SYN comes again after 1, 3, 7 and 15 seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks for handshakes that take too long.
const SWEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Goal: a handshake ends with a connection, a refusal's status or the server's silence, and each
    /// is told once. Method: a listener that treats three handshakes in three ways.
    #[test]
    fn each_handshake_ends_once() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut handshakes = Handshakes::new(listener.local_addr().expect("bound")).expect("epoll");
        for index in 0..3 {
            let request = handshakes.request("/r7", Some("token"));
            handshakes.begin(index, request).expect("listening");
        }
        assert_eq!(handshakes.under_way(), 3);
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
        while handshakes.under_way() > 0 && begun.elapsed() < PATIENCE {
            let turn = handshakes.turn(Duration::from_millis(10), |ended| {
                let told = ended
                    .outcome
                    .map_or_else(|error| error.to_string(), |_| "open".into());
                ends[ended.index].push(told);
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
