//! CreateRoom, GetRoom, UpdateRoom, DeleteRoom, ListRooms.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::Answer;
use crate::base::id::RoomId;
use crate::base::limits::{CONTENT_CHARS_MAX, ROOM_RATE_DEFAULT, ROOM_RATE_MAX, ROOMS_MAX};
use crate::control::Control;
use crate::control::arn::resource_id;
use crate::control::fault::Fault;
use crate::control::input::{Input, any, lambda_pattern, logging_arn_pattern, name_pattern};
use crate::control::registry::{Handler, Mark, RoomRecord};

const NAME_CHARS_MAX: usize = 128;
const URI_CHARS_MAX: usize = 170;
const LOGGING_MAX: usize = 3;
const TAGS_MAX: usize = 50;
const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;
const PAGE_MAX: u32 = 50;

/// Members that CreateRoom and UpdateRoom share.
struct Wanted {
    name: Option<String>,
    message_rate: Option<u32>,
    message_length: Option<u32>,
    handler: Option<(Option<String>, Option<String>)>,
    logging: Option<Vec<String>>,
}

fn wanted(input: &mut Input) -> Wanted {
    let length_max = u32::try_from(CONTENT_CHARS_MAX).expect("500");
    Wanted {
        name: input.text("name", 0..=NAME_CHARS_MAX, name_pattern),
        message_rate: input.integer("maximumMessageRatePerSecond", 1..=ROOM_RATE_MAX),
        message_length: input.integer("maximumMessageLength", 1..=length_max),
        handler: input.object("messageReviewHandler", |handler| {
            let uri = handler.text("uri", 0..=URI_CHARS_MAX, lambda_pattern);
            let is_result = |text: &str| matches!(text, "ALLOW" | "DENY");
            (uri, handler.text("fallbackResult", 0..=16, is_result))
        }),
        logging: input.list(
            "loggingConfigurationIdentifiers",
            LOGGING_MAX,
            logging_arn_pattern,
        ),
    }
}

impl Wanted {
    /// Absent members stay; an empty uri detaches the handler; a list replaces the list.
    fn apply(self, room: &mut RoomRecord) {
        if self.name.is_some() {
            room.name = self.name;
        }
        room.message_rate = self.message_rate.unwrap_or(room.message_rate);
        room.message_length = self.message_length.unwrap_or(room.message_length);
        if let Some((uri, fallback)) = self.handler {
            let before = room.handler.take();
            let (old_uri, old_fallback) = before.map_or((None, None), |handler| {
                (Some(handler.uri), Some(handler.fallback))
            });
            let uri = uri.or(old_uri).filter(|uri| !uri.is_empty());
            let fallback = fallback
                .or(old_fallback)
                .unwrap_or_else(|| "ALLOW".to_owned());
            room.handler = uri.map(|uri| Handler { uri, fallback });
        }
        if self.logging.is_some() {
            room.logging = self.logging;
        }
    }
}

pub(super) async fn create(control: &Control, mut input: Input) -> Result<Answer, Fault> {
    let wanted = wanted(&mut input);
    let tags = input.map("tags", TAGS_MAX, usize::MAX, |key, value| {
        (1..=TAG_KEY_CHARS_MAX).contains(&key.chars().count())
            && value.chars().count() <= TAG_VALUE_CHARS_MAX
    });
    input.finish()?;
    known_logging(wanted.logging.as_deref())?;
    let room = keep_new(control, |room| {
        wanted.apply(room);
        room.tags = tags.unwrap_or_default();
    })
    .await?;
    Ok((200, Some(full(control, &room))))
}

/// A room of this name and nothing else; its ARN.
pub(in crate::control) async fn create_called(
    control: &Control,
    name: &str,
) -> Result<String, Fault> {
    let room = keep_new(control, |room| room.name = Some(name.to_owned())).await?;
    Ok(control.settings.realm.room(room.id()))
}

async fn keep_new(
    control: &Control,
    fill: impl FnOnce(&mut RoomRecord),
) -> Result<RoomRecord, Fault> {
    if control.registry.count() >= ROOMS_MAX {
        return Err(Fault::Quota { limit: ROOMS_MAX });
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| {
        tracing::error!(%error, "no random bytes for a room id");
        Fault::Internal
    })?;
    let id = RoomId::from_random(u128::from_ne_bytes(random));
    let length = u32::try_from(CONTENT_CHARS_MAX).expect("500");
    let mut room = RoomRecord::new(id, now_ms(control), ROOM_RATE_DEFAULT, length);
    fill(&mut room);
    control.registry.insert(room.clone()).await?;
    tell(control, &room).await?;
    Ok(room)
}

async fn tell(control: &Control, room: &RoomRecord) -> Result<(), Fault> {
    control
        .gateway
        .put_room(room.id(), room.settings())
        .await
        .map_err(|refused| {
            tracing::error!(room = %room.id(), %refused, "a stored room did not reach its shard");
            Fault::Internal
        })
}

pub(super) fn get(control: &Control, mut input: Input) -> Result<Answer, Fault> {
    let arn = input.required_text("identifier", 1..=128, any);
    input.finish()?;
    let room = find(control, "identifier", &arn)?;
    let room = control.registry.get(room).ok_or_else(|| not_found(&arn))?;
    Ok((200, Some(full(control, &room))))
}

