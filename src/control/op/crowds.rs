//! GetRoomStats, ListActiveRooms, ListRoomUsers: how many are where, and who, on all servers of a cluster.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::authorize::Authorized;
use super::request::Answer;
use super::resource::find_or_wait;
use crate::control::fault::Fault;
use crate::control::input::Input;
use crate::control::input::pattern::ANY;
use crate::control::record::RoomRecord;
use crate::control::state::Control;
use crate::shard::command::Refused;
use crate::shard::survey::RoomFigures;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{ACTIVE_ROOMS_MAX, LISTED_CONNECTIONS_MAX, LISTED_PAGE_MAX};
use uproar_proto::cluster::crowd::{About, RoomUser, decode_users, join_users};
use uproar_proto::extension::unique::UniqueUsers;

/// Longest `nextToken`: a user's id of 128 characters, encoded.
const TOKEN_CHARS_MAX: usize = 1024;

pub(super) async fn get_stats(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (input, arn) = call.into_resource();
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    let figures = figures(control, room)
        .await?
        .ok_or_else(|| Fault::not_found(&arn.text))?;
    let mut answer = counts(&figures);
    let unique = unique_users(control, room).await?;
    answer.insert("uniqueUsers".to_owned(), unique.into());
    let audience = figures.audience;
    answer.insert("peak".to_owned(), audience.peak.into());
    if audience.peak > 0 {
        let at = audience.peak_at.rfc3339();
        answer.insert("peakTime".to_owned(), at.into());
    }
    Ok((200, Some(answer.into())))
}

async fn figures(control: &Control, room: RoomId) -> Result<Option<RoomFigures>, Fault> {
    let figures = control.gateway.room_figures(&[room]).await;
    Ok(figures.map_err(fault)?.into_iter().next())
}

/// Members that an answer has of each room.
fn counts(figures: &RoomFigures) -> Map<String, Value> {
    let per_minute = u32::try_from(figures.per_minute).unwrap_or(u32::MAX);
    let mut counts = Map::new();
    counts.insert("viewers".to_owned(), figures.audience.viewers.into());
    counts.insert(
        "connections".to_owned(),
        figures.audience.connections.into(),
    );
    let per_second = f64::from(per_minute) / 60.0;
    counts.insert("messagesPerSecond".to_owned(), per_second.into());
    counts
}

async fn unique_users(control: &Control, room: RoomId) -> Result<u64, Fault> {
    let elsewhere = async {
        match &control.settings.cluster {
            Some(cluster) => cluster.ask_crowd(room, About::Unique).await,
            None => Vec::new(),
        }
    };
    let (here, elsewhere) = tokio::join!(control.gateway.unique_users(room), elsewhere);
    let mut all = here.map_err(fault)?;
    // What another version of the server says otherwise is left out.
    for users in elsewhere
        .iter()
        .filter_map(|bytes| UniqueUsers::read(bytes))
    {
        all.merge(users);
    }
    Ok(all.count())
}

pub(super) async fn list_active(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let (most, after) = page(&mut input, |token| {
        let (viewers, room) = token.split_once(':')?;
        Some((viewers.parse::<u64>().ok()?, RoomId::parse(room)?))
    });
    input.finish()?;
    let rooms = control.gateway.active_rooms(ACTIVE_ROOMS_MAX).await;
    let mut rooms = rooms.map_err(fault)?;
    // By viewers, and of equal ones by id: the order of the list.
    let key = |room: &RoomFigures| (std::cmp::Reverse(room.audience.viewers), room.room);
    if let Some((viewers, room)) = after {
        rooms.retain(|figures| key(figures) > (std::cmp::Reverse(viewers), room));
    }
    let more = rooms.len() > most;
    rooms.truncate(most);
    let token = rooms.last().filter(|_| more);
    let token = token.map(|room| format!("{}:{}", room.audience.viewers, room.room));
    let shown = rooms.iter().map(|figures| {
        let mut shown = counts(figures);
        let arn = control.settings.account.arn(figures.room);
        shown.insert("arn".to_owned(), arn.into());
        Value::Object(shown)
    });
    Ok(answer("rooms", shown.collect(), token))
}

pub(super) async fn list_users(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    let (most, after) = page(&mut input, |token| Some(token.to_owned()));
    input.finish()?;
    let room = find_or_wait::<RoomRecord>(control, &arn).await?;
    let figures = figures(control, room).await?;
    let connections = figures.map_or(0, |figures| figures.audience.connections);
    if connections > LISTED_CONNECTIONS_MAX {
        let must = format!(
            "must be of a room with at most {LISTED_CONNECTIONS_MAX} connections; it has {connections}"
        );
        return Err(Fault::field(arn.field, must));
    }
    let mut users = users(control, room, &after.unwrap_or_default(), most + 1).await?;
    let more = users.len() > most;
    users.truncate(most);
    let token = users.last().filter(|_| more);
    let token = token.map(|user| user.user_id.to_string());
    let shown = users.into_iter().map(|user| {
        let attributes: Value = serde_json::from_str(&user.attributes_json).unwrap_or_default();
        json!({
            "userId": user.user_id,
            "attributes": attributes,
            "connections": user.connections,
            "since": user.since.rfc3339(),
        })
    });
    Ok(answer("users", shown.collect(), token))
}

async fn users(
    control: &Control,
    room: RoomId,
    after: &str,
    most: usize,
) -> Result<Vec<RoomUser>, Fault> {
    let elsewhere = async {
        let about = About::Users {
            after: after.into(),
            most: u32::try_from(most).expect("a page"),
        };
        match &control.settings.cluster {
            Some(cluster) => cluster.ask_crowd(room, about).await,
            None => Vec::new(),
        }
    };
    let here = control.gateway.room_users(room, after, most);
    let (here, elsewhere) = tokio::join!(here, elsewhere);
    let elsewhere = elsewhere.iter().filter_map(|page| decode_users(page).ok());
    let pages = std::iter::once(here.map_err(fault)?).chain(elsewhere);
    Ok(join_users(pages, most))
}

/// Reads `maxResults` and `nextToken`.
fn page<T>(input: &mut Input, read: impl Fn(&str) -> Option<T>) -> (usize, Option<T>) {
    let most = input.integer("maxResults", 1..=LISTED_PAGE_MAX);
    let most = usize::try_from(most.unwrap_or(LISTED_PAGE_MAX)).expect("a page");
    let token = input.text("nextToken", 0..=TOKEN_CHARS_MAX, ANY);
    let after = token.filter(|token| !token.is_empty()).and_then(|token| {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let after = text.and_then(|text| read(&text));
        if after.is_none() {
            let must = "must be one that this server returned; list again without it";
            input.fault("nextToken", must);
        }
        after
    });
    (most, after)
}

fn answer(member: &str, items: Vec<Value>, token: Option<String>) -> Answer {
    let mut answer = Map::new();
    answer.insert(member.to_owned(), items.into());
    if let Some(token) = token {
        let token = URL_SAFE_NO_PAD.encode(token);
        answer.insert("nextToken".to_owned(), token.into());
    }
    (200, Some(answer.into()))
}

/// Why shards did not tell.
fn fault(refused: Refused) -> Fault {
    match refused {
        Refused::Late => Fault::Late,
        Refused::NoSuchRoom | Refused::Rate | Refused::Denied(_) | Refused::Busy => Fault::Internal,
    }
}
