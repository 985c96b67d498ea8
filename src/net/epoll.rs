//! One shard's connections on epoll, for machines that forbid io_uring: a descriptor each, system calls one by one.
//!
//! Owns: the connections, their readiness, every outgoing buffer until its completion, the buffer that all receive
//! into. Never: the meaning of the bytes.
//!
//! Connections are registered once, edge-triggered, and readiness is kept here. Level-triggered, each wait for a full
//! socket would cost two more system calls, and a connection that the peer has reset while nothing is received, as in
//! a hand-over, would wake the thread for ever.

mod readiness;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use slab::Slab;

use self::readiness::{Readiness, WATCHED};
use super::backend::{Backend, Completion, Kind, Received};
use super::io::{Io, Key, Queued, SendBuffer, Shutdown};
use uproar_proto::base::limits::{
    DESCRIPTORS_A_MESSAGE_MAX, EPOLL_EVENTS, PARSE_PADDING_BYTES, RECEIVE_BUFFER_BYTES,
};

/// A connection's place in its shard's table.
#[derive(Debug, PartialEq, Eq)]
pub struct EpollFile(EpollPlace);

/// A copy of an [`EpollFile`] that keeps nothing open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpollPlace(u32);

impl EpollPlace {
    fn index(self) -> usize {
        usize::try_from(self.0).expect("32 bits")
    }
}

/// The shard's buffer, filled. While somebody has it, nothing is received.
#[derive(Debug)]
#[must_use = "another one is allocated unless it is recycled"]
pub struct Scratch {
    bytes: Box<[u8]>,
    received: usize,
}

impl Received for Scratch {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn received(&self) -> usize {
        self.received
    }
}

/// The connections of one shard; used only by the thread that made them.
pub struct Epoll {
    // The kernel's list of the connections.
    interest: OwnedFd,
    connections: Slab<Connection>,
    // Sends, shutdowns and closes, in the order in which they were asked for.
    queue: Vec<Operation>,
    queued: Queued,
    completions: VecDeque<Completion<Scratch>>,
    // Connections whose receive may find bytes: those of this turn, and those of the next.
    ready: VecDeque<EpollPlace>,
    next_ready: Vec<EpollPlace>,
    // Sends that wait until their socket is writable.
    waits: HashMap<EpollPlace, (Key, SendBuffer)>,
    events: Vec<epoll::Event>,
    // Whether the last look filled `events`, so that there may be more.
    has_more_events: bool,
    scratch: Option<Box<[u8]>>,
    // Makes it neither `Send` nor `Sync`.
    of_one_thread: PhantomData<*const ()>,
}

/// One connection.
#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    // Of its receive.
    key: Key,
    // Whether a receive is pending.
    is_receiving: bool,
    // Whether it stands in `ready` or `next_ready`.
    is_listed: bool,
    readiness: Readiness,
}

#[derive(Debug)]
enum Operation {
    Send(EpollPlace, Key, SendBuffer),
    Shutdown(EpollPlace, Shutdown),
    Close(EpollPlace),
}

