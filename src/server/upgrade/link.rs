//! The connection between the two processes, with the other one's end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::Shutdown;
use rustix::process::{Signal, pidfd_send_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::net::pass::{Connection, PassError};
use uproar_proto::base::limits::TAKE_OVER_MESSAGE_BYTES_MAX;

/// The connection, and the process at its other end.
pub(super) struct Link {
    connection: Connection,
    // Readable when that process has ended.
    process: OwnedFd,
}

/// Both in a runtime.
pub(super) struct AsyncLink {
    link: Link,
    // A duplicate of the connection's descriptor for the runtime, which has no type for its kind of socket.
    readable: UnixStream,
}

/// What a connection brings.
#[derive(Debug)]
pub(super) enum Heard<T> {
    /// A message with its descriptors.
    Message(T, Vec<OwnedFd>),
    /// What this build does not understand, in words.
    Foreign(String),
    /// Nothing any more.
    Closed,
}

impl Link {
    /// Knows the process at the other end from the kernel.
    ///
    /// # Errors
    ///
    /// It has ended, or is not visible here: it is in another process namespace.
    pub(super) fn new(connection: Connection) -> io::Result<Self> {
        let process = connection.peer_process()?;
        Ok(Self {
            connection,
            process,
        })
    }

    /// The other process's id and user.
    pub(super) fn peer(&self) -> io::Result<(u32, u32)> {
        let peer = self.connection.peer()?;
        let pid = peer.pid.as_raw_nonzero().get();
        Ok((u32::try_from(pid).unwrap_or_default(), peer.uid.as_raw()))
    }

    /// Says something at once. A peer that has not read what was said so far is taken for gone.
    pub(super) fn say(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), PassError> {
        let bytes = serde_json::to_vec(message).expect("texts and numbers");
        if self.connection.send_now(&bytes, descriptors)? {
            Ok(())
        } else {
            Err(PassError::Late)
        }
    }

    /// Waits for the next message until `deadline`; `None`: it came first.
    pub(super) fn hear<T: DeserializeOwned>(
        &self,
        deadline: Instant,
    ) -> io::Result<Option<Heard<T>>> {
        match self
            .connection
            .receive(TAKE_OVER_MESSAGE_BYTES_MAX, deadline)
        {
            Ok(message) => Ok(Some(parsed(&message.bytes, message.descriptors))),
            Err(PassError::Late) => Ok(None),
            Err(PassError::Ended) => Ok(Some(Heard::Closed)),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Waits at most `within` for the other process's end; returns whether it came.
    pub(super) fn await_end(&self, within: Duration) -> bool {
        let within = Timespec::try_from(within).ok();
        let mut polled = [PollFd::new(&self.process, PollFlags::IN)];
        loop {
            match poll(&mut polled, within.as_ref()) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Goes on in this thread's runtime.
    pub(super) fn into_async(self) -> io::Result<AsyncLink> {
        let socket = self.connection.as_fd().try_clone_to_owned()?;
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let readable = UnixStream::from_std(socket)?;
        Ok(AsyncLink {
            link: self,
            readable,
        })
    }
}

impl AsyncLink {
    /// See [`Link::say`].
    pub(super) fn say(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), PassError> {
        self.link.say(message, descriptors)
    }

    /// The other process's id and user.
    pub(super) fn peer(&self) -> io::Result<(u32, u32)> {
        self.link.peer()
    }

    /// Waits for the next message. Nothing is lost if this is dropped.
    pub(super) async fn hear<T: DeserializeOwned>(&self) -> io::Result<Heard<T>> {
        let hear = || {
            self.hear_now()?
                .ok_or_else(|| io::ErrorKind::WouldBlock.into())
        };
        self.readable.async_io(Interest::READABLE, hear).await
    }

    /// The next message, if one is there.
    fn hear_now<T: DeserializeOwned>(&self) -> io::Result<Option<Heard<T>>> {
        match self
            .link
            .connection
            .receive_now(TAKE_OVER_MESSAGE_BYTES_MAX)
        {
            Ok(Some(message)) => Ok(Some(parsed(&message.bytes, message.descriptors))),
            Ok(None) => Ok(None),
            Err(PassError::Ended) => Ok(Some(Heard::Closed)),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Ready when the other process has ended.
    pub(super) async fn ended(&self) {
        while !self.link.await_end(Duration::ZERO) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// From now on what the other process says fails there. What it has said before can be heard.
    pub(super) fn hang_up(&self) {
        // It fails only if the connection is over.
        let _over = rustix::net::shutdown(&self.link.connection, Shutdown::Read);
    }

    /// Sends the other process a signal.
    pub(super) fn signal(&self, signal: Signal) {
        // It fails only if the process has ended.
        let _ended = pidfd_send_signal(&self.link.process, signal);
    }
}

fn parsed<T: DeserializeOwned>(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Heard<T> {
    match serde_json::from_slice(bytes) {
        Ok(message) => Heard::Message(message, descriptors),
        Err(_) => Heard::Foreign(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// Interval of the looks for the other process's end: the runtime awaits no descriptor of a process.
const LOOK: Duration = Duration::from_millis(1);
