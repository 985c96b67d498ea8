//! One viewer: a WebSocket connection made with a chat token.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_linger, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use uproar_proto::ws::client::masked_frame;

/// Longest answer to an upgrade request.
pub(super) const ANSWER_BYTES_MAX: usize = 4096;
/// For connecting and for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Viewers that share one source address: below the 28,232 ports of Linux's default range.
const VIEWERS_PER_ADDRESS: usize = 20_000;

/// What a viewer asks for in its upgrade request.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Names the room of a server without tokens.
    pub path: &'a str,
    /// Goes into `Sec-WebSocket-Protocol`.
    pub token: Option<&'a str>,
    /// Offers permessage-deflate; the server must agree.
    pub compression: bool,
}

/// Opens a connection to `server` as viewer number `index` and shakes hands. The socket is blocking.
///
/// # Errors
///
/// The kernel's, or `ConnectionRefused` with the server's status line.
pub fn open(server: SocketAddr, ask: Ask<'_>, index: usize) -> io::Result<TcpStream> {
    shake_hands(dial(server, index)?, server, ask)
}

/// The same with a receive buffer of at least `receive_bytes` for a server on loopback: whoever does not
/// read must hold all that comes. Without the right to force it, `net.core.rmem_max` is its bound.
pub(super) fn open_deep(
    server: SocketAddr,
    ask: Ask<'_>,
    index: usize,
    receive_bytes: usize,
) -> io::Result<TcpStream> {
    let socket = socket_for(server, index, SocketFlags::empty())?;
    // Before connecting: the window is scaled and bounded by it from then on.
    if set_socket_recv_buffer_size_force(&socket, receive_bytes).is_err() {
        set_socket_recv_buffer_size(&socket, receive_bytes)?;
    }
    connect(&socket, &server)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    shake_hands(stream, server, ask)
}

fn shake_hands(mut stream: TcpStream, server: SocketAddr, ask: Ask<'_>) -> io::Result<TcpStream> {
    stream.write_all(ask.request(server).as_bytes())?;
    let mut answer = [0; ANSWER_BYTES_MAX];
    let mut len = 0;
    // Byte by byte at the end only: nothing behind the head may be swallowed.
    while !answer[..len].ends_with(b"\r\n\r\n") {
        let Some(place) = answer.get_mut(len..=len) else {
            return Err(io::Error::other("the answer to the upgrade is too long"));
        };
        stream.read_exact(place)?;
        len += 1;
    }
    accepted(&answer[..len])?;
    if ask.compression && !String::from_utf8_lossy(&answer[..len]).contains(EXTENSION) {
        return Err(io::Error::other("the server does not agree to compression"));
    }
    Ok(stream)
}

/// The user id of viewer number `index`.
pub(super) fn name(index: usize) -> String {
    format!("viewer-{index:08}")
}

impl Ask<'_> {
    /// The upgrade request.
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

/// Whether the answer is a `101`; otherwise `ConnectionRefused` with the status line.
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

/// A blocking connection as viewer number `index`, to a server of any dialect.
pub(super) fn dial(server: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let stream = dial_from(server, index)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn dial_from(server: SocketAddr, index: usize) -> io::Result<TcpStream> {
    if !server.ip().is_loopback() {
        return TcpStream::connect_timeout(&server, PATIENCE);
    }
    let socket = socket_for(server, index, SocketFlags::empty())?;
    connect(&socket, &server)?;
    Ok(TcpStream::from(socket))
}

/// Begins to connect; the socket is non-blocking and writable once it is connected.
pub(super) fn begin(server: SocketAddr, index: usize) -> io::Result<TcpStream> {
    let socket = socket_for(server, index, SocketFlags::NONBLOCK)?;
    match connect(&socket, &server) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error.into()),
    }
}

/// A socket with an address of its own for every 20,000 viewers, if the server is on loopback.
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

/// Cuts a connection as a lost network does in the end: by a reset, which leaves no port waiting.
pub(super) fn reset(stream: TcpStream) -> io::Result<()> {
    reset_when_dropped(&stream)
}

/// The same, once it is dropped.
pub(super) fn reset_when_dropped(stream: &TcpStream) -> io::Result<()> {
    set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}

/// Appends a frame as clients must send them, masked at random.
pub fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let mask = fastrand::u32(..).to_ne_bytes();
    masked_frame(out, FIN | opcode, payload, mask);
}

/// The first byte's bit that says that a frame is a whole message.
const FIN: u8 = 0x80;
const EXTENSION: &str = "permessage-deflate";
/// Opcode of a text frame.
pub const TEXT: u8 = 1;
/// Opcode of a pong.
pub const PONG: u8 = 10;