impl Epoll {
    /// Makes one without connections.
    ///
    /// # Errors
    ///
    /// `EMFILE`, or missing memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interest: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Slab::new(),
            queue: Vec::new(),
            queued: Queued::default(),
            completions: VecDeque::new(),
            ready: VecDeque::new(),
            next_ready: Vec::new(),
            waits: HashMap::new(),
            events: Vec::with_capacity(EPOLL_EVENTS),
            has_more_events: false,
            scratch: None,
            of_one_thread: PhantomData,
        })
    }

    /// Carries out one queued operation.
    fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Send(place, key, outgoing) => self.send_now(place, key, outgoing),
            Operation::Shutdown(place, how) => self.shut_down_now(place, how),
            Operation::Close(place) => {
                let connection = self.connections.remove(place.index());
                debug_assert!(!connection.is_receiving, "its receive has ended");
                // Another process may hold the connection open, and with it the registration.
                let _gone = epoll::delete(&self.interest, &connection.socket);
            }
        }
    }

    fn send_now(&mut self, place: EpollPlace, key: Key, outgoing: SendBuffer) {
        let connection = &mut self.connections[place.index()];
        let bytes = outgoing.bytes();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let result = rustix::net::send(&connection.socket, bytes, flags);
        // A socket that takes less than it was given is full; its next edge comes when it has room.
        if result != Ok(bytes.len()) {
            connection.readiness.filled();
        }
        self.completions.push_back(Completion::Sent {
            key,
            outgoing,
            result: result.map_err(|error| match error {
                Errno::INTR => io::ErrorKind::WouldBlock.into(),
                other => other.into(),
            }),
        });
    }

    fn shut_down_now(&mut self, place: EpollPlace, how: Shutdown) {
        let connection = &mut self.connections[place.index()];
        let socket = &connection.socket;
        // Failures mean that the peer closed first, or no TCP connection, as in tests.
        let _gone = match how {
            Shutdown::Write => rustix::net::shutdown(socket, rustix::net::Shutdown::Write),
            Shutdown::Both => rustix::net::shutdown(socket, rustix::net::Shutdown::Both),
            Shutdown::Abort => rustix::net::connect_unspec(socket)
                .or_else(|_| rustix::net::shutdown(socket, rustix::net::Shutdown::Both)),
        };
        // Pending operations complete now, whether or not the kernel tells of it.
        connection.readiness.broke();
        self.list(place);
        self.end_wait(place);
    }

    /// Lists a connection for the next turn if its receive may find bytes.
    fn list(&mut self, place: EpollPlace) {
        let Some(connection) = self.connections.get_mut(place.index()) else {
            return;
        };
        if connection.is_receiving && connection.readiness.may_read() && !connection.is_listed {
            connection.is_listed = true;
            self.next_ready.push(place);
        }
    }

    fn end_wait(&mut self, place: EpollPlace) {
        if let Some((key, outgoing)) = self.waits.remove(&place) {
            let writable = Completion::Writable { key, outgoing };
            self.completions.push_back(writable);
        }
    }

    /// Notes what the kernel has to tell, without waiting.
    fn look(&mut self) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        let space = rustix::buffer::spare_capacity(&mut events);
        let count = match epoll::wait(&self.interest, space, Some(&Timespec::default())) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        self.has_more_events = count == events.capacity();
        for event in events.drain(..) {
            let place = EpollPlace(u32::try_from(event.data.u64()).expect("a place's number"));
            let Some(connection) = self.connections.get_mut(place.index()) else {
                continue;
            };
            connection.readiness.note(event.flags);
            let may_write = connection.readiness.may_write();
            self.list(place);
            if may_write {
                self.end_wait(place);
            }
        }
        self.events = events;
        Ok(())
    }

    /// Receives once from a listed connection; `None` if there was nothing, or nobody asks for it any more.
    fn receive_now(&mut self, place: EpollPlace) -> Option<Completion<Scratch>> {
        let connection = self.connections.get_mut(place.index())?;
        connection.is_listed = false;
        if !connection.is_receiving {
            return None;
        }
        let key = connection.key;
        let mut bytes = self.scratch.take().unwrap_or_else(new_scratch);
        let len_max = bytes.len() - PARSE_PADDING_BYTES;
        let space = &mut bytes[..len_max];
        let received = rustix::net::recv(&connection.socket, space, RecvFlags::DONTWAIT);
        let (buffer, result) = match received {
            Ok((_, len @ 1..)) => {
                if len < len_max {
                    connection.readiness.read_short();
                }
                self.list(place);
                let received = len;
                (Some(Scratch { bytes, received }), Ok(len))
            }
            other => {
                self.scratch = Some(bytes);
                match other {
                    Err(Errno::AGAIN) => {
                        connection.readiness.emptied();
                        return None;
                    }
                    Err(Errno::INTR) => {
                        self.list(place);
                        return None;
                    }
                    other => (None, other.map(|_| 0).map_err(io::Error::from)),
                }
            }
        };
        let more = buffer.is_some();
        if !more && let Some(connection) = self.connections.get_mut(place.index()) {
            connection.is_receiving = false;
        }
        Some(Completion::Received {
            key,
            buffer,
            result,
            more,
        })
    }
}

impl Io for Epoll {
    type Socket = OwnedFd;
    type FixedFile = EpollFile;

    fn install(&mut self, socket: OwnedFd) -> io::Result<EpollFile> {
        let entry = self.connections.vacant_entry();
        let index = u32::try_from(entry.key()).expect("a limit on open files below 2^32");
        let data = epoll::EventData::new_u64(index.into());
        epoll::add(&self.interest, &socket, data, WATCHED)?;
        entry.insert(Connection {
            socket,
            key: 0,
            is_receiving: false,
            is_listed: false,
            readiness: Readiness::default(),
        });
        Ok(EpollFile(EpollPlace(index)))
    }

