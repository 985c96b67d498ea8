//! Commands of members: carried out here, or handed to the control thread.

use super::env::Env;
use crate::shard::command::{MemberOrder, SenderAddress};
use uproar_proto::base::id::RoomId;
use uproar_proto::chat::{ErrorCode, texts};
use uproar_proto::extension::Verb;
use uproar_proto::extension::command::CommandFault;

/// Who gives a command, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commander<'a> {
    pub(super) room: RoomId,
    pub(super) sender: SenderAddress,
    pub(super) request_id: &'a str,
    pub(super) sender_json: &'a str,
}

/// Carries a command out; what was done, or nothing if the answer comes later.
///
/// # Errors
///
/// Why it is refused.
pub(super) fn carry_out<S>(
    verb: Verb,
    by: Commander<'_>,
    env: &Env<S>,
) -> Result<Option<String>, CommandFault> {
    match verb {
        // The record of the room is the control thread's.
        Verb::Set(_) => hand_over(verb, by, env).map(|()| None),
    }
}

/// Has the control thread carry a command out and answer it.
fn hand_over<S>(verb: Verb, by: Commander<'_>, env: &Env<S>) -> Result<(), CommandFault> {
    let order = MemberOrder {
        room: by.room,
        sender: by.sender,
        request_id: by.request_id.into(),
        sender_json: by.sender_json.into(),
        verb,
    };
    let orders = env.orders.as_ref();
    let taken = orders.is_some_and(|orders| orders.try_send(order).is_ok());
    taken
        .then_some(())
        .ok_or((ErrorCode::TooManyRequests, texts::RATE.into()))
}
