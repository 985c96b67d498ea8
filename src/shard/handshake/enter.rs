//! An accepted upgrade enters its shard, or is told why it may not.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::acceptor::Acceptor;
use super::log;
use super::stream::{HandshakeStream, within_deadline};
use super::upgrade::AcceptedUpgrade;
use crate::net::socket;
use crate::net::stream::{self, Hosted};
use crate::shard::command::{AdmitError, PendingConnection};
use uproar_proto::chat::ErrorCode;
use uproar_proto::http;

/// Hands `upgrade` to this thread's shard if its address may have one more connection.
pub(crate) fn enter<B: Hosted>(
    acceptor: &Rc<Acceptor<B>>,
    upgrade: AcceptedUpgrade,
    socket: OwnedFd,
) {
    let mut pending = Box::new(upgrade.attach(socket));
    if let Some(holder) = acceptor.holder(pending.ip) {
        let now = acceptor.clock.now().tick;
        let share = acceptor.shares.borrow_mut().connect(holder, now);
        let Ok(share) = share else {
            acceptor.shard.metrics.rejected_address.inc();
            let error = AdmitError::TooManyOfAddress;
            stream::spawn(reject(pending, error, Rc::clone(acceptor)));
            return;
        };
        pending.share = share;
    }
    let shard = &acceptor.shard;
    shard.core.borrow_mut().enter(pending);
    shard.bell.ring_by(|| shard.wake.notify_one());
}

/// Answers a connection that its room's home shard did not admit, and closes it.
pub(crate) async fn reject<B: Hosted>(
    pending: Box<PendingConnection<OwnedFd>>,
    error: AdmitError,
    acceptor: Rc<Acceptor<B>>,
) {
    let id = acceptor.ids.borrow_mut().next_id();
    log::log_not_admitted(&acceptor, &pending, error, id);
    let PendingConnection {
        socket, tls, ip, ..
    } = *pending;
    if !acceptor.is_answered(ip) {
        // A failure means that the peer closed first.
        let _gone = socket::reset_at_close(&socket);
        return;
    }
    let Some(stream) = acceptor.stream(socket) else {
        return;
    };
    let Some(place) = acceptor.take_place(ip, acceptor.holder(ip), &stream) else {
        return;
    };
    let (status, code) = status(error);
    let mut answer = Vec::new();
    http::refusal(&mut answer, status, id, code.number(), &error.to_string());
    let mut peer = HandshakeStream::new(&*stream, Vec::new());
    peer.tls = tls;
    let farewell = async {
        let _gone = peer.write(answer).await;
        peer.end().await;
    };
    within_deadline(&*stream, farewell).await;
    acceptor.leave(place);
}

/// Status and error code of the answer.
fn status(error: AdmitError) -> (u16, ErrorCode) {
    let code = match error {
        AdmitError::TokenUsed => ErrorCode::Unauthorized,
        AdmitError::NoSuchRoom => ErrorCode::NotFound,
        AdmitError::Banned => ErrorCode::Forbidden,
        AdmitError::TooManyConnections
        | AdmitError::TooManyTokens
        | AdmitError::TooManyOfAddress
        | AdmitError::Busy => ErrorCode::TooManyRequests,
        AdmitError::NotRecorded => ErrorCode::Internal,
        // A balancer may try it elsewhere.
        AdmitError::Unconfirmed => return (503, ErrorCode::Internal),
    };
    (code.number(), code)
}
