//! One viewer: a WebSocket connection made with a chat token.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// Longest answer to an upgrade request.
pub(super) const ANSWER_BYTES_MAX: usize = 4096;
/// For connecting and for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Viewers that share one source address: below the 28,232 ports of Linux's default range.
const VIEWERS_PER_ADDRESS: usize = 20_000;

/// Opens a connection to `server` as viewer number `index` and shakes hands; `token` goes into
/// `Sec-WebSocket-Protocol`. With `compression` that is offered, and the server must agree. The socket
/// is blocking.
///
/// # Errors
///
/// The kernel's, or `ConnectionRefused` with the server's status line.
pub fn open(
    server: SocketAddr,
    token: Option<&str>,
    compression: bool,
    index: usize,
) -> io::Result<TcpStream> {
    let mut stream = dial(server, index)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(upgrade(server, token, compression).as_bytes())?;
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
    if compression && !String::from_utf8_lossy(&answer[..len]).contains(EXTENSION) {
        return Err(io::Error::other("the server does not agree to compression"));
    }
    Ok(stream)
}

/// The user id of viewer number `index`.
pub(super) fn name(index: usize) -> String {
    format!("viewer-{index:08}")
}

/// The upgrade request.
pub(super) fn upgrade(server: SocketAddr, token: Option<&str>, compression: bool) -> String {
    let mut key = [0; 16];
    fastrand::fill(&mut key);
    let key = STANDARD.encode(key);
    let protocol = token.map_or_else(String::new, |token| {
        format!("Sec-WebSocket-Protocol: {token}\r\n")
    });
    let extensions = if compression {
        format!("Sec-WebSocket-Extensions: {EXTENSION}; client_max_window_bits\r\n")
    } else {
        String::new()
    };
    format!(
        "GET / HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{protocol}{extensions}\r\n"
    )
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

fn dial(server: SocketAddr, index: usize) -> io::Result<TcpStream> {
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
    set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(())
}

/// Appends a masked frame (RFC 6455 §5.2), as clients must send them.
pub fn frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match u16::try_from(payload.len()) {
        Ok(len @ 0..126) => out.push(0x80 | len.to_le_bytes()[0]),
        Ok(len) => {
            out.push(0x80 | 0x7E);
            out.extend(len.to_be_bytes());
        }
        Err(error) => panic!("the bench sends short frames: {error}"),
    }
    let mask = fastrand::u32(..).to_ne_bytes();
    out.extend(mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    out.extend(masked.map(|(byte, mask)| byte ^ mask));
}

const EXTENSION: &str = "permessage-deflate";
/// Opcode of a text frame.
pub const TEXT: u8 = 1;
/// Opcode of a pong.
pub const PONG: u8 = 10;
