//! Log lines about connections: refused requests, and sessions that began or ended.

use std::net::IpAddr;

use crate::logging::{Kind, Limiter, bounded};
use crate::shard::close_reason::CloseReason;
use crate::shard::command::Refusal;
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::chat::{ErrorCode, encode};
use uproar_proto::session::Session;

/// The log line of a refusal, with the `Id` that the client got.
pub(super) struct Line {
    suppressed: u64,
    code: ErrorCode,
    id: FrameId,
    reason: Box<str>,
}

impl Line {
    /// Returns `None` if such a line was written just now; the refusal is then counted only.
    pub(super) fn admit(lines: &mut Limiter, now: Tick, refusal: &Refusal) -> Option<Self> {
        Self::of(lines, now, refusal.code, refusal.id, &refusal.reason)
    }

    /// Does the same for a refusal that is sent at once.
    pub(super) fn of(
        lines: &mut Limiter,
        now: Tick,
        code: ErrorCode,
        id: FrameId,
        reason: &str,
    ) -> Option<Self> {
        Some(Self {
            suppressed: lines.admit(kind(code), now)?,
            code,
            id,
            reason: bounded(reason).into(),
        })
    }

    /// Writes the line.
    pub(super) fn write(&self, room: RoomId, sender_json: &str, ip: IpAddr) {
        let Self {
            suppressed,
            code,
            id,
            reason,
        } = self;
        let (code, reason) = (code.number(), &**reason);
        let user = encode::sender_name(sender_json);
        let user = &*bounded(&user);
        tracing::warn!(%ip, %room, user, %id, code, reason, suppressed, "message refused");
    }
}

/// Logs at debug level that a session ended.
pub(super) fn log_ended(session: &Session, room: Option<RoomId>, ip: IpAddr, reason: CloseReason) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        let user = encode::sender_name(session.sender_json());
        let (user, room) = (&*bounded(&user), room.map(tracing::field::display));
        tracing::debug!(%ip, room, user, ?reason, "session ended");
    }
}

/// Logs at debug level that a session began.
pub(super) fn log_began(session: &Session, room: RoomId, ip: IpAddr) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        let user = encode::sender_name(session.sender_json());
        let user = &*bounded(&user);
        tracing::debug!(%ip, %room, user, "session began");
    }
}

fn kind(code: ErrorCode) -> Kind {
    match code {
        ErrorCode::BadRequest => Kind::Message400,
        ErrorCode::Forbidden => Kind::Message403,
        ErrorCode::NotFound => Kind::Message404,
        ErrorCode::NotAcceptable => Kind::Message406,
        ErrorCode::PayloadTooLarge => Kind::Message413,
        ErrorCode::TooManyRequests => Kind::Message429,
        ErrorCode::Unauthorized | ErrorCode::Internal => Kind::MessageOther,
    }
}
