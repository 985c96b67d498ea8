//! The way back to whoever gave an order.

use std::fmt::Debug;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use serde::Serialize;
use serde_json::Value;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::message::{Answer, Refusal};
use super::socket::send;
use uproar_proto::base::limits::ADMIN_ANSWER_MAX;

/// Where progress and the one final answer of an order go. Dropped without an answer, it ends the
/// connection, which its command reports.
#[derive(Debug)]
pub(in crate::server) enum Reply {
    /// To a command on the admin socket.
    Command(Peer),
    /// To nobody: a signal gave the order, the log gets the answer.
    Signal(&'static str),
    /// To a call of the API, which waits for it; the log gets the answer if it has not waited.
    Call(oneshot::Sender<Result<Value, Refusal>>),
}

/// A connection to the admin socket, which counts as open while this lives.
#[derive(Debug)]
pub(in crate::server) struct Peer {
    // Of kind SEQPACKET; tokio has no type for those. Only `socket::receive` and `send` use it.
    pub(super) socket: UnixStream,
    /// One reference for each open connection.
    pub(super) slot: Rc<()>,
}

impl Reply {
    /// Tells of progress. A command that does not read misses it: the order must not wait for it.
    pub(in crate::server) fn progress(&self, progress: &impl Serialize) {
        if let Self::Command(peer) = self {
            let message = encode(&Answer::Progress(value(progress)));
            let _unread = send(&peer.socket, &message);
        }
    }

    /// The order is done, and this process ends behind it: a command that does not read at once misses it.
    pub(in crate::server) fn last(&self, outcome: &impl Serialize) {
        if let Self::Command(peer) = self {
            let _unread = send(&peer.socket, &encode(&Answer::Ok(value(outcome))));
        }
    }

    /// The order is done.
    pub(in crate::server) fn ok(self, outcome: &(impl Serialize + Debug)) {
        match self {
            Self::Command(peer) => peer.answer(&Answer::Ok(value(outcome))),
            Self::Signal(signal) => tracing::info!(signal, ?outcome, "order done"),
            Self::Call(answer) => {
                if answer.send(Ok(value(outcome))).is_err() {
                    tracing::info!(?outcome, "order of a call done");
                }
            }
        }
    }

    /// The order is not done.
    pub(in crate::server) fn refuse(self, refusal: Refusal) {
        match self {
            Self::Command(peer) => peer.answer(&Answer::Error(refusal)),
            Self::Signal(signal) => {
                let Refusal { code, message } = refusal;
                tracing::warn!(signal, ?code, "order not done: {message}");
            }
            Self::Call(answer) => {
                if let Err(Err(Refusal { code, message })) = answer.send(Err(refusal)) {
                    tracing::warn!(?code, "order of a call not done: {message}");
                }
            }
        }
    }

    /// Answers either way.
    pub(in crate::server) fn answer<T: Serialize + Debug>(self, outcome: Result<T, Refusal>) {
        match outcome {
            Ok(outcome) => self.ok(&outcome),
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// The connection itself, for an order that speaks a protocol of its own on it.
    pub(in crate::server) fn into_socket(self) -> Result<OwnedFd, Self> {
        match self {
            Self::Command(Peer { socket, .. }) => match socket.into_std() {
                Ok(socket) => Ok(socket.into()),
                // The runtime gives no socket back only if it never had it.
                Err(_) => Err(Self::Signal("a lost connection")),
            },
            Self::Signal(_) | Self::Call(_) => Err(self),
        }
    }
}

impl Peer {
    /// Sends the final answer, and waits beside everything else for a command that does not read at once.
    pub(super) fn answer(self, answer: &Answer) {
        let message = encode(answer);
        match send(&self.socket, &message) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::task::spawn_local(async move {
                    let socket = &self.socket;
                    let sent = socket.async_io(Interest::WRITABLE, || send(socket, &message));
                    let _unread = tokio::time::timeout(ADMIN_ANSWER_MAX, sent).await;
                    drop(self.slot);
                });
            }
            // Sent, or the command has gone.
            _ => {}
        }
    }
}

fn value(told: &impl Serialize) -> Value {
    serde_json::to_value(told).expect("structs of texts and numbers")
}

fn encode(answer: &Answer) -> Vec<u8> {
    serde_json::to_vec(answer).expect("structs of texts and numbers")
}
