//! CreateRoom, GetRoom, UpdateRoom, DeleteRoom, ListRooms.

use serde_json::{Map, Value, json};

use super::authorize::Authorized;
use super::listing::Page;
use super::request::Answer;
use super::resource::{self, find, name, new_header, now_ms};
use super::tags;
use crate::control::fault::Fault;
use crate::control::input::Input;
use crate::control::input::pattern::{FALLBACK_RESULT, LAMBDA_ARN, LOGGING_ARN};
use crate::control::record::{Handler, Record, ResourceHeader, RoomRecord};
use crate::control::registry::Attaching;
use crate::control::state::Control;
use crate::shard::command::Refused;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{CONTENT_CHARS_MAX, ROOM_LOGGING_MAX, ROOM_RATE_MAX, ROOMS_MAX};

const URI_CHARS_MAX: usize = 170;
const LENGTH_MAX: u32 = 500;
#[expect(clippy::as_conversions, reason = "`From` is not const")]
const _: () = assert!(LENGTH_MAX as usize == CONTENT_CHARS_MAX, "one limit");
const LOGGING: &str = "loggingConfigurationIdentifiers";

/// Members that CreateRoom and UpdateRoom share.
#[derive(Default)]
struct Wanted {
    name: Option<String>,
    message_rate: Option<u32>,
    message_length: Option<u32>,
    handler: Option<(Option<String>, Option<String>)>,
    logging: Option<Vec<String>>,
}

fn wanted(input: &mut Input) -> Wanted {
    Wanted {
        name: name(input),
        message_rate: input.integer("maximumMessageRatePerSecond", 1..=ROOM_RATE_MAX),
        message_length: input.integer("maximumMessageLength", 1..=LENGTH_MAX),
        handler: input.object("messageReviewHandler", |handler| {
            let uri = handler.text("uri", 0..=URI_CHARS_MAX, LAMBDA_ARN);
            (uri, handler.text("fallbackResult", 4..=5, FALLBACK_RESULT))
        }),
        logging: input
            .list(LOGGING, ROOM_LOGGING_MAX, LOGGING_ARN)
            .map(deduplicated),
    }
}

/// A room's records go to a destination once, even if it is named twice.
fn deduplicated(arns: Vec<String>) -> Vec<String> {
    let mut unique = Vec::with_capacity(arns.len());
    for arn in arns {
        if !unique.contains(&arn) {
            unique.push(arn);
        }
    }
    unique
}

/// For fuzz targets.
#[cfg(fuzzing)]
pub(super) fn seen(input: &mut Input) -> (Option<String>, Option<u32>, Option<u32>) {
    let wanted = wanted(input);
    (wanted.name, wanted.message_rate, wanted.message_length)
}

impl Wanted {
    /// Prevents the deletion of the named logging configurations meanwhile.
    async fn attach<'a>(&self, control: &'a Control) -> Result<Attaching<'a>, Fault> {
        let arns = self.logging.as_deref().unwrap_or_default();
        control
            .registry
            .attach(&control.settings.account, arns)
            .await
    }

    /// Absent members stay unchanged; an empty uri detaches the handler and keeps its fallback; a
    /// list replaces the list.
    fn apply(&self, room: &mut RoomRecord) {
        room.header.name = self.name.clone().or(room.header.name.take());
        room.message_rate = self.message_rate.unwrap_or(room.message_rate);
        room.message_length = self.message_length.unwrap_or(room.message_length);
        if let Some((uri, fallback)) = self.handler.clone() {
            let before = room.handler.take();
            let (old_uri, old_fallback) = before.map_or((None, None), |handler| {
                (Some(handler.uri), Some(handler.fallback))
            });
            let (uri, fallback) = (uri.or(old_uri), fallback.or(old_fallback));
            let is_named = uri.is_some() || fallback.is_some();
            room.handler = is_named.then(|| Handler {
                uri: uri.unwrap_or_default(),
                fallback: fallback.unwrap_or_else(|| "ALLOW".to_owned()),
            });
        }
        if self.logging.is_some() {
            room.logging.clone_from(&self.logging);
        }
    }
}

pub(super) async fn create(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let wanted = wanted(&mut input);
    let tags = tags::read_for_room(control, &mut input);
    input.finish()?;
    let now_ms = now_ms(control);
    let header = new_header::<RoomRecord>(control)?;
    let room = keep_new(control, wanted, header, |room| {
        room.tag_new(now_ms, tags.unwrap_or_default());
    });
    Ok((200, Some(full(control, &room.await?))))
}

/// Creates a room with this id and name, otherwise default; returns its ARN.
pub(in crate::control) async fn create_ready(
    control: &Control,
    id: RoomId,
    name: &str,
) -> Result<String, Fault> {
    let named = Wanted {
        name: Some(name.to_owned()),
        ..Wanted::default()
    };
    // No id is drawn: a reset, after which these rooms are there, brings the same next ids as a start.
    let header = ResourceHeader::new(id, now_ms(control));
    let room = keep_new(control, named, header, |_room| {}).await?;
    Ok(control.settings.account.arn(room.id()))
}

