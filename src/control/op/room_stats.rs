//! GetRoomStats: how many are in a room, and how much is said there.

use serde_json::json;

use super::authorize::Authorized;
use super::request::Answer;
use super::resource::find_or_wait;
use crate::control::fault::Fault;
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use crate::shard::command::Refused;

pub(super) async fn get(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (input, arn) = call.into_resource();
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    let figures = control.gateway.room_figures(&[room]).await;
    let figures = figures.map_err(|refused| match refused {
        Refused::Late => Fault::Late,
        Refused::NoSuchRoom | Refused::Rate | Refused::Denied(_) | Refused::Busy => Fault::Internal,
    })?;
    let figures = figures.first().ok_or_else(|| Fault::not_found(&arn.text))?;
    let per_minute = u32::try_from(figures.per_minute).unwrap_or(u32::MAX);
    Ok((
        200,
        Some(json!({
            "viewers": figures.viewers,
            "connections": figures.viewers,
            "messagesPerSecond": f64::from(per_minute) / 60.0,
        })),
    ))
}
