//! PinMessage, UnpinMessage: what a room shows above its chat.

use std::rc::Rc;

use serde_json::json;

use super::authorize::Authorized;
use super::request::Answer;
use super::resource::find_or_wait;
use super::speech;
use crate::control::fault::Fault;
use crate::control::input::pattern::{ANY, MESSAGE_ID};
use crate::control::operation::Operation;
use crate::control::pins::Pinning;
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::limits::{CONTENT_CHARS_MAX, PIN_SECONDS_MAX, USER_ID_CHARS_MAX};
use uproar_proto::chat::encode::send_time;
use uproar_proto::extension::pin::PinRequest;

pub(super) async fn call(
    control: &Rc<Control>,
    operation: Operation,
    call: Authorized,
) -> Result<Answer, Fault> {
    if operation == Operation::PinMessage {
        pin(control, call).await
    } else {
        unpin(control, call).await
    }
}

async fn pin(control: &Rc<Control>, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let id = input.text("messageId", 12..=12, MESSAGE_ID);
    let text = input.text("content", 1..=CONTENT_CHARS_MAX, ANY);
    let user = input.text("userId", 1..=USER_ID_CHARS_MAX, ANY);
    let attributes = speech::attributes(&mut input);
    let seconds = input.integer("seconds", 1..=PIN_SECONDS_MAX);
    if !input.is_faulty() && id.is_none() && text.is_none() {
        input.fault("content", "is required without messageId");
    }
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    let asked = PinRequest {
        id: id.and_then(|id| FrameId::parse(&id)),
        text: text.map(String::into_boxed_str),
        seconds,
    };
    let of = Pinning {
        by: "",
        user: user.as_deref().unwrap_or_default(),
        attributes,
    };
    let pin = control.pin(room, &asked, of).await?;
    let until = pin
        .until_ms
        .map(|until_ms| send_time(UnixTime::from_millis(until_ms)));
    Ok((200, Some(json!({"messageId": pin.id, "until": until}))))
}

async fn unpin(control: &Rc<Control>, call: Authorized) -> Result<Answer, Fault> {
    let (input, arn) = call.into_resource();
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    let unpinned = control.unpin(room, None).await?;
    Ok((200, Some(json!({ "unpinned": unpinned }))))
}
