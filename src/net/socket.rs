//! Listening sockets and the options of accepted ones.
#![expect(unsafe_code, reason = "an option no safe library sets")]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use libc::{IPPROTO_TCP, TCP_DEFER_ACCEPT, TIOCOUTQ, c_int, ioctl, setsockopt, socklen_t};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, listen, socket_with, sockopt,
};

use uproar_proto::base::limits::{
    ACCEPT_BACKLOG, ACCEPT_DEFERRED, SOCKET_SEND_BYTES, UNACKNOWLEDGED_MAX,
};

/// Binds `address` without port sharing: fails with `AddrInUse` while another process has it. With
/// `SO_REUSEPORT` a second server would silently take half of the connections.
pub(crate) fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    open(address, false)?.local_addr()
}

/// Makes a listener that does not share its port.
pub(crate) fn listen_alone(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = open(address, false)?;
    prepare_control(&listener)?;
    Ok(listener)
}

/// Makes a messaging listener, which shares its port with those of the other shards.
pub(crate) fn listen_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = open(address, true)?;
    prepare_messaging(&listener)?;
    Ok(listener)
}

/// Sets the options of the control listener and listens; also on a socket that listens already, which then has our
/// options and backlog whoever made it.
pub(crate) fn prepare_control(listener: &TcpListener) -> io::Result<()> {
    bound_orphans(listener)?;
    Ok(listen(listener, ACCEPT_BACKLOG)?)
}

/// Like [`prepare_control`], for a messaging listener. Accepted connections inherit no Nagle delay and a bounded
/// kernel send buffer, which saves two system calls for each handshake.
pub(crate) fn prepare_messaging(listener: &TcpListener) -> io::Result<()> {
    sockopt::set_tcp_nodelay(listener, true)?;
    // The kernel doubles the figure for its own bookkeeping.
    sockopt::set_socket_send_buffer_size(listener, SOCKET_SEND_BYTES / 2)?;
    bound_orphans(listener)?;
    defer_accept(listener)?;
    Ok(listen(listener, ACCEPT_BACKLOG)?)
}

/// A descriptor that the process was given, if it is a listening TCP socket.
///
/// # Errors
///
/// What it is instead.
pub(crate) fn listening(descriptor: OwnedFd) -> io::Result<TcpListener> {
    let family = sockopt::socket_domain(&descriptor)?;
    let is_ip = family == AddressFamily::INET || family == AddressFamily::INET6;
    let is_tcp = is_ip && sockopt::socket_type(&descriptor)? == SocketType::STREAM;
    if is_tcp && sockopt::socket_acceptconn(&descriptor)? {
        return Ok(TcpListener::from(descriptor));
    }
    Err(io::Error::other("it is no listening TCP socket"))
}

/// Whether `listener` hears connections to `wanted`; port 0: any. One on `[::]` may hear IPv4, too.
pub(crate) fn hears(listener: &TcpListener, wanted: SocketAddr) -> io::Result<bool> {
    let bound = listener.local_addr()?;
    let both = || {
        let all = bound.ip().is_unspecified() && wanted.ip().is_unspecified();
        Ok::<_, io::Error>(all && bound.is_ipv6() && !sockopt::ipv6_v6only(listener)?)
    };
    let port = wanted.port() == 0 || wanted.port() == bound.port();
    Ok(port && (bound.ip() == wanted.ip() || both()?))
}

/// Makes accepted connections fail when the client acknowledges nothing for [`UNACKNOWLEDGED_MAX`], also after
/// we have closed them: by default the kernel would retry for a quarter of an hour.
fn bound_orphans(listener: &TcpListener) -> io::Result<()> {
    let millis = u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).expect("a minute");
    Ok(sockopt::set_tcp_user_timeout(listener, millis)?)
}

/// Makes a close drop the bytes that the kernel still has for the peer, and send RST.
///
/// # Errors
///
/// The kernel's error when the peer closed first.
pub(crate) fn reset_at_close(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

/// Ends our direction: sends FIN after the written bytes.
///
/// # Errors
///
/// The kernel's error when the peer closed first.
pub(crate) fn end_writing(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, rustix::net::Shutdown::Write)?)
}

