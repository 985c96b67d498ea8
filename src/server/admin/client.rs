//! The commands' side: one order, its progress, its answer.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{self, Timeout};
use serde_json::Value;

use super::message::{Answer, Order, Refusal};
use super::socket::{self, Received};
use crate::net::pass::{Connection, Message, PassError};
use uproar_proto::base::limits::{ADMIN_MESSAGE_BYTES_MAX, ADMIN_SILENCE_MAX};

/// Why an order was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No server runs on the data directory.
    #[error(
        "no server serves in {0}; name its directory with --data-dir, or its configuration with --config"
    )]
    NoServer(PathBuf),
    /// A server runs, but nothing can be said to it.
    #[error(
        "a server{} serves in {data_dir}, but its admin.sock is gone: somebody has deleted it, or its file system has no \
         sockets. SIGTERM, SIGHUP and SIGUSR2 still work; the next start makes it anew",
        process(*.holder)
    )]
    NoSocket {
        /// The data directory.
        data_dir: PathBuf,
        /// The server's process, if it is known.
        holder: Option<u32>,
    },
    /// The socket cannot be used.
    #[error("admin.sock in {data_dir}: {cause}. Run the command as the server's user, or as root")]
    Socket {
        /// The data directory.
        data_dir: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The server says nothing.
    #[error(
        "the server has said nothing for {0:?}: its control thread hangs, or the order takes longer; /livez tells"
    )]
    Silent(Duration),
    /// The server ended the connection without an answer.
    #[error("the server ended without an answer; its log says why")]
    Ended,
    /// The server answered what this program does not understand.
    #[error("the server's answer is not understood, it may be of another version: {0}")]
    Foreign(String),
    /// The server refused.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

/// Gives an order to the server of `data_dir`, and returns its answer. Waits for it, and shows progress.
///
/// # Errors
///
/// Each way to get no answer, or a refusal.
pub(crate) fn ask(
    data_dir: &Path,
    order: &Order,
    show: impl FnMut(&Value),
) -> Result<Value, AskError> {
    ask_within(ADMIN_SILENCE_MAX, data_dir, order, show)
}

/// Like [`ask`], for an order that is answered at once: gives up after `silence`.
///
/// # Errors
///
/// As [`ask`].
pub(crate) fn ask_within(
    silence: Duration,
    data_dir: &Path,
    order: &Order,
    mut show: impl FnMut(&Value),
) -> Result<Value, AskError> {
    let fail = |cause: io::Error| AskError::Socket {
        data_dir: data_dir.to_owned(),
        cause,
    };
    let server = connect(data_dir)?;
    for direction in [Timeout::Recv, Timeout::Send] {
        sockopt::set_socket_timeout(&server, direction, Some(silence))
            .map_err(|error| fail(error.into()))?;
    }
    let message = serde_json::to_vec(order).expect("texts and numbers");
    let sent = socket::send(&server, &message);
    loop {
        let mut received = socket::receive(&server);
        if matches!(&received, Err(error) if error.kind() == io::ErrorKind::ConnectionReset) {
            // The server refused before it read the order. The kernel tells of that first, once.
            received = socket::receive(&server);
        }
        let received = received.map_err(|cause| {
            if cause.kind() == io::ErrorKind::WouldBlock {
                AskError::Silent(silence)
            } else {
                fail(cause)
            }
        })?;
        let message = match received {
            Received::Message(message) => message,
            Received::TooLong => return Err(AskError::Foreign("it is too long".to_owned())),
            Received::End => return Err(sent.map_or_else(fail, |()| AskError::Ended)),
        };
        let answer = serde_json::from_slice(&message);
        match answer.map_err(|_| AskError::Foreign(String::from_utf8_lossy(&message).into()))? {
            Answer::Progress(progress) => show(&progress),
            Answer::Ok(outcome) => return Ok(outcome),
            Answer::Error(refusal) => return Err(AskError::Refused(refusal)),
        }
    }
}

