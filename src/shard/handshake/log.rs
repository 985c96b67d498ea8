//! Log lines about refused handshakes: the user and room, if the token opens, and the `Id` that the client
//! got.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::acceptor::Acceptor;
use crate::logging::{Kind, bounded};
use crate::net::stream::Hosted;
use crate::shard::command::{AdmitError, PendingConnection};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::chat::encode;
use uproar_proto::http::{self, Request};

/// Logs a refused head. `plain` holds the received bytes: a token that opens names user and room, even after
/// it has expired.
pub(super) fn log_rejected<B: Hosted>(
    acceptor: &Acceptor<B>,
    kind: Kind,
    ip: IpAddr,
    id: FrameId,
    plain: &[u8],
    reason: &str,
) {
    let Some(suppressed) = acceptor.admit_line(kind) else {
        return;
    };
    let (reason, named) = (&*bounded(reason), name(acceptor, plain));
    let (room, user) = named.as_ref().map_or((None, None), |(room, user)| {
        (Some(tracing::field::display(room)), Some(bounded(user)))
    });
    let user = user.as_deref();
    tracing::warn!(%ip, room, user, %id, reason, suppressed, "handshake refused");
}

/// Logs a connection that its room's home shard did not admit.
pub(super) fn log_not_admitted<B: Hosted>(
    acceptor: &Acceptor<B>,
    pending: &PendingConnection<OwnedFd>,
    error: AdmitError,
    id: FrameId,
) {
    let kind = match error {
        AdmitError::TokenUsed => Kind::HandshakeUsedToken,
        AdmitError::NoSuchRoom => Kind::HandshakeNoRoom,
        AdmitError::Banned => Kind::HandshakeBanned,
        AdmitError::TooManyConnections
        | AdmitError::TooManyTokens
        | AdmitError::TooManyOfAddress
        | AdmitError::Busy => Kind::HandshakeLimit,
        AdmitError::NotRecorded | AdmitError::Unconfirmed => Kind::HandshakeFailed,
    };
    let Some(suppressed) = acceptor.admit_line(kind) else {
        return;
    };
    let (ip, room, reason) = (pending.ip, pending.room, &*error.to_string());
    let user = encode::sender_name(&pending.grant.sender_json);
    let user = &*bounded(&user);
    tracing::warn!(%ip, %room, user, %id, reason, suppressed, "handshake refused");
}

/// Logs a connection that ended without an answer.
pub(super) fn log_unanswered<B: Hosted>(
    acceptor: &Acceptor<B>,
    kind: Kind,
    ip: IpAddr,
    reason: &str,
) {
    if let Some(suppressed) = acceptor.admit_line(kind) {
        let reason = &*bounded(reason);
        tracing::warn!(%ip, reason, suppressed, "handshake refused");
    }
}

/// Returns room and user of the token in a request head if one of our keys sealed it.
fn name<B: Hosted>(acceptor: &Acceptor<B>, plain: &[u8]) -> Option<(RoomId, String)> {
    let Ok(Request::Upgrade(upgrade)) = http::parse(plain) else {
        return None;
    };
    let mut scratch = Vec::new();
    let keyring = acceptor.config.keyring.load();
    // With time zero no token has expired.
    let opened = keyring.open(upgrade.token?, &mut scratch, UnixTime::default());
    let opened = opened.ok()?;
    Some((opened.room(), opened.user_id().to_owned()))
}