/// Whether the kernel still holds bytes that the peer has not acknowledged.
pub(crate) fn has_unsent(socket: impl AsFd) -> bool {
    let mut bytes: c_int = 0;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one `c_int` to `bytes` during the call; the descriptor is open.
    let result = unsafe { ioctl(descriptor, TIOCOUTQ, &raw mut bytes) };
    result == 0 && bytes > 0
}

/// Whether bytes have arrived that nobody has read yet.
pub(crate) fn has_unread(socket: impl AsFd) -> bool {
    rustix::io::ioctl_fionread(socket).is_ok_and(|bytes| bytes > 0)
}

/// Makes the kernel hold a connection back until its first bytes have arrived, or [`ACCEPT_DEFERRED`] is over:
/// mostly the whole upgrade request has arrived when we accept, and a connection without a request takes no
/// descriptor at first.
fn defer_accept(listener: &TcpListener) -> io::Result<()> {
    let seconds = c_int::try_from(ACCEPT_DEFERRED.as_secs()).unwrap_or(1);
    let len = socklen_t::try_from(size_of::<c_int>()).expect("four bytes");
    // SAFETY: the kernel reads `len` bytes of `seconds` during the call; the descriptor is open.
    let result = unsafe {
        setsockopt(
            listener.as_raw_fd(),
            IPPROTO_TCP,
            TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            len,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Receives the bytes that have arrived and fit into `buffer`; returns their count, 0 at the end of the stream,
/// `None` if none have arrived.
///
/// # Errors
///
/// The kernel's error when the peer has reset the connection.
pub(crate) fn receive_now(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT) {
        Ok((_, len)) => Ok(Some(len)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shared)?;
    bind(&socket, &address)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Goal: an accepted connection has its options from its listener. Method: ask the kernel.
    #[test]
    fn accepted_connections_inherit_their_options() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = listen_shared(address).expect("loopback");
        let bound = listener.local_addr().expect("bound");
        let mut client = std::net::TcpStream::connect(bound).expect("listening");
        client.write_all(b"G").expect("open");
        let (accepted, _) = listener.accept().expect("a client");
        assert!(sockopt::tcp_nodelay(&accepted).expect("a socket"));
        let requested = sockopt::socket_send_buffer_size(&listener).expect("a socket");
        let got = sockopt::socket_send_buffer_size(&accepted).expect("a socket");
        assert_eq!(got, requested);
        // `net.core.wmem_max` may lower it.
        assert!(
            got <= SOCKET_SEND_BYTES && got > SOCKET_SEND_BYTES / 8,
            "{got}"
        );
    }

    /// Goal: a client that sends is accepted with its bytes, a silent one a little later. Method: both connect,
    /// the silent one first.
    #[test]
    fn a_connection_is_accepted_with_its_first_bytes() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = listen_shared(address).expect("loopback");
        let bound = listener.local_addr().expect("bound");
        let silent = std::net::TcpStream::connect(bound).expect("listening");
        let mut sender = std::net::TcpStream::connect(bound).expect("listening");
        sender.write_all(b"GET").expect("open");
        let mut buffer = [0; 8];
        let mut ours = Vec::new();
        for (client, received) in [(&sender, Some(3)), (&silent, None)] {
            let (accepted, peer) = listener.accept().expect("a client");
            assert_eq!(peer, client.local_addr().expect("connected"));
            let accepted = OwnedFd::from(accepted);
            assert_eq!(receive_now(&accepted, &mut buffer).expect("open"), received);
            ours.push(accepted);
        }
        assert_eq!(&buffer[..3], b"GET");
        drop(sender);
        let end = std::iter::repeat_with(|| receive_now(&ours[0], &mut buffer))
            .find_map(|read| read.expect("an orderly end"));
        assert_eq!(end, Some(0));
    }
}