    fn receive(&mut self, file: &EpollFile, key: Key) {
        let connection = &mut self.connections[file.0.index()];
        connection.key = key;
        connection.is_receiving = true;
        self.list(file.0);
    }

    fn send(&mut self, file: &EpollFile, key: Key, outgoing: SendBuffer) {
        self.queued += Queued {
            sends: 1,
            bytes: u64::try_from(outgoing.remaining()).unwrap_or(u64::MAX),
        };
        self.queue.push(Operation::Send(file.0, key, outgoing));
    }

    fn await_writable(&mut self, file: &EpollFile, key: Key, outgoing: SendBuffer) {
        self.waits.insert(file.0, (key, outgoing));
        // It has become writable since the send that did not fit.
        if self.connections[file.0.index()].readiness.may_write() {
            self.end_wait(file.0);
        }
    }

    fn cancel_receive(&mut self, file: &EpollFile, key: Key) {
        let connection = &mut self.connections[file.0.index()];
        if connection.is_receiving {
            connection.is_receiving = false;
            self.completions.push_back(Completion::Received {
                key,
                buffer: None,
                result: Err(Errno::CANCELED.into()),
                more: false,
            });
        }
    }

    fn cancel_waits(&mut self) {
        let waits = self.waits.drain();
        let writable = waits.map(|(_, (key, outgoing))| Completion::Writable { key, outgoing });
        self.completions.extend(writable);
    }

    fn shutdown(&mut self, file: &EpollFile, how: Shutdown) {
        self.queue.push(Operation::Shutdown(file.0, how));
    }

    fn close(&mut self, file: EpollFile) {
        self.queue.push(Operation::Close(file.0));
    }
}

impl Backend for Epoll {
    const KIND: Kind = Kind::Epoll;

    type Buffer = Scratch;
    type Place = EpollPlace;

    fn set_up() -> io::Result<Self> {
        Self::new()
    }

    /// The epoll itself: it is readable when a connection is.
    fn event(&self) -> BorrowedFd<'_> {
        self.interest.as_fd()
    }

    fn signal(&mut self, _on: bool) {}

    /// Sends, shuts down and closes what was queued, in order; then looks which connections are ready. Receives are made
    /// one by one as their completions are taken: one for each ready connection and turn, so that nobody waits for a
    /// fast sender longer than for any other.
    fn enter(&mut self) -> io::Result<()> {
        let mut queue = std::mem::take(&mut self.queue);
        for operation in queue.drain(..) {
            self.perform(operation);
        }
        self.queue = queue;
        self.look()?;
        self.ready.extend(self.next_ready.drain(..));
        Ok(())
    }

    fn next_completion(&mut self) -> Option<Completion<Scratch>> {
        if let Some(completion) = self.completions.pop_front() {
            return Some(completion);
        }
        while let Some(place) = self.ready.pop_front() {
            let received = self.receive_now(place);
            if received.is_some() {
                return received;
            }
        }
        None
    }

    fn has_completions(&mut self) -> bool {
        !self.completions.is_empty()
            || !self.ready.is_empty()
            || !self.next_ready.is_empty()
            || !self.queue.is_empty()
            || self.has_more_events
    }

    fn recycle(&mut self, buffer: Scratch) {
        self.scratch = Some(buffer.bytes);
    }

    fn take_queued(&mut self) -> Queued {
        std::mem::take(&mut self.queued)
    }

    fn rings(&self) -> usize {
        0
    }

    fn overflows(&mut self) -> u32 {
        0
    }

    fn place(file: &EpollFile) -> EpollPlace {
        file.0
    }

    fn detach(
        &mut self,
        places: &[EpollPlace],
        _others: &mut Vec<Completion<Scratch>>,
    ) -> io::Result<Vec<OwnedFd>> {
        assert!(places.len() <= DESCRIPTORS_A_MESSAGE_MAX, "one message's");
        let sockets = places
            .iter()
            .map(|place| &self.connections[place.index()].socket);
        sockets.map(OwnedFd::try_clone).collect()
    }
}

fn new_scratch() -> Box<[u8]> {
    vec![0; RECEIVE_BUFFER_BYTES].into()
}
