//! ListHeld, DecideHeld: messages that rules hold until a moderator decides.

use serde_json::{Map, Value, json};

use super::authorize::Authorized;
use super::messages;
use super::request::Answer;
use super::resource::find_or_wait;
use crate::control::fault::{Fault, Thing};
use crate::control::input::pattern::{ANY, DECISION, MESSAGE_ID};
use crate::control::operation::Operation;
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use crate::shard::command::Refused;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::limits::{HELD_PAGE_MAX, REASON_CHARS_MAX};
use uproar_proto::chat::encode::send_time;
use uproar_proto::extension::held::{Decision, HeldMessage, HeldPlace};

/// Of a place in the list.
const TOKEN_CHARS_MAX: usize = 64;

pub(super) async fn call(
    control: &Control,
    operation: Operation,
    call: Authorized,
) -> Result<Answer, Fault> {
    if operation == Operation::ListHeld {
        list(control, call).await
    } else {
        decide(control, call).await
    }
}

async fn list(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let most = input.integer("maxResults", 1..=HELD_PAGE_MAX);
    let token = input.text("nextToken", 0..=TOKEN_CHARS_MAX, ANY);
    let token = token.filter(|token| !token.is_empty());
    let place = token.as_deref().map(HeldPlace::parse);
    if place == Some(None) {
        let must = "must be one that this server returned; list again without it";
        input.fault("nextToken", must);
    }
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    control.registry.shards_have_all().await;
    let most = most.unwrap_or(HELD_PAGE_MAX);
    let page = control.gateway.list_held(room, place.flatten(), most).await;
    let page =
        page.map_err(|refused| messages::fault(control, refused, Operation::ListHeld, &arn.text))?;
    let shown: Vec<Value> = page.messages.iter().map(show).collect();
    let mut answer = Map::from_iter([("messages".to_owned(), shown.into())]);
    if let Some(next) = page.next {
        answer.insert("nextToken".to_owned(), next.into());
    }
    Ok((200, Some(answer.into())))
}

fn show(message: &HeldMessage) -> Value {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let or_none = |value: Value| if value.is_null() { json!({}) } else { value };
    let mut sender = read(&message.sender_json);
    let time = |ms| send_time(UnixTime::from_millis(ms));
    json!({
        "messageId": message.id,
        "sender": {
            "userId": sender["UserId"].take(),
            "attributes": or_none(sender["Attributes"].take()),
        },
        "content": message.content,
        "attributes": or_none(read(&message.attributes_json)),
        "rule": message.rule,
        "sendTime": time(message.sent_ms),
        "endsAt": time(message.ends_ms),
    })
}

async fn decide(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let id = input.required_text("messageId", 12..=12, MESSAGE_ID);
    let decision = input.required_text("decision", 1..=5, DECISION);
    let reason = input.text("reason", 0..=REASON_CHARS_MAX, ANY);
    input.finish_known()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    control.registry.shards_have_all().await;
    let decision = Decision {
        id: FrameId::parse(&id).ok_or_else(|| Fault::missing(Thing::HeldMessage, &id))?,
        allows: decision == "allow",
        reason: reason.unwrap_or_default().into(),
    };
    let said = control.decide(room, decision, "").await;
    let said = said.map_err(|refused| match refused {
        Refused::NoSuchRoom => Fault::missing(Thing::HeldMessage, &id),
        refused @ (Refused::Rate | Refused::Denied(_) | Refused::Busy | Refused::Late) => {
            messages::fault(control, refused, Operation::DecideHeld, &arn.text)
        }
    })?;
    let mut answer = Map::from_iter([("messageId".to_owned(), id.into())]);
    if let Some(said) = said {
        answer.insert("sendTime".to_owned(), send_time(said.sent).into());
    }
    Ok((200, Some(answer.into())))
}
