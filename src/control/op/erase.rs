//! EraseUser: what the server keeps of one person. What it does not reach docs/features.md names.

use serde_json::json;

use super::authorize::Authorized;
use super::messages;
use super::purge::purge_everywhere;
use super::request::Answer;
use crate::control::fault::Fault;
use crate::control::input::pattern::ANY;
use crate::control::operation::Operation;
use crate::control::record::{BanRecord, Record, RoomRecord};
use crate::control::state::Control;
use uproar_proto::base::limits::USER_ID_CHARS_MAX;

/// Erases a user: what rooms remember of him, his pinned messages, and the texts and addresses of his bans, which hold on.
pub(super) async fn erase_user(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let user_id = input.required_text("userId", 1..=USER_ID_CHARS_MAX, ANY);
    input.finish_known()?;
    control.registry.shards_have_all().await;
    // First, so that a crash leaves no text pinned that is deleted; and again, for what is pinned meanwhile.
    let mut pins = unpin_all(control, &user_id).await?;
    let erased = purge_everywhere(control, &user_id, "").await;
    let erased = erased
        .map_err(|refused| messages::fault(control, refused, Operation::EraseUser, &user_id))?;
    pins += unpin_all(control, &user_id).await?;
    let bans = clean_bans(control, &user_id).await?;
    let answer = json!({"messages": erased, "pins": pins, "bans": bans});
    Ok((200, Some(answer)))
}

/// Takes the user's messages off every room where they are pinned; how many they are.
async fn unpin_all(control: &Control, user_id: &str) -> Result<usize, Fault> {
    let pinned = |room: &RoomRecord| {
        let pin = room.extension.pin.as_ref();
        let pin = pin.filter(|pin| pin.user == user_id)?;
        Some((room.id(), pin.id.clone()))
    };
    let rooms = control.registry.rooms.each(pinned);
    let mut unpinned = 0;
    for (room, pin) in rooms.into_iter().flatten() {
        match control.unpin(room, Some(&pin)).await {
            Ok(was_pinned) => unpinned += usize::from(was_pinned),
            // The room was deleted meanwhile.
            Err(Fault::NotFound { .. }) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(unpinned)
}

/// Takes reasons and addresses out of the user's bans; how many had any.
async fn clean_bans(control: &Control, user_id: &str) -> Result<usize, Fault> {
    let has_texts = |ban: &BanRecord| {
        let is_his = ban.user_id == user_id;
        (is_his && !(ban.reason.is_empty() && ban.networks.is_empty())).then(|| ban.clone())
    };
    let bans = control.registry.bans.each(has_texts);
    let mut cleaned = 0;
    for mut ban in bans.into_iter().flatten() {
        ban.reason.clear();
        ban.networks.clear();
        control.replace_ban(ban).await?;
        cleaned += 1;
    }
    Ok(cleaned)
}