fn connect(data_dir: &Path) -> Result<OwnedFd, AskError> {
    let unreachables = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    socket::connect(data_dir).map_err(|cause| {
        if unreachables.contains(&cause.kind()) {
            return unreachable(data_dir);
        }
        AskError::Socket {
            data_dir: data_dir.to_owned(),
            cause,
        }
    })
}

/// Orders a member for a room; returns what the server tells of the room, and the member's connection: a stream whose
/// first bytes are the answer to an upgrade, then WebSocket.
///
/// # Errors
///
/// As [`ask`].
pub(crate) fn ask_to_join(data_dir: &Path, order: &Order) -> Result<(Value, OwnedFd), AskError> {
    let fail = |cause: io::Error| AskError::Socket {
        data_dir: data_dir.to_owned(),
        cause,
    };
    let pass = |error: PassError| match error {
        PassError::Late => AskError::Silent(ADMIN_SILENCE_MAX),
        PassError::Ended => AskError::Ended,
        other @ (PassError::Length { .. }
        | PassError::Descriptors(_)
        | PassError::Lost
        | PassError::OnTheWay
        | PassError::Kernel(_)) => fail(io::Error::other(other.to_string())),
    };
    let connection = Connection::from(connect(data_dir)?);
    #[expect(
        clippy::disallowed_methods,
        reason = "a command's deadline of a system call"
    )]
    let deadline = Instant::now() + ADMIN_SILENCE_MAX;
    let message = serde_json::to_vec(order).expect("texts and numbers");
    connection.send(&message, &[], deadline).map_err(pass)?;
    let received = connection.receive(ADMIN_MESSAGE_BYTES_MAX, deadline);
    let Message { bytes, descriptors } = received.map_err(pass)?;
    let foreign = || AskError::Foreign(String::from_utf8_lossy(&bytes).into_owned());
    match serde_json::from_slice(&bytes).map_err(|_| foreign())? {
        Answer::Error(refusal) => Err(AskError::Refused(refusal)),
        Answer::Ok(told) => {
            let member = descriptors.into_iter().next();
            Ok((told, member.ok_or_else(foreign)?))
        }
        Answer::Progress(_) => Err(foreign()),
    }
}

/// Asks the server of `data_dir` to be taken over, and returns the connection, on which that protocol follows.
///
/// # Errors
///
/// `NotFound` or `ConnectionRefused` if nobody listens there; else the kernel's.
pub(in crate::server) fn order_take_over(data_dir: &Path) -> io::Result<OwnedFd> {
    let server = socket::connect(data_dir)?;
    let message = serde_json::to_vec(&Order::TakeOver {}).expect("a name");
    socket::send(&server, &message)?;
    Ok(server)
}

/// The message of a refusal that a server said instead of another protocol's answer.
pub(in crate::server) fn refusal_in(text: &str) -> Option<String> {
    match serde_json::from_str(text).ok()? {
        Answer::Error(refusal) => Some(refusal.message),
        Answer::Progress(_) | Answer::Ok(_) => None,
    }
}

/// Why nobody listens.
fn unreachable(data_dir: &Path) -> AskError {
    let data_dir = data_dir.to_owned();
    if !is_served(&data_dir) {
        return AskError::NoServer(data_dir);
    }
    let holder = fs::read_to_string(data_dir.join("lock")).ok();
    let holder = holder.and_then(|holder| holder.trim().parse().ok());
    AskError::NoSocket { data_dir, holder }
}

/// Whether a server holds the data directory.
pub(in crate::server) fn is_served(data_dir: &Path) -> bool {
    // Asking the kernel for the lock would take it, and stop a server that starts at this instant.
    let held = fs::metadata(data_dir.join("lock"))
        .ok()
        .zip(fs::read_to_string("/proc/locks").ok());
    held.is_some_and(|(lock, all)| {
        let inode = format!(":{} ", lock.ino());
        let mut locks = all.lines();
        locks.any(|line| line.contains(" FLOCK ") && line.contains(&inode))
    })
}

fn process(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |id| format!(" (process {id})"))
}
