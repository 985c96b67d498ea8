//! Messages of users whom a ban keeps from writing.

use std::borrow::Cow;

use super::env::Env;
use super::member_commands::Commander;
use uproar_proto::base::id::RoomId;
use uproar_proto::chat::{Action, ErrorCode, Request, encode};
use uproar_proto::extension::bans::BanMode;
use uproar_proto::extension::command::CommandFault;
use uproar_proto::extension::modes::timed_out;

/// What becomes of a message that a ban keeps from the room.
#[derive(Debug)]
pub(super) enum Held {
    /// It is refused, with this text.
    Refused(ErrorCode, Cow<'static, str>),
    /// Its user alone gets it, if the room takes it.
    Shadowed,
}

/// Looks up what a ban makes of a request; `None`: the room gets it.
#[cold]
pub(super) fn held<S>(
    room: RoomId,
    request: &Request<'_>,
    sender_json: &str,
    env: &Env<S>,
) -> Option<Held> {
    let user_id = encode::sender_name(sender_json);
    let now = env.now.tick;
    let own = env.budgets.bans.of_user(room, &user_id, now)?;
    if request.action() != Action::SendMessage {
        return None;
    }
    if own.mode == BanMode::Shadow {
        return Some(Held::Shadowed);
    }
    let (code, text) = timed_out(own.seconds_left(now));
    Some(Held::Refused(code, text))
}

/// Refuses the commands of whoever is timed out: moderators, too.
///
/// # Errors
///
/// For how long.
#[cold]
pub(super) fn held_command<S>(by: &Commander<'_>, env: &Env<S>) -> Result<(), CommandFault> {
    let user_id = encode::sender_name(by.sender_json);
    let now = env.now.tick;
    match env.budgets.bans.of_user(by.room, &user_id, now) {
        Some(own) if own.mode != BanMode::Shadow => Err(timed_out(own.seconds_left(now))),
        Some(_) | None => Ok(()),
    }
}
