//! Commands of members: carried out here, or handed to the control thread.

use super::env::Env;
use super::rooms::Rooms;
use crate::shard::command::{
    Cast, Eviction, MemberCast, MemberOrder, Request, SenderAddress, Voter,
};
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::chat::{ErrorCode, texts};
use uproar_proto::extension::Verb;
use uproar_proto::extension::bans::BanMode;
use uproar_proto::extension::command::{Choice, CommandFault};
use uproar_proto::extension::new_ban::{Cause, NewBan};
use uproar_proto::extension::speech::Key;
use uproar_proto::extension::tally::Ballot;
use uproar_proto::extension::traits::role_in;

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
    rooms: &mut Rooms,
    env: &mut Env<S>,
) -> Result<Option<String>, CommandFault> {
    match verb {
        // The records of rooms and bans are the control thread's, and so are moderators' acts in a room.
        Verb::Set(_)
        | Verb::Pin(_)
        | Verb::Unpin(_)
        | Verb::Ban(_)
        | Verb::Unban(_)
        | Verb::Purge { .. }
        | Verb::Clear(_)
        | Verb::Decide(_) => hand_over(verb, by, env).map(|()| None),
        Verb::Vote(Choice { tally, option }) => {
            let ballot = Ballot {
                tally,
                option,
                voter: Key::of_sender(by.sender_json),
                role: role_in(by.sender_json).map(Box::from),
            };
            cast(Cast::Vote(ballot), by, rooms, env)
        }
        Verb::React(taps) => cast(Cast::React(taps), by, rooms, env),
    }
}

/// Has the room's home count a vote or a reaction.
fn cast<S>(
    cast: Cast,
    by: Commander<'_>,
    rooms: &mut Rooms,
    env: &mut Env<S>,
) -> Result<Option<String>, CommandFault> {
    let voter = Voter {
        sender: by.sender,
        request_id: by.request_id.into(),
    };
    let cast = MemberCast { voter, cast };
    let home = env.settings.home(by.room);
    if home == env.id {
        let outcome = rooms.cast(by.room, cast, env).transpose()?;
        return Ok(outcome.map(str::to_owned));
    }
    let request = Request::Cast(by.room, Box::new(cast));
    env.outbox.request(home, request).map_err(|_full| {
        env.metrics.mailbox_full.inc();
        (ErrorCode::TooManyRequests, texts::RATE.into())
    })?;
    Ok(None)
}

/// Has the control thread take a pin back whose message was deleted; `false`: it takes no more now.
pub(super) fn unpin<S>(room: RoomId, id: FrameId, env: &Env<S>) -> bool {
    let by = Commander {
        room,
        sender: SenderAddress {
            shard: env.id,
            ..SenderAddress::NOWHERE
        },
        request_id: "",
        sender_json: "",
    };
    env.orders.is_none() || hand_over(Verb::Unpin(Some(id)), by, env).is_ok()
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

/// Has the control thread ban a user for some seconds, because of a kick. One that it cannot take is counted.
#[cold]
pub(super) fn ban_kicked<S>(room: RoomId, eviction: &Eviction, seconds: u32, env: &Env<S>) {
    let order = MemberOrder {
        room,
        sender: SenderAddress::NOWHERE,
        request_id: "".into(),
        sender_json: "".into(),
        verb: Verb::Ban(NewBan {
            user_id: eviction.user_id.clone(),
            mode: BanMode::Ban,
            seconds: Some(seconds),
            reason: eviction.reason.clone(),
            cause: Cause::Kick,
        }),
    };
    let orders = env.orders.as_ref();
    if orders.is_none_or(|orders| orders.try_send(order).is_err()) {
        env.metrics.kick_bans_lost.inc();
    }
}
