//! A connection on which nothing waits for ever.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A broker that is silent for this long is reported as such.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Connects.
///
/// # Errors
///
/// Nobody answers in time.
pub(super) fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, SILENCE_MAX)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    Ok(stream)
}
