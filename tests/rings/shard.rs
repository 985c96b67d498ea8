//! A shard reduced to its rings, or its epoll: it keeps what each connection received, and echoes it if asked.

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use uproar::net::backend::{Backend, Completion, Received};
use uproar::net::epoll::Epoll;
use uproar::net::io::{Key, SendBuffer};
use uproar::net::ring::Sizes;
use uproar::net::rings::Rings;

const ENOBUFS: i32 = 105;
const ECANCELED: i32 = 125;

/// Sizes with which buffers, submissions, completions and places all run out.
pub(super) const TINY: Sizes = Sizes {
    places: 16,
    entries: 8,
    completions: 16,
    buffers: 4,
    buffers_further: 4,
};

/// One connection.
pub(super) struct Connection<F> {
    pub(super) file: F,
    pub(super) received: Vec<u8>,
    pub(super) is_receiving: bool,
    /// Whether the client has ended the stream, or reset it.
    pub(super) is_over: bool,
    /// The part of a send that the socket did not take.
    pub(super) rest: Option<SendBuffer>,
    pub(super) sent: usize,
}

/// How receives ended.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) cancelled: usize,
    pub(super) no_buffers: usize,
    /// With bytes.
    pub(super) filled: usize,
}

/// The shard.
pub(super) struct Shard<B: Backend = Rings> {
    pub(super) io: B,
    pub(super) connections: BTreeMap<Key, Connection<B::FixedFile>>,
    pub(super) ends: Ends,
    /// Whether an ended receive is armed again.
    pub(super) arms: bool,
    pub(super) echoes: bool,
}

impl Shard {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self::on(Rings::of(sizes).expect("io_uring is allowed"))
    }
}

impl Shard<Epoll> {
    pub(super) fn epoll() -> Self {
        Self::on(Epoll::new().expect("a descriptor"))
    }
}

impl<B: Backend> Shard<B> {
    fn on(io: B) -> Self {
        Self {
            io,
            connections: BTreeMap::new(),
            ends: Ends::default(),
            arms: true,
            echoes: false,
        }
    }

    /// Installs `socket` as connection `key`; nothing is received before [`Shard::arm`].
    pub(super) fn install(&mut self, key: Key, socket: OwnedFd) {
        let connection = Connection {
            file: self.io.install(socket).expect("a place"),
            received: Vec::new(),
            is_receiving: false,
            is_over: false,
            rest: None,
            sent: 0,
        };
        self.connections.insert(key, connection);
    }

    /// Arms the receives that are not armed.
    pub(super) fn arm(&mut self) {
        for (key, connection) in &mut self.connections {
            if !connection.is_receiving && !connection.is_over {
                connection.is_receiving = true;
                self.io.receive(&connection.file, *key);
            }
        }
    }

    /// Cancels every receive.
    pub(super) fn cancel(&mut self) {
        self.arms = false;
        for (key, connection) in &self.connections {
            if connection.is_receiving {
                self.io.cancel_receive(&connection.file, *key);
            }
        }
    }

    pub(super) fn receiving(&self) -> usize {
        let connections = self.connections.values();
        connections.filter(|one| one.is_receiving).count()
    }

    /// Whether all that was received is echoed.
    pub(super) fn has_answered(&self) -> bool {
        let mut connections = self.connections.values();
        connections.all(|one| one.sent == one.received.len())
    }

    /// Enters once and takes all completions; returns their number.
    pub(super) fn turn(&mut self) -> usize {
        self.io.enter().expect("it works");
        let mut taken = 0;
        while let Some(completion) = self.io.next_completion() {
            self.take(completion);
            taken += 1;
        }
        taken
    }

    /// Runs turns until `done`.
    ///
    /// # Panics
    ///
    /// If that takes 200,000 turns.
    pub(super) fn turns(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..200_000 {
            let taken = self.turn();
            if done(self) {
                return;
            }
            if taken == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        panic!("it never ends: {} receive", self.receiving());
    }

    fn take(&mut self, completion: Completion<B::Buffer>) {
        match completion {
            Completion::Received {
                key,
                buffer,
                result,
                more,
            } => {
                let connection = self.connections.get_mut(&key).expect("it is ours");
                let filled = buffer.is_some();
                if let Some(mut buffer) = buffer {
                    let len = buffer.received();
                    let bytes = buffer.bytes()[..len].to_vec();
                    self.io.recycle(buffer);
                    connection.received.extend_from_slice(&bytes);
                    if self.echoes && !bytes.is_empty() {
                        self.io
                            .send(&connection.file, key, SendBuffer::owned(bytes));
                    }
                }
                match result {
                    Ok(0) => connection.is_over = true,
                    Ok(_) => self.ends.filled += usize::from(!more && filled),
                    Err(error) => match error.raw_os_error() {
                        Some(ENOBUFS) => self.ends.no_buffers += 1,
                        Some(ECANCELED) => self.ends.cancelled += 1,
                        _ => connection.is_over = true,
                    },
                }
                connection.is_receiving = more;
                if !more && self.arms && !connection.is_over {
                    connection.is_receiving = true;
                    self.io.receive(&connection.file, key);
                }
            }
            Completion::Sent {
                key,
                mut outgoing,
                result,
            } => {
                let connection = self.connections.get_mut(&key).expect("it is ours");
                let sent = match result {
                    Ok(sent) => sent,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(error) => panic!("a client is gone: {error}"),
                };
                outgoing.advance(sent);
                connection.sent += sent;
                if outgoing.remaining() > 0 {
                    self.io.await_writable(&connection.file, key, outgoing);
                }
            }
            Completion::Writable { key, outgoing } => {
                let connection = self.connections.get_mut(&key).expect("it is ours");
                assert!(connection.rest.replace(outgoing).is_none(), "one wait each");
            }
        }
    }
}

/// Makes connected pairs: the server's end, the client's end.
pub(super) fn pairs(count: usize) -> impl Iterator<Item = (OwnedFd, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (0..count).map(move |_| {
        let theirs = TcpStream::connect(address).unwrap();
        theirs.set_nodelay(true).unwrap();
        (listener.accept().unwrap().0.into(), theirs)
    })
}

/// Byte `at` of a numbered stream: a byte that is lost or comes twice shifts all that follow.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lowest bits are wanted"
)]
pub(super) fn byte(at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8) ^ (at >> 16)) as u8
}