async fn keep_new(
    control: &Control,
    wanted: Wanted,
    header: ResourceHeader,
    fill: impl FnOnce(&mut RoomRecord),
) -> Result<RoomRecord, Fault> {
    let mut room = RoomRecord::new(header);
    let attaching = wanted.attach(control).await?;
    wanted.apply(&mut room);
    fill(&mut room);
    let inserted = control.registry.insert_room(&room, attaching, ROOMS_MAX);
    inserted.await?;
    control.put_room(&room).await?;
    Ok(room)
}

pub(super) async fn get(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (input, arn) = call.into_resource();
    input.finish()?;
    control.registry.barrier().await?;
    let id = find::<RoomRecord>(control, &arn)?;
    let room = control.registry.rooms.get(id);
    let room = room.ok_or_else(|| Fault::not_found(&arn.text))?;
    Ok((200, Some(full(control, &room))))
}

pub(super) async fn update(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let wanted = wanted(&mut input);
    input.finish()?;
    let registry = &control.registry;
    registry.barrier().await?;
    let id = find::<RoomRecord>(control, &arn)?;
    let attaching = wanted.attach(control).await?;
    let change = |room: &mut RoomRecord| wanted.apply(room);
    let changed = registry.change_room(id, now_ms(control), attaching, change);
    let room = changed.await?.ok_or_else(|| Fault::not_found(&arn.text))?;
    control.put_room(&room).await?;
    Ok((200, Some(full(control, &room))))
}

pub(super) async fn delete(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (input, arn) = call.into_resource();
    input.finish()?;
    control.registry.barrier().await?;
    let id = find::<RoomRecord>(control, &arn)?;
    if !control.registry.remove_room(id).await? {
        return Err(Fault::not_found(&arn.text));
    }
    if control.registry.is_shared() {
        return Ok((204, None));
    }
    // The room is deleted on disk; a shard that does not know it has nothing to close.
    match control.gateway.delete_room(id).await {
        Err(Refused::Late) => Err(Fault::Late),
        Ok(()) | Err(_) => Ok((204, None)),
    }
}

pub(super) async fn list(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let name = name(&mut input);
    let handler = input.text("messageReviewHandlerUri", 0..=URI_CHARS_MAX, LAMBDA_ARN);
    let logging = input.text("loggingConfigurationIdentifier", 1..=128, LOGGING_ARN);
    let page = Page::read(&mut input);
    input.finish()?;
    control.registry.barrier().await?;
    let wanted = |room: &RoomRecord| {
        let uri = room.handler.as_ref().map_or("", |handler| &handler.uri);
        let mut named = room.logging.iter().flatten();
        name.as_ref()
            .is_none_or(|name| room.header.name.as_ref() == Some(name))
            && handler.as_ref().is_none_or(|handler| handler == uri)
            && logging
                .as_ref()
                .is_none_or(|arn| named.any(|named| named == arn))
    };
    let cache = &control.registry.rooms;
    Ok(page.answer(cache, "rooms", wanted, |room| summary(control, room)))
}

/// The rooms whose name or id has `text` in it, in any case: `maxResults` of them behind `nextToken`.
pub(in crate::control) fn like(
    control: &Control,
    text: &str,
    page: &Value,
) -> Result<Value, Fault> {
    let mut input = Input::parse(page.to_string().as_bytes())?;
    let page = Page::read(&mut input);
    input.finish()?;
    let text = text.to_ascii_lowercase();
    let has = |name: &str| name.to_ascii_lowercase().contains(&text);
    let wanted =
        |room: &RoomRecord| has(&room.header.id) || room.header.name.as_deref().is_some_and(has);
    let cache = &control.registry.rooms;
    let (_, found) = page.answer(cache, "rooms", wanted, |room| summary(control, room));
    Ok(found.unwrap_or_default())
}

/// A room as GetRoom shows it.
pub(in crate::control) fn full(control: &Control, room: &RoomRecord) -> Value {
    let mut members = summary(control, room);
    let mut show = |name: &str, value: u32| drop(members.insert(name.to_owned(), value.into()));
    show("maximumMessageRatePerSecond", room.message_rate);
    show("maximumMessageLength", room.message_length);
    members.into()
}

/// A room as ListRooms shows it; members never set are absent.
fn summary(control: &Control, room: &RoomRecord) -> Map<String, Value> {
    let mut members = resource::show(control, room);
    if let Some(handler) = &room.handler {
        let handler = json!({"uri": handler.uri, "fallbackResult": handler.fallback});
        members.insert("messageReviewHandler".to_owned(), handler);
    }
    if let Some(logging) = &room.logging {
        members.insert(LOGGING.to_owned(), json!(logging));
    }
    members
}