pub(super) async fn update(control: &Control, mut input: Input) -> Result<Answer, Fault> {
    let arn = input.required_text("identifier", 1..=128, any);
    let wanted = wanted(&mut input);
    input.finish()?;
    let room = find(control, "identifier", &arn)?;
    known_logging(wanted.logging.as_deref())?;
    let changed = control
        .registry
        .change(room, now_ms(control), |room| wanted.apply(room))
        .await?;
    let room = changed.ok_or_else(|| not_found(&arn))?;
    tell(control, &room).await?;
    Ok((200, Some(full(control, &room))))
}

pub(super) async fn delete(control: &Control, mut input: Input) -> Result<Answer, Fault> {
    let arn = input.required_text("identifier", 1..=128, any);
    input.finish()?;
    let room = find(control, "identifier", &arn)?;
    if !control.registry.remove(room).await? {
        return Err(not_found(&arn));
    }
    // The room is gone from disk; a shard that does not know it has nothing to close.
    let _unknown_there = control.gateway.delete_room(room).await;
    Ok((204, None))
}

pub(super) fn list(control: &Control, mut input: Input) -> Result<Answer, Fault> {
    let name = input.text("name", 0..=NAME_CHARS_MAX, name_pattern);
    let handler = input.text("messageReviewHandlerUri", 0..=URI_CHARS_MAX, lambda_pattern);
    let logging = input.text(
        "loggingConfigurationIdentifier",
        1..=128,
        logging_arn_pattern,
    );
    let count_max = input
        .integer("maxResults", 1..=PAGE_MAX)
        .unwrap_or(PAGE_MAX);
    let token = input
        .text("nextToken", 0..=1024, any)
        .filter(|token| !token.is_empty());
    let after = token.as_deref().map(|token| {
        let mark = read_mark(token);
        if mark.is_none() {
            input.fault("nextToken", "was not given by this server");
        }
        mark
    });
    input.finish()?;
    let wanted = |room: &RoomRecord| {
        name.as_deref()
            .is_none_or(|name| room.name.as_deref() == Some(name))
            && handler
                .as_deref()
                .is_none_or(|uri| room.handler.as_ref().map_or("", |handler| &handler.uri) == uri)
            && logging
                .as_ref()
                .is_none_or(|arn| room.logging.as_ref().is_some_and(|list| list.contains(arn)))
    };
    let count_max = usize::try_from(count_max).expect("at most 50");
    let (page, more) = control.registry.page(after.flatten(), count_max, wanted);
    let mut answer = Map::new();
    if more && let Some(last) = page.last() {
        answer.insert(
            "nextToken".to_owned(),
            json!(write_mark((last.updated_ms, last.id()))),
        );
    }
    let rooms: Vec<Value> = page
        .iter()
        .map(|room| summary(control, room).into())
        .collect();
    answer.insert("rooms".to_owned(), rooms.into());
    Ok((200, Some(answer.into())))
}

/// The room an ARN names, existing or not found.
pub(super) fn find(control: &Control, field: &str, arn: &str) -> Result<RoomId, Fault> {
    let room = control.settings.realm.parse_room(field, arn)?;
    room.filter(|room| control.registry.contains(*room))
        .ok_or_else(|| not_found(arn))
}

pub(super) fn not_found(arn: &str) -> Fault {
    Fault::NotFound {
        resource_id: resource_id(arn).to_owned(),
    }
}

/// No logging configuration exists yet, so none can be attached.
fn known_logging(wanted: Option<&[String]>) -> Result<(), Fault> {
    match wanted.and_then(<[String]>::first) {
        Some(arn) => Err(not_found(arn)),
        None => Ok(()),
    }
}

fn full(control: &Control, room: &RoomRecord) -> Value {
    let mut members = summary(control, room);
    members.insert(
        "maximumMessageRatePerSecond".to_owned(),
        room.message_rate.into(),
    );
    members.insert(
        "maximumMessageLength".to_owned(),
        room.message_length.into(),
    );
    members.into()
}

/// What ListRooms shows; members never set are absent.
fn summary(control: &Control, room: &RoomRecord) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert(
        "arn".to_owned(),
        control.settings.realm.room(room.id()).into(),
    );
    members.insert("id".to_owned(), room.id().as_str().into());
    if let Some(name) = &room.name {
        members.insert("name".to_owned(), name.as_str().into());
    }
    members.insert("createTime".to_owned(), time(room.created_ms).into());
    members.insert("updateTime".to_owned(), time(room.updated_ms).into());
    if let Some(handler) = &room.handler {
        let handler = json!({"uri": handler.uri, "fallbackResult": handler.fallback});
        members.insert("messageReviewHandler".to_owned(), handler);
    }
    members.insert("tags".to_owned(), json!(room.tags));
    if let Some(logging) = &room.logging {
        members.insert("loggingConfigurationIdentifiers".to_owned(), json!(logging));
    }
    members
}

/// RFC 3339 with milliseconds.
fn time(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let timestamp = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX);
    format!("{timestamp:.3}")
}

fn now_ms(control: &Control) -> u64 {
    control.clock.now().unix.nanos() / 1_000_000
}

fn write_mark((updated_ms, id): Mark) -> String {
    URL_SAFE_NO_PAD.encode(format!("{updated_ms}:{id}"))
}

fn read_mark(token: &str) -> Option<Mark> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (updated_ms, id) = text.split_once(':')?;
    Some((updated_ms.parse().ok()?, RoomId::parse(id)?))
}
