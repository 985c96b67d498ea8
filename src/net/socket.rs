//! Listening sockets and the options of accepted ones.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

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

/// A listener that shares its port with the listeners of the other shards.
pub fn listen_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = open(address, true)?;
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

/// Options of an accepted connection: no Nagle delay, and a bounded kernel send buffer.
pub fn prepare(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    // The kernel doubles the figure for its own bookkeeping.
    sockopt::set_socket_send_buffer_size(&socket, SOCKET_SEND_BYTES / 2)?;
    Ok(())
}
