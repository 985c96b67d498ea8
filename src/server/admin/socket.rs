//! The socket itself: Unix, SEQPACKET, so that a message is a message, and its sender is known.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};

use uproar_proto::base::limits::ADMIN_MESSAGE_BYTES_MAX;

const NAME: &str = "admin.sock";
/// Connections that wait in the kernel for a turn of the control thread; further ones wait to connect.
const BACKLOG: i32 = 128;

/// Where the socket of the server of `data_dir` is.
pub(super) fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// Binds and listens, for this user alone; calls do not wait. The name must be free.
pub(super) fn listen(data_dir: &Path) -> io::Result<OwnedFd> {
    let socket = open(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    // The file that `bind` makes has the socket's own mode: at no instant may anybody else connect.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    let (_held, address) = address(data_dir)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects; calls on the connection wait.
pub(super) fn connect(data_dir: &Path) -> io::Result<OwnedFd> {
    let socket = open(SocketFlags::CLOEXEC)?;
    let (_held, address) = address(data_dir)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

fn open(flags: SocketFlags) -> io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(rustix::net::socket_with(family, kind, flags, None)?)
}

/// The socket's address, and the directory it leads through, to be held until it was used. A socket's
/// path has at most 108 bytes, that of a data directory any number: so it begins at a descriptor.
fn address(data_dir: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(data_dir, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{NAME}", directory.as_raw_fd());
    Ok((directory, SocketAddrUnix::new(path)?))
}

/// Whether the peer is root or this process's user.
pub(super) fn may_order(peer: impl AsFd) -> io::Result<bool> {
    let user = sockopt::socket_peercred(peer)?.uid;
    Ok(user.is_root() || user == rustix::process::geteuid())
}

/// A received message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Message(Vec<u8>),
    /// It is longer than `ADMIN_MESSAGE_BYTES_MAX`, and dropped.
    TooLong,
    /// The peer has ended the connection.
    End,
}

/// Receives one message.
pub(super) fn receive(peer: impl AsFd) -> io::Result<Received> {
    let mut buffer = vec![0; ADMIN_MESSAGE_BYTES_MAX];
    let (_, len) = rustix::net::recv(peer, buffer.as_mut_slice(), RecvFlags::TRUNC)?;
    Ok(match len {
        0 => Received::End,
        len if len > buffer.len() => Received::TooLong,
        len => {
            buffer.truncate(len);
            Received::Message(buffer)
        }
    })
}

/// Sends one message whole.
pub(super) fn send(peer: impl AsFd, message: &[u8]) -> io::Result<()> {
    rustix::net::send(peer, message, SendFlags::NOSIGNAL)?;
    Ok(())
}
