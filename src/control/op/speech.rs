//! SendMessage, SendMessages: what a back end says in a room, as if one of its members did.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::authorize::Authorized;
use super::messages;
use super::request::Answer;
use super::resource::find_or_wait;
use crate::control::fault::Fault;
use crate::control::input::Input;
use crate::control::input::pattern::ANY;
use crate::control::operation::Operation;
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use crate::shard::command::{ApiMessage, Refused, Said};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{CONTENT_CHARS_MAX, SAID_PER_CALL_MAX, USER_ID_CHARS_MAX};
use uproar_proto::chat::encode::{attributes_json, send_time, sender_json};
use uproar_proto::extension::{Traits, is_ours};

pub(super) async fn send_message(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let allows_ours = call.allows_token_attributes;
    let (mut input, arn) = call.into_resource();
    let speech = read(&mut input, allows_ours);
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    fits(control, room, &speech)?;
    control.registry.shards_have_all().await;
    let said = control.gateway.say(room, vec![speech]).await.pop();
    let said = said.unwrap_or(Err(Refused::Busy));
    let said = said.map_err(|refused| fault(control, refused, room, &arn.text))?;
    Ok((200, Some(answer(said))))
}

pub(super) async fn send_messages(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let allows_ours = call.allows_token_attributes;
    let (mut input, arn) = call.into_resource();
    let entries = input.objects("messages", SAID_PER_CALL_MAX);
    let entries = input.finish_with("messages", entries.filter(|all| !all.is_empty()))?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    control.registry.shards_have_all().await;
    let mut speeches = Vec::with_capacity(entries.len());
    let mut faults: Vec<Option<Fault>> = Vec::with_capacity(entries.len());
    for mut entry in entries {
        let speech = read(&mut entry, allows_ours);
        let checked = entry.finish().and_then(|()| fits(control, room, &speech));
        if checked.is_ok() {
            speeches.push(speech);
        }
        faults.push(checked.err());
    }
    let mut said = control.gateway.say(room, speeches).await.into_iter();
    let mut next = || {
        let said = said.next().unwrap_or(Err(Refused::Busy));
        said.map_err(|refused| fault(control, refused, room, &arn.text))
    };
    let results = faults.into_iter().map(|wrong| {
        let said = wrong.map_or_else(&mut next, Err);
        said.map_or_else(|fault| refusal(&fault), answer)
    });
    let results: Vec<Value> = results.collect();
    Ok((200, Some(json!({"results": results}))))
}

/// Reads the attributes of a message, of which none is ours.
pub(super) fn attributes(input: &mut Input) -> Option<BTreeMap<String, String>> {
    let attributes = input.attributes("attributes");
    for key in attributes.iter().flatten().map(|(key, _)| key) {
        if is_ours(key) {
            let must = "is the server's: no message has it from a caller";
            input.fault(&format!("attributes.{key}"), must);
        }
    }
    attributes
}

/// Reads a message. Attributes of ours nobody gives, so that no answer of the server's is forged; a sender may have a
/// badge from keys that may give tokens one.
fn read(input: &mut Input, allows_ours: bool) -> ApiMessage {
    let content = input.required_text("content", 1..=CONTENT_CHARS_MAX, ANY);
    let attributes = attributes(input);
    let is_exempt = input.boolean("exempt").unwrap_or_default();
    if !input.has("sender") {
        input.fault("sender", "is required");
    }
    let sender = input.object("sender", |sender| {
        let user_id = sender.required_text("userId", 1..=USER_ID_CHARS_MAX, ANY);
        let attributes = sender.attributes("attributes").unwrap_or_default();
        let mut traits = Traits::default();
        for (key, value) in attributes.iter().filter(|(key, _)| is_ours(key)) {
            let taken = if !allows_ours {
                Err("is the server's: the access key must be granted TokenAttributes")
            } else if key == ROLE {
                traits.take(key, value)
            } else {
                Err("is of tokens alone")
            };
            if let Err(must) = taken {
                sender.fault(&format!("attributes.{key}"), must);
            }
        }
        let pairs = attributes.iter().map(|(key, value)| (&**key, &**value));
        sender_json(&user_id, pairs)
    });
    let json = |attributes: BTreeMap<String, String>| {
        attributes_json(attributes.iter().map(|(key, value)| (&**key, &**value)))
    };
    ApiMessage {
        content: content.into(),
        attributes_json: attributes.map_or_else(|| "null".into(), |all| json(all).into()),
        sender_json: sender.unwrap_or_default().into(),
        is_exempt,
    }
}

/// The attribute of a sender that shows a badge.
const ROLE: &str = "uproar:role";

/// Whether a message is as short as its room asks.
fn fits(control: &Control, room: RoomId, speech: &ApiMessage) -> Result<(), Fault> {
    let room = control.registry.rooms.get(room);
    let most = room.map_or(u32::MAX, |room| room.message_length);
    let is_long = u32::try_from(speech.content.chars().count()).map_or(true, |chars| chars > most);
    if is_long {
        let must = format!("must have 1 to {most} characters");
        return Err(Fault::field("content", must));
    }
    Ok(())
}

fn answer(said: Said) -> Value {
    json!({"id": said.id.as_str(), "sendTime": send_time(said.sent)})
}

/// An entry of SendMessages that was not said.
fn refusal(fault: &Fault) -> Value {
    let (code, body) = (fault.kind().0, fault.body());
    json!({"errorCode": code, "errorMessage": body["message"]})
}

fn fault(control: &Control, refused: Refused, room: RoomId, arn: &str) -> Fault {
    if refused != Refused::Rate {
        return messages::fault(control, refused, Operation::SendMessage, arn);
    }
    // The room's rate, or the account's, whichever there is.
    let room = control.registry.rooms.get(room);
    let limit = room.map_or(0, |room| room.message_rate);
    Fault::Throttled { limit }
}
