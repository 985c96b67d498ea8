//! The clients' ends of the connections, and the ring that stands in for the kernel.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::rc::Rc;

use uproar::net::io::{Io, Key, SendBuffer, Shutdown};

use crate::client::frame;
use crate::parts::GREETING;

/// The client's side of one connection.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(crate) struct Peer {
    /// Bytes for the server, not yet received by it.
    pub(crate) to_server: VecDeque<u8>,
    /// Bytes from the server.
    pub(crate) from_server: Vec<u8>,
    /// The number of bytes it has reacted to.
    pub(crate) reacted: usize,
    /// The client ended the stream.
    pub(crate) finished: bool,
    /// The client is gone without a Close frame: pending operations fail.
    pub(crate) reset: bool,
    /// The server's Close frame has arrived.
    pub(crate) closing: bool,
    /// The number of bytes from the server when its FIN came without a Close frame.
    pub(crate) fin: Option<usize>,
    /// The server shut the connection down or closed it.
    pub(crate) cut: bool,
    /// The server's descriptors of the connection.
    pub(crate) descriptors: usize,
    /// The client reads nothing.
    pub(crate) stalled: bool,
    /// It read nothing for long: the window may have moved past its cursor.
    pub(crate) slow: bool,
    /// The server may lose this one: an operation failed, or it was not admitted.
    pub(crate) excused: bool,
    /// No operation fails here: the room's observer.
    pub(crate) protected: bool,
}

impl Peer {
    /// Answers pings and the Close frame, as clients do.
    pub(crate) fn react(&mut self) {
        if self.reacted < GREETING.len() {
            if !self.from_server.starts_with(GREETING) {
                return;
            }
            self.reacted = GREETING.len();
        }
        while let Some((first, payload, end)) = frame_at(&self.from_server, self.reacted) {
            self.closing |= first == 0x88;
            let answer = match first {
                0x89 => Some(0x8A),
                0x88 => Some(0x88),
                _ => None,
            };
            if let Some(answer) = answer {
                let payload = self.from_server[payload..end].to_vec();
                self.to_server.extend(frame(answer, &payload, [7; 4]));
            }
            self.reacted = end;
        }
    }
}

/// Returns the frame that starts at `at`: its first byte, and where its payload starts and ends.
pub(crate) fn frame_at(stream: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let rest = stream.get(at..)?;
    let (header, len) = match *rest.get(1)? {
        126 => (
            4,
            usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?])),
        ),
        len @ 0..126 => (2, usize::from(len)),
        _ => panic!("a masked or huge server frame"),
    };
    let end = at + header + len;
    (end <= stream.len()).then_some((rest[0], at + header, end))
}

pub(crate) type Net = Rc<RefCell<Vec<Peer>>>;

/// A fake descriptor: dropping it closes it.
pub(crate) struct Socket {
    pub(crate) id: usize,
    pub(crate) net: Net,
}

impl Socket {
    /// Makes a descriptor of a connection; the last one that is closed closes it.
    pub(crate) fn new(id: usize, net: &Net) -> Self {
        net.borrow_mut()[id].descriptors += 1;
        Self {
            id,
            net: Rc::clone(net),
        }
    }

    /// Makes another descriptor of the connection, for another process.
    pub(crate) fn duplicate(&self) -> Self {
        Self::new(self.id, &self.net)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let peer = &mut self.net.borrow_mut()[self.id];
        peer.descriptors -= 1;
        peer.cut |= peer.descriptors == 0;
    }
}

/// The fake ring of one shard.
#[derive(Default)]
pub(crate) struct FakeRing {
    pub(crate) receives: BTreeMap<Key, usize>,
    pub(crate) sends: Vec<(Key, usize, SendBuffer)>,
    /// Sends that wait for a writable socket.
    pub(crate) waits: Vec<(Key, usize, SendBuffer)>,
    /// Waits that were cancelled: they complete in the next turn.
    pub(crate) ended_waits: Vec<(Key, usize, SendBuffer)>,
    /// Connections whose receive was cancelled and has not completed for the last time.
    pub(crate) cancelled: BTreeSet<Key>,
    /// Connections that ended in this turn without a Close frame: by FIN, and by a cut.
    pub(crate) fins: Vec<usize>,
    pub(crate) cuts: BTreeSet<usize>,
    /// The kernel has no memory for another connection.
    pub(crate) is_full: bool,
    pub(crate) net: Net,
}

impl Io for FakeRing {
    type Socket = Socket;
    type FixedFile = Socket;

    fn install(&mut self, socket: Socket) -> io::Result<Socket> {
        let peer = &mut self.net.borrow_mut()[socket.id];
        if self.is_full && !peer.protected {
            peer.excused = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        Ok(socket)
    }

    fn receive(&mut self, socket: &Socket, key: Key) {
        let before = self.receives.insert(key, socket.id);
        assert!(before.is_none(), "two receives pending on one connection");
    }

    fn send(&mut self, socket: &Socket, key: Key, outgoing: SendBuffer) {
        assert!(!self.is_sending(key), "two sends pending on one connection");
        assert!(outgoing.remaining() > 0, "an empty send");
        let is_ended = self.net.borrow()[socket.id].fin.is_some();
        assert!(!is_ended, "nothing follows the server's FIN");
        self.sends.push((key, socket.id, outgoing));
    }

    fn await_writable(&mut self, socket: &Socket, key: Key, outgoing: SendBuffer) {
        assert!(!self.is_sending(key), "a wait beside a send");
        assert!(outgoing.remaining() > 0, "a wait for nothing");
        self.waits.push((key, socket.id, outgoing));
    }

    fn cancel_receive(&mut self, _: &Socket, key: Key) {
        let receiving = self.receives.contains_key(&key);
        assert!(receiving, "a cancel without a receive is repeated for ever");
        self.cancelled.insert(key);
    }

    fn cancel_waits(&mut self) {
        self.ended_waits.append(&mut self.waits);
    }

    fn shutdown(&mut self, socket: &Socket, how: Shutdown) {
        let mut pending = self.pending_sends();
        let is_sending = pending.any(|(_, other, _)| *other == socket.id);
        drop(pending);
        let peer = &mut self.net.borrow_mut()[socket.id];
        if how == Shutdown::Write && !peer.closing {
            assert!(!is_sending, "FIN overtakes a send");
            assert!(peer.fin.is_none(), "a second FIN");
            peer.fin = Some(peer.from_server.len());
            self.fins.push(socket.id);
            return;
        }
        if how != Shutdown::Write && peer.fin.is_none() && !peer.cut {
            self.cuts.insert(socket.id);
        }
        peer.cut |= how != Shutdown::Write;
        // A client answers the FIN that follows a Close frame with its own, at once.
        peer.finished = true;
    }

    fn close(&mut self, socket: Socket) {
        let id = socket.id;
        let receiving = self.receives.values().any(|other| *other == id);
        let sending = self.pending_sends().any(|(_, other, _)| *other == id);
        assert!(!receiving && !sending, "closed under an operation");
        let peer = &self.net.borrow()[id];
        if peer.fin.is_none() && !peer.cut {
            self.cuts.insert(id);
        }
    }
}

impl FakeRing {
    fn is_sending(&self, key: Key) -> bool {
        self.pending_sends().any(|(other, ..)| *other == key)
    }

    /// Returns every pending send.
    pub(crate) fn pending_sends(&self) -> impl Iterator<Item = &(Key, usize, SendBuffer)> {
        let waits = self.waits.iter().chain(&self.ended_waits);
        self.sends.iter().chain(waits)
    }
}
