//! One viewer: its connection, if it has one, and how it gets another.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::harness::client_protocol::ClientProtocol;
use crate::harness::error::BenchError;
use crate::harness::machine::now_nanos;
use crate::harness::message::numbers;
use crate::harness::server::{ServerUnderTest, ViewerAccess};
use crate::harness::stream::{Inbox, Outbox};
use crate::harness::viewer::{self, Upgrade};
use crate::harness::viewer_stream::ViewerStream;

use super::ledger::{Moment, Number, Said, Stay};

/// Longest frame.
const BUFFER_BYTES: usize = 64 * 1024;
/// Between two attempts to connect anew.
const RETRY: Duration = Duration::from_millis(50);

/// A viewer of one room at one node.
pub(super) struct Viewer {
    pub(super) node: usize,
    pub(super) room: usize,
    protocol: ClientProtocol,
    pub(super) connection: Option<Connection>,
    /// Connections that have ended.
    pub(super) ended: Vec<Stay>,
    /// What it said on them.
    said: Vec<Said>,
    /// Messages that it composed.
    pub(super) count: u64,
}

/// A connection that stands.
pub(super) struct Connection {
    inbox: Inbox,
    out: Outbox,
    from: Moment,
    heard: Vec<Number>,
    said: Vec<(Number, Moment)>,
    /// Frames that are no messages: refusals.
    pub(super) refused: u64,
}

/// A message that came.
pub(super) struct Heard {
    /// When it was due, and when it came.
    pub(super) due: u64,
    pub(super) now: u64,
}

impl Viewer {
    /// Connects to `server`.
    pub(super) fn connect(
        server: &ServerUnderTest,
        (node, room, index): (usize, usize, usize),
    ) -> Result<Self, BenchError> {
        let stream = server.connect(room, index)?;
        let protocol = server.protocol();
        Ok(Self {
            node,
            room,
            protocol,
            connection: Some(Connection::new(stream, protocol)?),
            ended: Vec::new(),
            said: Vec::new(),
            count: 0,
        })
    }

    /// Sends a text, as its next message.
    pub(super) fn say(&mut self, number: Number, text: &str) {
        let room = self.room;
        let Some(connection) = &mut self.connection else {
            return;
        };
        connection.out.send(room, text);
        connection.said.push((number, now_nanos()));
        self.count += 1;
    }

    /// Writes what the kernel takes. Returns whether the connection stands.
    pub(super) fn flush(&mut self) -> bool {
        let done = self.connection.as_mut().map(Connection::flush);
        match done {
            None => false,
            Some(Ok(())) => true,
            Some(Err(_)) => {
                self.end();
                false
            }
        }
    }

    /// Reads what came and reports each message. Returns whether the connection stands.
    pub(super) fn read(&mut self, clock: fn() -> u64, mut each: impl FnMut(Heard)) -> bool {
        let Some(connection) = &mut self.connection else {
            return false;
        };
        let (heard, refused) = (&mut connection.heard, &mut connection.refused);
        let read = connection
            .inbox
            .read(clock, |frame| match numbers(frame.payload) {
                Some((number, due)) => {
                    heard.push(number);
                    let now = frame.now;
                    each(Heard { due, now });
                }
                None => *refused += 1,
            });
        if connection.inbox.take_ping() {
            connection.out.pong();
        }
        if read.is_ok() && self.flush() {
            return true;
        }
        self.end();
        false
    }

    /// The connection is gone.
    fn end(&mut self) {
        if let Some(connection) = self.connection.take() {
            let until = now_nanos();
            self.said.extend(connection.said(self.room, until));
            self.ended.push(connection.stay(self.room, until));
        }
    }

    /// Takes a new connection.
    pub(super) fn resume(&mut self, stream: TcpStream) -> io::Result<()> {
        self.connection = Some(Connection::new(stream, self.protocol)?);
        Ok(())
    }

    /// What it said, and what each of its connections heard.
    pub(super) fn tell(&self, said: &mut Vec<Said>, stays: &mut Vec<Stay>) {
        said.extend(&self.said);
        stays.extend(self.ended.iter().cloned());
        if let Some(connection) = &self.connection {
            said.extend(connection.said(self.room, Moment::MAX));
            stays.push(connection.stay(self.room, Moment::MAX));
        }
    }
}

impl Connection {
    fn new(stream: impl Into<ViewerStream>, protocol: ClientProtocol) -> io::Result<Self> {
        Ok(Self {
            inbox: Inbox::new(stream, protocol, BUFFER_BYTES)?,
            out: Outbox::new(protocol),
            from: now_nanos(),
            heard: Vec::new(),
            said: Vec::new(),
            refused: 0,
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush(&mut self.inbox.stream)
    }

    fn said(&self, room: usize, until: Moment) -> impl Iterator<Item = Said> {
        self.said.iter().map(move |(number, at)| Said {
            number: *number,
            room,
            at: *at,
            until,
        })
    }

    fn stay(&self, room: usize, until: Moment) -> Stay {
        Stay {
            room,
            from: self.from,
            until,
            heard: self.heard.clone(),
        }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        self.inbox.stream.socket()
    }
}

/// A way back: all that another thread needs to connect a viewer anew.
pub(super) struct WayBack {
    pub(super) address: SocketAddr,
    /// Tokens, the last one first: one that a dying node took may count as used.
    pub(super) access: Vec<ViewerAccess>,
    /// Which of all viewers it is.
    pub(super) index: usize,
}

impl WayBack {
    /// Tries until a connection stands, or nobody wants it any more, or all tokens were refused.
    pub(super) fn go(mut self, done: &Sender<(usize, TcpStream)>, is_wanted: impl Fn() -> bool) {
        while is_wanted() {
            let Some((path, token)) = self.access.last() else {
                return;
            };
            let upgrade = Upgrade {
                path,
                token: token.as_deref(),
                compression: false,
            };
            match viewer::open(self.address, upgrade, self.index) {
                Ok(stream) => {
                    let _nobody_waits = done.send((self.index, stream));
                    return;
                }
                // Not the kernel's: the server's answer.
                Err(error) if error.raw_os_error().is_none() => drop(self.access.pop()),
                Err(_) => {}
            }
            std::thread::sleep(RETRY);
        }
    }
}
