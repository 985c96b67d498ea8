//! DeleteUserMessages, ClearRoom: all messages of a user, or of everybody, are taken back.

use serde_json::json;

use super::authorize::Authorized;
use super::messages::{self, reason};
use super::request::Answer;
use super::resource::find_or_wait;
use crate::control::fault::Fault;
use crate::control::input::pattern::ANY;
use crate::control::operation::Operation;
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use crate::shard::command::Refused;
use crate::shard::survey::Wanted;
use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::base::limits::USER_ID_CHARS_MAX;
use uproar_proto::extension::Settings;
use uproar_proto::extension::speech::Key;

pub(super) async fn call(
    control: &Control,
    operation: Operation,
    call: Authorized,
) -> Result<Answer, Fault> {
    if operation == Operation::ClearRoom {
        clear_room(control, call).await
    } else {
        delete_user_messages(control, call).await
    }
}

async fn delete_user_messages(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let user_id = input.required_text("userId", 1..=USER_ID_CHARS_MAX, ANY);
    let reason = reason(&mut input);
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    control.registry.shards_have_all().await;
    let deleted = purge(control, room, &user_id, &reason).await;
    let deleted = deleted.map_err(|refused| {
        messages::fault(control, refused, Operation::DeleteUserMessages, &arn.text)
    })?;
    Ok((200, Some(json!({"deleted": deleted}))))
}

async fn clear_room(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let reason = reason(&mut input);
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    control.registry.shards_have_all().await;
    let id = clear(control, room, &reason).await;
    let id =
        id.map_err(|refused| messages::fault(control, refused, Operation::ClearRoom, &arn.text))?;
    Ok((200, Some(json!({"id": id.as_str()}))))
}

/// Takes back all messages of a room; the id of the event that tells so.
pub(in crate::control) async fn clear(
    control: &Control,
    room: RoomId,
    reason: &str,
) -> Result<FrameId, Refused> {
    unpin(control, room, None).await?;
    control.gateway.purge(room, None, reason).await
}

async fn unpin(control: &Control, room: RoomId, user_id: Option<&str>) -> Result<(), Refused> {
    let unpinned = control.unpin_of(room, user_id).await;
    unpinned.map_err(|_logged| Refused::Late)
}

/// Takes back all messages of a user; how many of them the room remembered.
pub(in crate::control) async fn purge(
    control: &Control,
    room: RoomId,
    user_id: &str,
    reason: &str,
) -> Result<usize, Refused> {
    unpin(control, room, Some(user_id)).await?;
    let wanted = Wanted::OfUser(Key::of_user(user_id));
    let remembered = control.gateway.remembered(room, wanted).await?;
    control.gateway.purge(room, Some(user_id), reason).await?;
    Ok(remembered.len())
}

/// Takes back all messages of a user in all rooms that remember some of them, or hold them for moderators; how many they are. It
/// ends at the first refusal; doing it again does no harm.
pub(in crate::control) async fn purge_everywhere(
    control: &Control,
    user_id: &str,
    reason: &str,
) -> Result<usize, Refused> {
    let mut purged = 0;
    let keeps = |asked: &Settings| asked.recall().is_some() || asked.rules.is_some();
    for (room, holds) in control.rooms_with(|asked| keeps(asked).then(|| asked.rules.is_some())) {
        let wanted = Wanted::OfUser(Key::of_user(user_id));
        match control.gateway.remembered(room, wanted).await {
            // Of a cluster's node the room's home alone knows what it holds.
            Ok(found) if found.is_empty() && !(holds && control.registry.is_shared()) => {}
            // It was deleted meanwhile, and its memory with it.
            Err(Refused::NoSuchRoom) => {}
            Ok(_) => purged += purge(control, room, user_id, reason).await?,
            Err(refused) => return Err(refused),
        }
    }
    Ok(purged)
}
