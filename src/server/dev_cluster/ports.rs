//! The addresses of `uproar dev --cluster`, all on loopback. They are fixed, so that scripts can rely on them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::fault::DevClusterError;

/// Nodes, and as many brokers.
pub(crate) const MEMBERS: u16 = 3;
/// The page to break them on.
pub(crate) const PAGE: u16 = 8085;
/// Between the ports of one node and the next.
const STEP: u16 = 100;

/// The ports of a node and of the broker with its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    /// From 1.
    pub(crate) number: u16,
    /// The node's, for viewers.
    pub(crate) messaging: u16,
    /// The node's, for the API.
    pub(crate) control: u16,
    /// The broker's, for nodes.
    pub(crate) broker: u16,
    /// The broker's, for the other brokers.
    pub(super) routes: u16,
    /// The broker's, for HTTP. `uproar doctor --cluster` looks for it 4000 above `broker`, as 8222 is above 4222.
    pub(super) monitoring: u16,
}

/// Those of one number, from 1.
pub(super) fn member(number: u16) -> Member {
    let offset = STEP * (number - 1);
    Member {
        number,
        messaging: 8080 + offset,
        control: 8081 + offset,
        broker: 8082 + offset,
        routes: 8083 + offset,
        monitoring: 12082 + offset,
    }
}

/// Those of all.
pub(crate) fn all() -> impl Iterator<Item = Member> {
    (1..=MEMBERS).map(member)
}

/// On this machine.
pub(super) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Whether all can be bound. Said before anything is started, for the first that cannot.
pub(super) fn must_be_free() -> Result<(), DevClusterError> {
    let of = |ports: Member| {
        let Member {
            messaging, control, ..
        } = ports;
        [
            messaging,
            control,
            ports.broker,
            ports.routes,
            ports.monitoring,
        ]
    };
    for port in all().flat_map(of).chain([PAGE]) {
        // The standard library lets it be bound again at once after its last use.
        TcpListener::bind(local(port)).map_err(|cause| DevClusterError::Port { port, cause })?;
    }
    Ok(())
}
