//! The server's side: takes connections, and from each one order.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::message::{Answer, Order, Refusal, RefusalCode};
use super::reply::{Peer, Reply};
use super::socket::{self, Received};
use crate::durable;
use uproar_proto::base::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_MESSAGE_BYTES_MAX, ADMIN_ORDER_MAX};

/// Pause after a failed accept, mostly for lack of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The listening socket; its file is removed when this is dropped.
#[derive(Debug)]
pub(in crate::server) struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Listens in a data directory whose lock this process holds, so that a socket found there is that
    /// of a server which was killed. Call within the runtime.
    ///
    /// # Errors
    ///
    /// The kernel's, above all that the file system has no sockets.
    pub(in crate::server) fn listen(data_dir: &Path) -> io::Result<Self> {
        let path = socket::path_in(data_dir);
        durable::remove(&path)?;
        let listener = UnixListener::from_std(socket::listen(data_dir)?.into())?;
        Ok(Self { listener, path })
    }

    /// Takes orders for as long as it is polled.
    pub(in crate::server) async fn serve(self, orders: mpsc::Sender<(Order, Reply)>) -> Infallible {
        let slots = Rc::new(());
        loop {
            let Ok((socket, _)) = self.listener.accept().await else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            let slot = Rc::clone(&slots);
            let peer = Peer { socket, slot };
            // The listener's own reference is one, too.
            if Rc::strong_count(&slots) > 1 + ADMIN_CONNECTIONS_MAX {
                let message = format!(
                    "{ADMIN_CONNECTIONS_MAX} commands are connected already; end one that waits"
                );
                let refusal = Refusal::new(RefusalCode::Busy, message);
                // Unread, its order would make the kernel tell it of a reset instead of the refusal.
                let _unread = socket::receive(&peer.socket);
                peer.answer(&Answer::Error(refusal));
                continue;
            }
            tokio::task::spawn_local(take(peer, orders.clone()));
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // A file that stays is replaced by the next start.
        let _stays = durable::remove(&self.path);
    }
}

/// Takes a connection's order, and hands it on.
async fn take(peer: Peer, orders: mpsc::Sender<(Order, Reply)>) {
    match order(&peer).await {
        Ok(Some(order)) => {
            // A server that is ending takes none: the connection ends unanswered.
            let _ending = orders.send((order, Reply::Command(peer))).await;
        }
        Ok(None) => {}
        Err(refusal) => peer.answer(&Answer::Error(refusal)),
    }
}

/// Receives the order; `None`: the peer went without one.
async fn order(peer: &Peer) -> Result<Option<Order>, Refusal> {
    if !socket::may_order(&peer.socket).unwrap_or(false) {
        let user = rustix::process::geteuid();
        let message = format!("only root and the server's user, {user}, may give it orders");
        return Err(Refusal::new(RefusalCode::Forbidden, message));
    }
    let socket = &peer.socket;
    let received = socket.async_io(Interest::READABLE, || socket::receive(socket));
    let received = tokio::time::timeout(ADMIN_ORDER_MAX, received).await;
    let received = received.map_err(|_elapsed| {
        let message = format!("no order came within {ADMIN_ORDER_MAX:?}");
        Refusal::new(RefusalCode::Late, message)
    })?;
    match received {
        Ok(Received::Message(message)) => match serde_json::from_slice(&message) {
            Ok(order) => Ok(Some(order)),
            Err(error) => Err(Refusal::new(RefusalCode::Malformed, error)),
        },
        Ok(Received::TooLong) => {
            let message = format!("the message is longer than {ADMIN_MESSAGE_BYTES_MAX} bytes");
            Err(Refusal::new(RefusalCode::TooLong, message))
        }
        Ok(Received::End) | Err(_) => Ok(None),
    }
}
