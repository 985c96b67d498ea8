//! Senders of messages that were taken back before they came to them: their requests are answered by a refusal, since no echo
//! comes.

use bytes::BytesMut;
use tokio::sync::oneshot;

use super::{Env, Rooms};
use crate::shard::command::{Command, UserEvent, user_hash};
use crate::shard::core::refusal;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::chat::{ErrorCode, encode};
use uproar_proto::room::audience::Audience;
use uproar_proto::room::log::Batch;
use uproar_proto::room::redaction::{self, Redaction};

/// What such a sender is told, as for a message that a review denies.
const TAKEN_BACK: (ErrorCode, &str) = (ErrorCode::NotAcceptable, "removed by a moderator");

/// Takes messages out of what members here have not got yet; adds what their senders here are told.
pub(super) fn redact<S>(
    room: RoomId,
    (audience, redactions): (&mut Audience, &[Redaction]),
    unsaid: &mut Vec<UserEvent>,
    env: &mut Env<S>,
) {
    let mut ids = by_id(redactions);
    audience.log().add_taken(redactions, &mut ids);
    for (begin, payload) in audience.redact(&ids) {
        let is_behind = |user_id: &str| audience.is_behind(user_hash(user_id), begin);
        unsaid.extend(refusal(room, &payload, is_behind, env));
    }
}

/// Has the senders be told of those messages of a batch, which nobody has got yet, that are taken back: here and on the other
/// shards.
pub(super) fn unsay<S>(
    room: RoomId,
    (batch, redactions): (&Batch, &[Redaction]),
    unsaid: &mut Vec<UserEvent>,
    env: &mut Env<S>,
) {
    for payload in redaction::taken(batch, &by_id(redactions)) {
        if let Some(event) = refusal(room, payload, |_| true, env) {
            env.outbox.send_to_others(|| {
                let (answer, _nobody_asks) = oneshot::channel();
                Command::SendUserEvent(Box::new(event.clone()), answer)
            });
            unsaid.push(event);
        }
    }
}

fn by_id(redactions: &[Redaction]) -> Vec<FrameId> {
    let ids = redactions
        .iter()
        .filter_map(|redaction| redaction.message());
    ids.collect()
}

fn refusal<S>(
    room: RoomId,
    payload: &[u8],
    waits: impl Fn(&str) -> bool,
    env: &mut Env<S>,
) -> Option<UserEvent> {
    let (user_id, request_id) = redaction::asker(payload)?;
    if !waits(&user_id) {
        return None;
    }
    let mut frame = BytesMut::new();
    let id = env.ids.next_id();
    let error = refusal::refusal(&env.metrics, id, &request_id, TAKEN_BACK);
    encode::error(&mut frame, &error);
    Some(UserEvent {
        room,
        user_id: user_id.into(),
        frame: frame.freeze(),
    })
}

impl Rooms {
    /// What senders here are told whose messages were taken back before they came to them.
    pub(in crate::shard::core) fn take_unsaid(&mut self) -> Vec<UserEvent> {
        std::mem::take(&mut self.unsaid)
    }
}
