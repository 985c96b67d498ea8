//! One viewer's connection: from which address it comes, and its WebSocket handshake.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_linger, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::tls::client::TlsClient;
use super::tls::opening::Opening;
use super::viewer_stream::ViewerStream;

/// Longest answer to an upgrade request, in bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 4096;
/// Longest wait for a connection, and for the answer to its upgrade request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Viewers that share one source address: below the 28,232 ports of Linux's default range.
pub(super) const VIEWERS_PER_ADDRESS: usize = 20_000;
const EXTENSION: &str = "permessage-deflate";

/// What an upgrade request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Upgrade<'a> {
    /// The path, which names the room of a server without tokens.
    pub(crate) path: &'a str,
    /// The chat token, sent as `Sec-WebSocket-Protocol`.
    pub(crate) token: Option<&'a str>,
    /// Whether permessage-deflate is offered; the server must agree.
    pub(crate) compression: bool,
}

/// Connects viewer number `index` to `server` and upgrades the connection. The socket is blocking.
///
/// # Errors
///
/// The kernel's, or `ConnectionRefused` with the server's status line.
pub(super) fn open(
    server: SocketAddr,
    upgrade: Upgrade<'_>,
    index: usize,
) -> io::Result<TcpStream> {
    shake_hands(dial(server, index)?, server, upgrade)
}

/// Does the same as [`open`] over TLS.
pub(super) fn open_tls(
    server: SocketAddr,
    client: &TlsClient,
    upgrade: Upgrade<'_>,
    index: usize,
) -> io::Result<ViewerStream> {
    let mut stream = dial(server, index)?;
    let mut opening = Opening::new(client, &upgrade.request(server), ANSWER_BYTES_MAX)?;
    if !opening.step(&mut stream)? {
        // A blocking socket with a time limit says so then.
        return Err(io::ErrorKind::TimedOut.into());
    }
    let established = opening.finish()?;
    agreed(&established.answer, upgrade)?;
    Ok(ViewerStream::Tls(stream, Box::new(established)))
}

/// Does the same as [`open`], with a receive buffer of `receive_bytes` bytes, for receivers that
/// are not read while messages come. Without the right to force it, `net.core.rmem_max` bounds the
/// buffer.
pub(super) fn open_with_buffer(
    server: SocketAddr,
    upgrade: Upgrade<'_>,
    index: usize,
    receive_bytes: usize,
) -> io::Result<TcpStream> {
    let socket = socket_for(server, index, SocketFlags::empty())?;
    // Before connecting, because the window is scaled by it then.
    if set_socket_recv_buffer_size_force(&socket, receive_bytes).is_err() {
        set_socket_recv_buffer_size(&socket, receive_bytes)?;
    }
    connect(&socket, &server)?;
    shake_hands(prepared(socket.into())?, server, upgrade)
}

fn shake_hands(
    mut stream: TcpStream,
    server: SocketAddr,
    upgrade: Upgrade<'_>,
) -> io::Result<TcpStream> {
    stream.write_all(upgrade.request(server).as_bytes())?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    let mut len = 0;
    // Byte by byte, so that no byte behind the head is read.
    while !answer[..len].ends_with(b"\r\n\r\n") {
        let Some(place) = answer.get_mut(len..=len) else {
            return Err(io::Error::other("the answer to the upgrade is too long"));
        };
        stream.read_exact(place)?;
        len += 1;
    }
    agreed(&answer[..len], upgrade)?;
    Ok(stream)
}

/// Checks that an answer's head agrees to all that was asked.
fn agreed(answer: &[u8], upgrade: Upgrade<'_>) -> io::Result<()> {
    accepted(answer)?;
    if upgrade.compression && !String::from_utf8_lossy(answer).contains(EXTENSION) {
        return Err(io::Error::other("the server does not agree to compression"));
    }
    Ok(())
}

/// Returns the user id of viewer number `index`.
pub(crate) fn name(index: usize) -> String {
    format!("viewer-{index:08}")
}

impl Upgrade<'_> {
    /// Returns the upgrade request.
    pub(super) fn request(self, server: SocketAddr) -> String {
        let mut key = [0; 16];
        fastrand::fill(&mut key);
        let key = STANDARD.encode(key);
        let path = self.path;
        let protocol = self.token.map_or_else(String::new, |token| {
            format!("Sec-WebSocket-Protocol: {token}\r\n")
        });
        let extensions = if self.compression {
            format!("Sec-WebSocket-Extensions: {EXTENSION}; client_max_window_bits\r\n")
        } else {
            String::new()
        };
        format!(
            "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{protocol}{extensions}\r\n"
        )
    }
}

/// Checks that an answer's head says `101`.
///
/// # Errors
///
/// `ConnectionRefused` with the status line otherwise.
pub(super) fn accepted(answer: &[u8]) -> io::Result<()> {
    if answer.starts_with(b"HTTP/1.1 101 ") {
        return Ok(());
    }
    let status = answer.split(|byte| *byte == b'\r').next();
    let status = String::from_utf8_lossy(status.unwrap_or_default());
    Err(io::Error::new(
        io::ErrorKind::ConnectionRefused,
        format!("the server answered {status}"),
    ))
}

/// Connects viewer number `index` to `server`, whichever protocol it speaks. The socket is
/// blocking.
pub(super) fn dial(server: SocketAddr, index: usize) -> io::Result<TcpStream> {
    if !server.ip().is_loopback() {
        return prepared(TcpStream::connect_timeout(&server, PATIENCE)?);
    }
    let socket = socket_for(server, index, SocketFlags::empty())?;
    connect(&socket, &server)?;
    prepared(socket.into())
}

fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Begins to connect viewer number `index`. The socket is non-blocking, and writable once it is
/// connected.
pub(super) fn begin(server: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = socket_for(server, index, SocketFlags::NONBLOCK)?;
    match connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

/// Makes a socket. If the server is on loopback, each 20,000 viewers have a source address of their
/// own.
fn socket_for(server: SocketAddr, index: usize, flags: SocketFlags) -> io::Result<OwnedFd> {
    let family = if server.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = flags | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    let block = u8::try_from(index / VIEWERS_PER_ADDRESS % 250).expect("below 250");
    if server.is_ipv4() && server.ip().is_loopback() && block > 0 {
        let source = SocketAddrV4::new(Ipv4Addr::new(127, 0, block + 1, 1), 0);
        bind(&socket, &source)?;
    }
    Ok(socket)
}

/// Cuts a connection by a reset, which leaves no port in TIME_WAIT.
pub(crate) fn reset(stream: impl AsFd) -> io::Result<()> {
    reset_when_dropped(&stream)
}

/// Has a connection be cut by a reset when its socket is dropped.
pub(crate) fn reset_when_dropped(stream: impl AsFd) -> io::Result<()> {
    set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}
