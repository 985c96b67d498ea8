//! What brokers tell anybody who connects, without credentials: for `uproar cluster status` and `uproar doctor --cluster`.
//!
//! A broker greets each connection with its name, version and limits, before TLS. Its monitoring port, if it has one, knows
//! the rest: whether each record is synced, its disk, its clock. Calls wait, for at most a few seconds a broker.

mod dial;
mod greeting;
mod monitoring;
mod process;

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;

pub use greeting::Greeting;
pub use monitoring::Monitoring;

/// From a broker's port to that of its monitoring, as from 4222 to 8222.
const MONITORING_ABOVE: u16 = 4000;

/// What is known of one broker.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Its URL, as configured.
    pub server: String,
    /// What it says; or why it says nothing.
    pub greeting: Result<Greeting, String>,
    /// Its process, if it runs on this machine and may be looked at.
    pub pid: Option<u32>,
    /// What its monitoring port says; or why that says nothing, if only that it was not asked.
    pub monitoring: Result<Monitoring, String>,
}

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The greeting.
    Greeting,
    /// The monitoring port, too.
    Monitoring,
}

/// Asks all brokers at once.
pub fn brokers(servers: &[String], depth: Depth) -> Vec<Broker> {
    thread::scope(|scope| {
        let asked: Vec<_> = servers
            .iter()
            .map(|server| scope.spawn(move || Broker::ask(server, depth)))
            .collect();
        let told = asked.into_iter().map(thread::ScopedJoinHandle::join);
        told.map(|broker| broker.expect("it has no bugs")).collect()
    })
}

impl Broker {
    fn ask(server: &str, depth: Depth) -> Self {
        let connected = connect(server);
        let address = connected.as_ref().ok().map(|(_, address)| *address);
        let (greeting, pid) = match connected {
            Ok((stream, address)) => {
                let is_here = stream
                    .local_addr()
                    .is_ok_and(|own| own.ip() == address.ip());
                let pid = is_here
                    .then(|| process::listening_on(address.port()))
                    .flatten();
                (
                    greeting::read(stream).map_err(|error| error.to_string()),
                    pid,
                )
            }
            Err(error) => (Err(error.to_string()), None),
        };
        let monitoring = match (address, depth) {
            (Some(address), Depth::Monitoring) => monitored(address),
            (Some(_), Depth::Greeting) => Err("it was not asked".to_owned()),
            (None, _) => Err("the broker does not answer".to_owned()),
        };
        Self {
            server: server.to_owned(),
            greeting,
            pid,
            monitoring,
        }
    }
}

fn monitored(broker: SocketAddr) -> Result<Monitoring, String> {
    let Some(port) = broker.port().checked_add(MONITORING_ABOVE) else {
        return Err(format!(
            "there is no port {MONITORING_ABOVE} above {}",
            broker.port()
        ));
    };
    let address = SocketAddr::new(broker.ip(), port);
    monitoring::read(address).map_err(|error| format!("{address}: {error}"))
}

/// Connects to `scheme://host:port`; returns the address, too.
fn connect(server: &str) -> io::Result<(TcpStream, SocketAddr)> {
    let (_, authority) = server.split_once("://").unwrap_or(("", server));
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in authority.to_socket_addrs()? {
        match dial::open(address) {
            Ok(stream) => return Ok((stream, address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}
