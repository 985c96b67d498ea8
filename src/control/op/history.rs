//! ListMessages: what a room remembers of its messages.

use bytes::Bytes;
use serde_json::{Value, json};

use super::authorize::Authorized;
use super::messages;
use super::request::Answer;
use super::resource::find_or_wait;
use crate::control::fault::Fault;
use crate::control::input::pattern::MESSAGE_PLACE;
use crate::control::operation::Operation;
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use crate::shard::survey::Wanted;
use uproar_proto::base::limits::HISTORY_MESSAGES_MAX;
use uproar_proto::room::memory::{PLACE_CHARS_MAX, Place};

pub(super) async fn list_messages(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let before = input.text("before", 12..=PLACE_CHARS_MAX, MESSAGE_PLACE);
    let most = input.integer("maxResults", 1..=HISTORY_MESSAGES_MAX);
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    control.registry.shards_have_all().await;
    let before = before.as_deref().and_then(Place::parse);
    let most = usize::try_from(most.unwrap_or(HISTORY_MESSAGES_MAX)).unwrap_or(usize::MAX);
    // A room remembers few; the others show where the next page goes on.
    let wanted = Wanted::Before(before);
    let found = control.gateway.remembered(room, wanted).await;
    let found = found
        .map_err(|refused| messages::fault(control, refused, Operation::ListMessages, &arn.text))?;
    let (page, older) = found.split_at(most.min(found.len()));
    let next = page.last().filter(|_| !older.is_empty());
    let next = next.and_then(|last| Place::of(last, older.iter().map(|payload| &payload[..])));
    let page: Vec<Value> = page.iter().filter_map(shown).collect();
    let mut answer = json!({"messages": page});
    if let Some(next) = next {
        answer["nextBefore"] = next.to_string().into();
    }
    Ok((200, Some(answer)))
}

/// A message as the API shows it.
fn shown(payload: &Bytes) -> Option<Value> {
    let message: Value = serde_json::from_slice(payload).ok()?;
    let given = &message["Attributes"];
    let attributes = if given.is_null() {
        json!({})
    } else {
        given.clone()
    };
    Some(json!({
        "id": message["Id"],
        "sendTime": message["SendTime"],
        "content": message["Content"],
        "attributes": attributes,
        "sender": {
            "userId": message["Sender"]["UserId"],
            "attributes": message["Sender"]["Attributes"],
        },
    }))
}
