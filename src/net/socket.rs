//! Listening sockets and the options of accepted ones.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

use crate::base::limits::{ACCEPT_BACKLOG, SOCKET_SEND_BYTES};

/// Binds `address` alone, without port sharing: fails with `AddrInUse` while anybody else has it.
/// With `SO_REUSEPORT` a second server would silently take half of the connections.
pub fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    open(address, false)?.local_addr()
}

/// A listener that has its port alone.
pub fn listen_alone(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = open(address, false)?;
    listen(&listener, ACCEPT_BACKLOG)?;
    Ok(listener)
}

/// A listener that shares its port with the listeners of the other shards. What it accepts inherits no
/// Nagle delay and a bounded kernel send buffer: two system calls less for each handshake.
pub fn listen_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = open(address, true)?;
    sockopt::set_tcp_nodelay(&listener, true)?;
    // The kernel doubles the figure for its own bookkeeping.
    sockopt::set_socket_send_buffer_size(&listener, SOCKET_SEND_BYTES / 2)?;
    listen(&listener, ACCEPT_BACKLOG)?;
    Ok(listener)
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

    /// Goal: an accepted connection has its options from its listener. Method: ask the kernel.
    #[test]
    fn accepted_connections_inherit_their_options() {
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = listen_shared(address).expect("loopback");
        let bound = listener.local_addr().expect("bound");
        let _client = std::net::TcpStream::connect(bound).expect("listening");
        let (accepted, _) = listener.accept().expect("a client");
        assert!(sockopt::tcp_nodelay(&accepted).expect("a socket"));
        let asked = sockopt::socket_send_buffer_size(&listener).expect("a socket");
        let got = sockopt::socket_send_buffer_size(&accepted).expect("a socket");
        assert_eq!(got, asked);
        // `net.core.wmem_max` may lower it.
        assert!(
            got <= SOCKET_SEND_BYTES && got > SOCKET_SEND_BYTES / 8,
            "{got}"
        );
    }
}
