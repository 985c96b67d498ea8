//! Messages between two processes of one machine, with descriptors: Unix sockets that keep the borders of messages
//! (`SOCK_SEQPACKET`).
//!
//! A message arrives whole or not at all, with all its descriptors or not at all. The peer's end is an error of its
//! own, so that nobody takes it for an empty message, which cannot be sent.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, UCred, recvmsg,
    sendmsg, socketpair, sockopt,
};
use rustix::process::{PidfdFlags, pidfd_open};

use uproar_proto::base::limits::{DESCRIPTORS_A_MESSAGE_MAX, PASSED_BYTES_MAX};

/// Why a message was not sent or not received.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The peer has closed the connection, or has ended.
    #[error("the other process has closed the connection")]
    Ended,
    /// The deadline came first. Nothing was sent or received.
    #[error("the other process did not answer in time")]
    Late,
    /// The message is too long, or empty: it was not sent. Or the peer sent a longer one than was expected: it is
    /// lost.
    #[error("a message of more than {most} bytes, or an empty one")]
    Length {
        /// The most bytes.
        most: usize,
    },
    /// More descriptors than the kernel takes in one message.
    #[error("{0} descriptors in one message, at most {DESCRIPTORS_A_MESSAGE_MAX}")]
    Descriptors(usize),
    /// Descriptors of a received message were lost: the receiver is at its limit on open files.
    #[error(
        "descriptors were lost on the way, because this process has too many open files: raise the limit on open files"
    )]
    Lost,
    /// The user has as many descriptors in unread messages as its limit on open files: `ETOOMANYREFS`, 109. Nothing
    /// was sent; it can be sent again when the peer has read some.
    #[error(
        "too many descriptors are on their way (ETOOMANYREFS, 109): raise the limit on open files"
    )]
    OnTheWay,
    /// Another error of the kernel.
    #[error(transparent)]
    Kernel(io::Error),
}

impl From<Errno> for PassError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Ended,
            Errno::TOOMANYREFS => Self::OnTheWay,
            Errno::MSGSIZE => Self::Length {
                most: PASSED_BYTES_MAX,
            },
            other => Self::Kernel(other.into()),
        }
    }
}

/// A received message.
#[derive(Debug)]
pub struct Message {
    /// Its bytes, never none.
    pub bytes: Vec<u8>,
    /// Its descriptors in the sender's order, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// One end of a connection. Several threads may use it; each message goes to one of them.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// Makes two connected ends.
    ///
    /// # Errors
    ///
    /// As socketpair(2), above all `EMFILE`.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Sends a message of 1 to [`PASSED_BYTES_MAX`] bytes with at most [`DESCRIPTORS_A_MESSAGE_MAX`] descriptors,
    /// which stay open here. Waits for room until `deadline`.
    ///
    /// # Errors
    ///
    /// Any of [`PassError`] but `Lost`; the message was not sent then.
    pub fn send(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> Result<(), PassError> {
        while !self.send_now(bytes, descriptors)? {
            self.wait(PollFlags::OUT, deadline)?;
        }
        Ok(())
    }

    /// As [`Connection::send`], without waiting: false if there is no room now.
    ///
    /// # Errors
    ///
    /// As [`Connection::send`], but `Late`.
    pub fn send_now(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<bool, PassError> {
        if bytes.is_empty() || bytes.len() > PASSED_BYTES_MAX {
            let most = PASSED_BYTES_MAX;
            return Err(PassError::Length { most });
        }
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty()
            && (descriptors.len() > DESCRIPTORS_A_MESSAGE_MAX
                || !control.push(SendAncillaryMessage::ScmRights(descriptors)))
        {
            return Err(PassError::Descriptors(descriptors.len()));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Receives the next message, of at most `most` bytes. Waits for it until `deadline`.
    ///
    /// # Errors
    ///
    /// `Ended` when the peer is gone and all its messages are read; `Length` and `Lost` if the message was cut: it is
    /// gone, and its descriptors are closed.
    pub fn receive(&self, most: usize, deadline: Instant) -> Result<Message, PassError> {
        loop {
            if let Some(message) = self.receive_now(most)? {
                return Ok(message);
            }
            self.wait(PollFlags::IN, deadline)?;
        }
    }

    /// As [`Connection::receive`], without waiting: `None` if no message is there.
    ///
    /// # Errors
    ///
    /// As [`Connection::receive`], but `Late`.
    pub fn receive_now(&self, most: usize) -> Result<Option<Message>, PassError> {
        let mut bytes = vec![0; most];
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = match recvmsg(&self.0, &mut parts, &mut control, flags) {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut descriptors = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = part {
                descriptors.extend(more);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(PassError::Lost);
        }
        if received.flags.contains(ReturnFlags::TRUNC) {
            return Err(PassError::Length { most });
        }
        if received.bytes == 0 {
            return Err(PassError::Ended);
        }
        bytes.truncate(received.bytes);
        Ok(Some(Message { bytes, descriptors }))
    }

    /// Waits until the socket is ready, or the peer has ended.
    fn wait(&self, what: PollFlags, deadline: Instant) -> Result<(), PassError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a deadline of a system call, below any turn"
        )]
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(PassError::Late);
        }
        let left = Timespec::try_from(left).map_err(|_| PassError::Late)?;
        let mut polled = [PollFd::new(&self.0, what)];
        match poll(&mut polled, Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the process that connected, or that listened, as the kernel noted it then. Of a [`Connection::pair`] it
    /// is the process that made it.
    ///
    /// # Errors
    ///
    /// The kernel's, for a socket of another kind.
    pub fn peer(&self) -> io::Result<UCred> {
        Ok(sockopt::socket_peercred(&self.0)?)
    }

    /// Returns a descriptor of [`Connection::peer`] that becomes readable when that process ends.
    ///
    /// # Errors
    ///
    /// `ESRCH` if it has ended. A number that was given to another process meanwhile is not mistaken for it, as long
    /// as the peer alone holds its end: the peer's end is found closed then.
    pub fn peer_process(&self) -> io::Result<OwnedFd> {
        let process = pidfd_open(self.peer()?.pid, PidfdFlags::empty())?;
        let mut polled = [PollFd::new(&self.0, PollFlags::empty())];
        poll(&mut polled, Some(&Timespec::default()))?;
        if polled[0].revents().contains(PollFlags::HUP) {
            return Err(Errno::SRCH.into());
        }
        Ok(process)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that was connected elsewhere, or an inherited end of a [`Connection::pair`].
impl From<OwnedFd> for Connection {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> Self {
        connection.0
    }
}

const CONTROL_BYTES: usize = cmsg_space!(ScmRights(DESCRIPTORS_A_MESSAGE_MAX));

#[cfg(test)]
mod tests;
