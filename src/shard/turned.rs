//! Log lines about handshakes that were refused: who it was, as far as the token tells, and which `Id` the
//! client got.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use super::command::{Newcomer, Turned};
use super::door::Door;
use crate::base::clock::UnixTime;
use crate::base::id::{FrameId, RoomId};
use crate::logging::{Kind, bounded};
use crate::protocol::chat::encode;
use crate::protocol::http::{self, Request};

/// A head that was refused. `plain` is what was received: a token that opens names user and room, also
/// when it has expired.
pub(super) fn say_rejected(
    door: &Door,
    kind: Kind,
    ip: IpAddr,
    id: FrameId,
    plain: &[u8],
    reason: &str,
) {
    let Some(suppressed) = door.admit_line(kind) else {
        return;
    };
    let (reason, named) = (&*bounded(reason), name(door, plain));
    let (room, user) = named.as_ref().map_or((None, None), |(room, user)| {
        (Some(tracing::field::display(room)), Some(bounded(user)))
    });
    let user = user.as_deref();
    tracing::warn!(%ip, room, user, %id, reason, suppressed, "handshake refused");
}

/// A newcomer that its room's home shard refused.
pub(super) fn say_turned(door: &Door, newcomer: &Newcomer<OwnedFd>, turned: Turned, id: FrameId) {
    let kind = match turned {
        Turned::TokenUsed => Kind::HandshakeUsedToken,
        Turned::NoSuchRoom => Kind::HandshakeNoRoom,
        Turned::TooManyConnections
        | Turned::TooManyTokens
        | Turned::TooManyOfAddress
        | Turned::Busy => Kind::HandshakeLimit,
        Turned::NotRecorded => Kind::HandshakeFailed,
    };
    let Some(suppressed) = door.admit_line(kind) else {
        return;
    };
    let (ip, room, reason) = (newcomer.ip, newcomer.room, &*turned.to_string());
    let user = encode::sender_name(&newcomer.grant.sender_json);
    let user = &*bounded(&user);
    tracing::warn!(%ip, %room, user, %id, reason, suppressed, "handshake refused");
}

/// A connection that ended without an answer.
pub(super) fn say_unshaken(door: &Door, kind: Kind, ip: IpAddr, reason: &str) {
    if let Some(suppressed) = door.admit_line(kind) {
        let reason = &*bounded(reason);
        tracing::warn!(%ip, reason, suppressed, "handshake refused");
    }
}

/// A connection that was given up for a newer one.
pub(super) fn say_displaced(door: &Door, ip: IpAddr) {
    if let Some(suppressed) = door.admit_line(Kind::HandshakeLimit) {
        let reason = "Too many handshakes are under way: the oldest one gave way";
        let limit = door.entrance.door.handshakes_max;
        tracing::warn!(%ip, reason, limit, suppressed, "handshake refused");
    }
}

/// Room and user of the token in a request head, if one of our keys sealed it.
fn name(door: &Door, plain: &[u8]) -> Option<(RoomId, String)> {
    let Ok(Request::Upgrade(upgrade)) = http::parse(plain) else {
        return None;
    };
    let mut scratch = Vec::new();
    let keyring = door.entrance.keyring.load();
    // At the beginning of time nothing has expired.
    let opened = keyring.open(upgrade.token?, &mut scratch, UnixTime::default());
    let opened = opened.ok()?;
    Some((opened.room(), opened.user_id().to_owned()))
}
