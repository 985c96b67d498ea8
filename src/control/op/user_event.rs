//! SendUserEvent: an event for one user alone, on whichever server of the cluster its connections are.

use bytes::BytesMut;
use serde_json::json;

use super::authorize::Authorized;
use super::messages::{self, event_name};
use super::request::Answer;
use super::resource::{find_or_wait, random_id};
use crate::control::fault::Fault;
use crate::control::input::pattern::ANY;
use crate::control::operation::Operation;
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use crate::shard::command::UserEvent;
use uproar_proto::base::id::FrameId;
use uproar_proto::base::limits::USER_ID_CHARS_MAX;
use uproar_proto::chat::encode::{self, attributes_json};

pub(super) async fn send(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let user_id = input.required_text("userId", 1..=USER_ID_CHARS_MAX, ANY);
    let name = event_name(control, &mut input);
    let attributes = input.attributes("attributes").unwrap_or_default();
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    let attributes = attributes_json(attributes.iter().map(|(key, value)| (&**key, &**value)));
    let mut frame = BytesMut::new();
    let event = encode::Event {
        id: FrameId::from_random(random_id()?),
        request_id: "",
        name: &name,
        attributes_json: &attributes,
        sent: control.clock.now().unix,
    };
    encode::event(&mut frame, &event);
    let event = UserEvent {
        room,
        user_id: user_id.into(),
        frame: frame.freeze(),
    };
    let elsewhere = async {
        match &control.settings.cluster {
            Some(cluster) => cluster.tell_user(&event).await,
            None => 0,
        }
    };
    let (here, elsewhere) = tokio::join!(control.gateway.tell_user(&event), elsewhere);
    let here = here.map_err(|refused| {
        messages::fault(control, refused, Operation::SendUserEvent, &arn.text)
    })?;
    Ok((200, Some(json!({"connections": here + elsewhere}))))
}
