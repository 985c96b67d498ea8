//! SendEvent, DeleteMessage, DisconnectUser: through the room's home shard, in the room's order.

use std::collections::BTreeMap;

use serde_json::json;

use super::authorize::Authorized;
use super::request::Answer;
use super::resource::find_or_wait;
use crate::control::fault::Fault;
use crate::control::input::Input;
use crate::control::input::pattern::{ANY, EVENT_NAME, MESSAGE_ID};
use crate::control::operation::Operation;
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use crate::logging::{Kind, local};
use crate::shard::command::Refused;
use uproar_proto::base::limits::{
    EVENT_NAME_CHARS_MAX, REASON_CHARS_MAX, SAID_PER_CALL_MAX, USER_ID_CHARS_MAX,
};
use uproar_proto::base::rate::Rate;
use uproar_proto::chat::encode::attributes_json;
use uproar_proto::extension::is_ours;

pub(super) async fn send_event(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let name = event_name(control, &mut input);
    let attributes = input.attributes("attributes").unwrap_or_default();
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    if let Some(user_id) = purged_user(control, &name, &attributes) {
        control.unpin_of(room, Some(user_id)).await?;
    }
    let attributes = attributes_json(attributes.iter().map(|(key, value)| (&**key, &**value)));
    let sent = at_shard(control, async || {
        control.gateway.send_event(room, &name, &attributes).await
    });
    let id = sent
        .await
        .map_err(|refused| fault(control, refused, Operation::SendEvent, &arn.text))?;
    Ok((200, Some(json!({"id": id.as_str()}))))
}

/// The user whom an event purges: it has the name of such events.
fn purged_user<'a>(
    control: &Control,
    name: &str,
    attributes: &'a BTreeMap<String, String>,
) -> Option<&'a str> {
    if *name != *control.gateway.purge_event() || !control.registry.has_extensions() {
        return None;
    }
    let user_id = attributes
        .get("userId")
        .or_else(|| attributes.get("UserId"));
    user_id.map(String::as_str)
}

/// An event's name, which is not one of the server's own.
pub(super) fn event_name(control: &Control, input: &mut Input) -> String {
    let name = input.required_text("eventName", 1..=EVENT_NAME_CHARS_MAX, EVENT_NAME);
    if control.registry.has_extensions() && is_ours(&name) {
        input.fault(
            "eventName",
            "must not begin with uproar:, which is the server's",
        );
    }
    name
}

/// Why something is done to members, for them; may be left out.
pub(super) fn reason(input: &mut Input) -> String {
    let reason = input.text("reason", 1..=REASON_CHARS_MAX, ANY);
    reason.unwrap_or_default()
}

pub(super) async fn delete_message(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let id = input.required_text("id", 12..=12, MESSAGE_ID);
    let reason = reason(&mut input);
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    // First, so that a crash leaves no deleted text pinned.
    control.unpin(room, Some(&id)).await?;
    let deleted = at_shard(control, async || {
        control.gateway.delete_message(room, &id, &reason).await
    });
    let id = deleted
        .await
        .map_err(|refused| fault(control, refused, Operation::DeleteMessage, &arn.text))?;
    Ok((200, Some(json!({"id": id.as_str()}))))
}

pub(super) async fn delete_messages(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let ids = input.list("ids", SAID_PER_CALL_MAX, MESSAGE_ID);
    let reason = reason(&mut input);
    let ids = input.finish_with("ids", ids.filter(|ids| !ids.is_empty()))?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    control.registry.shards_have_all().await;
    for id in &ids {
        control.unpin(room, Some(id)).await?;
    }
    let deleted = control.gateway.delete_messages(room, &ids, &reason).await;
    let deleted: Result<Vec<_>, _> = deleted.into_iter().collect();
    let deleted =
        deleted.map_err(|refused| fault(control, refused, Operation::DeleteMessages, &arn.text))?;
    let ids: Vec<&str> = deleted.iter().map(|said| said.id.as_str()).collect();
    Ok((200, Some(json!({"ids": ids}))))
}

pub(super) async fn disconnect_user(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let user_id = input.required_text("userId", 1..=USER_ID_CHARS_MAX, ANY);
    let reason = reason(&mut input);
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    let disconnected = at_shard(control, async || {
        let kicked = control
            .gateway
            .disconnect_user(room, (&user_id, &reason), false);
        kicked.await
    });
    disconnected
        .await
        .map_err(|refused| fault(control, refused, Operation::DisconnectUser, &arn.text))?;
    Ok((200, None))
}

/// Asks a room's shard, once more if it does not know the room: of a cluster's registry this thread knows rooms a
/// moment before their shards do.
async fn at_shard<T>(
    control: &Control,
    ask: impl AsyncFn() -> Result<T, Refused>,
) -> Result<T, Refused> {
    match ask().await {
        Err(Refused::NoSuchRoom) if control.registry.is_shared() => {
            control.registry.shards_have_all().await;
            ask().await
        }
        answered => answered,
    }
}

pub(super) fn fault(control: &Control, refused: Refused, operation: Operation, arn: &str) -> Fault {
    match refused {
        Refused::NoSuchRoom => Fault::not_found(arn),
        Refused::Rate => Fault::Throttled {
            limit: control.gateway.moderations().map_or(0, Rate::limit),
        },
        Refused::Denied(reason) => Fault::NotAcceptable { reason },
        Refused::Late => Fault::Late,
        Refused::Busy => {
            if let Some(suppressed) = local::admit(Kind::Mailbox) {
                tracing::error!(
                    operation = operation.name(),
                    suppressed,
                    "a shard's mailbox is full"
                );
            }
            Fault::Internal
        }
    }
}
