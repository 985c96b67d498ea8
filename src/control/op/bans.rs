//! CreateBan, DeleteBan, ListBans: of a room, or without one of all rooms.

use serde_json::{Map, Value, json};

use super::authorize::Authorized;
use super::listing::Page;
use super::messages;
use super::purge::{purge, purge_everywhere};
use super::request::Answer;
use super::resource::find_id_or_wait;
use crate::control::bans::{Source, Wanted};
use crate::control::fault::{Fault, Thing};
use crate::control::input::Input;
use crate::control::input::pattern::{ANY, BAN_MODE};
use crate::control::operation::Operation;
use crate::control::record::BanRecord;
use crate::control::state::Control;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::{BanId, RoomId};
use uproar_proto::base::limits::{BAN_SECONDS_MAX, REASON_CHARS_MAX, USER_ID_CHARS_MAX};
use uproar_proto::extension::bans::BanMode;
use uproar_proto::extension::new_ban::{Cause, NewBan};

const ROOM: &str = "roomIdentifier";

/// Those of bans.
pub(super) async fn call(
    control: &Control,
    operation: Operation,
    call: Authorized,
) -> Result<Answer, Fault> {
    if operation == Operation::CreateBan {
        create(control, call).await
    } else if operation == Operation::DeleteBan {
        delete(control, call).await
    } else {
        list(control, call).await
    }
}

async fn create(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let by = call.key_id.clone();
    let mut input = call.into_input();
    let room = room_text(&mut input);
    let user_id = input.required_text("userId", 1..=USER_ID_CHARS_MAX, ANY);
    let mode = input.required_text("mode", 1..=16, BAN_MODE);
    let mode = BanMode::parse(&mode).unwrap_or(BanMode::Timeout);
    let seconds = input.integer("seconds", 1..=BAN_SECONDS_MAX);
    let reason = input.text("reason", 0..=REASON_CHARS_MAX, ANY);
    let addresses = input.boolean("addresses").unwrap_or_default();
    if addresses && mode != BanMode::Ban {
        input.fault(
            "addresses",
            "must go with the mode ban: who may not write is known by name",
        );
    }
    let purges = input.boolean("purge").unwrap_or_default();
    // A misspelt member must not make a time-out endless.
    input.finish_known()?;
    let room = room_of(control, room).await?;
    let wanted = Wanted {
        room,
        ban: NewBan {
            user_id: user_id.into(),
            mode,
            seconds,
            reason: reason.unwrap_or_default().into(),
            cause: Cause::Asked,
        },
        by,
        source: Source::Api,
        addresses,
    };
    let ban = control.ban(wanted).await?;
    // What is asked for takes any other's place.
    let ban = ban.ok_or(Fault::Internal)?;
    if purges {
        // Behind the ban: he says nothing in between.
        let purged = match room {
            Some(room) => purge(control, room, &ban.user_id, &ban.reason).await,
            None => purge_everywhere(control, &ban.user_id, &ban.reason).await,
        };
        let operation = Operation::CreateBan;
        purged.map_err(|refused| messages::fault(control, refused, operation, &ban.user_id))?;
    }
    Ok((200, Some(show(control, &ban).into())))
}

async fn delete(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let room = room_text(&mut input);
    let user_id = input.required_text("userId", 1..=USER_ID_CHARS_MAX, ANY);
    input.finish()?;
    let room = room_of(control, room).await?;
    if control.unban(room, &user_id).await? {
        Ok((200, Some(json!({}))))
    } else {
        Err(Fault::missing(Thing::Ban, user_id))
    }
}

async fn list(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let room = room_text(&mut input);
    let page: Page<BanId> = Page::read(&mut input);
    input.finish()?;
    let room = room_of(control, room).await?;
    let now_ms = control.clock.now().unix.millis();
    let wanted = |ban: &BanRecord| {
        ban.room() == room && ban.until_ms.is_none_or(|until_ms| until_ms > now_ms)
    };
    Ok(page.answer(&control.registry.bans, "bans", wanted, |ban| {
        show(control, ban)
    }))
}

fn room_text(input: &mut Input) -> Option<String> {
    input.text(ROOM, 1..=128, ANY)
}

/// The room that is named; `None`: none is.
async fn room_of(control: &Control, named: Option<String>) -> Result<Option<RoomId>, Fault> {
    match named {
        None => Ok(None),
        Some(arn) => find_id_or_wait(control, ROOM, &arn).await.map(Some),
    }
}

fn show(control: &Control, ban: &BanRecord) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut add = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    add("userId", ban.user_id.as_str().into());
    add("mode", ban.mode().name().into());
    if let Some(room) = ban.room() {
        add("roomArn", control.settings.account.arn(room).into());
    }
    if let Some(until_ms) = ban.until_ms {
        add("until", UnixTime::from_millis(until_ms).rfc3339().into());
    }
    add("reason", ban.reason.as_str().into());
    add("by", ban.by.as_str().into());
    add("addresses", ban.networks.clone().into());
    let created = UnixTime::from_millis(ban.header.created_ms);
    add("createTime", created.rfc3339().into());
    shown
}
