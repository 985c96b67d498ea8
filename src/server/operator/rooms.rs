//! Orders about rooms: the first ones, all of them by pages, one.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{Operator, refusal_of, refused, silent};
use crate::control::operation::Operation;
use crate::server::admin::{By, Refusal, RoomOrder, RoomsOrder};
use crate::shard::survey::RoomFigures;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{ADMIN_ROOMS_MAX, ADMIN_VIEWERS_BYTES_MAX, ADMIN_VIEWERS_MAX};
use uproar_proto::base::limits::{PAGE_ITEMS_MAX, USER_ID_CHARS_MAX};
use uproar_proto::extension::viewers::Audience;

impl Operator {
    /// Tells of the first rooms by a figure, or of a page of all.
    pub(super) async fn rooms(self, wanted: RoomsOrder) -> Result<Value, Refusal> {
        match wanted.by {
            Some(by) => self.top(by, &wanted).await,
            None => self.page(wanted).await,
        }
    }

    async fn top(self, by: By, wanted: &RoomsOrder) -> Result<Value, Refusal> {
        if wanted.token.is_some() || wanted.name.is_some() || wanted.text.is_some() {
            return Err(refused("`token`, `name` and `text` go without `by`"));
        }
        let count = within("count", wanted.count, ADMIN_ROOMS_MAX)?;
        let top = self.gateway.top_rooms(count).await.map_err(silent)?;
        let first = match by {
            By::Viewers => top.by_viewers,
            By::Rate => top.by_rate,
        };
        let rooms: Vec<_> = first.iter().map(|figures| self.line(*figures)).collect();
        Ok(json!({ "rooms": rooms }))
    }

    async fn page(self, wanted: RoomsOrder) -> Result<Value, Refusal> {
        let page_max = usize::try_from(PAGE_ITEMS_MAX).expect("a screen full");
        let mut input = Map::new();
        let count = within("count", wanted.count, page_max)?;
        input.insert("maxResults".to_owned(), count.into());
        let texts = [("nextToken", wanted.token), ("name", wanted.name)];
        for (key, value) in texts {
            input.extend(value.map(|value| (key.to_owned(), value.into())));
        }
        let input = Value::Object(input);
        let body = if let Some(text) = &wanted.text {
            self.control.rooms_like(text, &input).await
        } else {
            let listed = self.control.operate(Operation::ListRooms, &input).await;
            listed.map(|(_, body)| body.unwrap_or_default())
        };
        let body = body.map_err(|fault| refusal_of(&fault))?;
        let ids: Vec<_> = body["rooms"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|room| RoomId::parse(room["id"].as_str()?))
            .collect();
        let figures = self.gateway.room_figures(&ids).await.map_err(silent)?;
        let figures: HashMap<_, _> = figures.iter().map(|of| (of.room, *of)).collect();
        let told = ids.iter().filter_map(|id| figures.get(id));
        let rooms: Vec<_> = told.map(|figures| self.line(*figures)).collect();
        let mut page = json!({ "rooms": rooms });
        if let Some(token) = body.get("nextToken") {
            page["token"] = token.clone();
        }
        Ok(page)
    }

    /// Tells of one room: its names, figures and settings, and some of its viewers if they are wanted.
    pub(super) async fn room(self, wanted: RoomOrder) -> Result<Value, Refusal> {
        let count = wanted.viewers;
        if count > ADMIN_VIEWERS_MAX {
            let message = format!("viewers is {count}; it must be at most {ADMIN_VIEWERS_MAX}");
            return Err(refused(message));
        }
        let called = self.control.room_called(&wanted.room);
        let room = called.await.map_err(refused)?;
        let figures = self.gateway.room_figures(&[room]).await.map_err(silent)?;
        let none = RoomFigures {
            room,
            viewers: 0,
            per_minute: 0,
            refused: 0,
            audience: Audience::default(),
        };
        let mut told = self.line(figures.first().copied().unwrap_or(none));
        told["settings"] = self.control.room_settings(room).unwrap_or_default();
        if count > 0 {
            told["named"] = self.named(room, count).await?.into();
        }
        Ok(told)
    }

    /// Tells in which rooms a user has connections to this server.
    pub(super) async fn user(self, user_id: &str) -> Result<Value, Refusal> {
        let chars = user_id.chars().count();
        if !(1..=USER_ID_CHARS_MAX).contains(&chars) {
            let message =
                format!("user has {chars} characters; it must have 1 to {USER_ID_CHARS_MAX}");
            return Err(refused(message));
        }
        let found = self.gateway.find_user(user_id).await.map_err(silent)?;
        let rooms = found.iter().take(ADMIN_ROOMS_MAX).map(|presence| {
            let mut line = self.control.room_names(presence.room);
            line["connections"] = presence.connections.into();
            line
        });
        let rooms: Vec<_> = rooms.collect();
        Ok(json!({ "rooms": rooms, "is_more": found.len() > ADMIN_ROOMS_MAX }))
    }

    /// `Sender` of some members; fewer if they would not fit an answer.
    async fn named(&self, room: RoomId, count: usize) -> Result<Vec<Value>, Refusal> {
        let members = self.gateway.room_members(room, count).await;
        let mut bytes = 0;
        let mut named = Vec::new();
        for sender in members.map_err(silent)? {
            bytes += sender.len();
            if bytes > ADMIN_VIEWERS_BYTES_MAX {
                break;
            }
            named.extend(serde_json::from_str::<Value>(&sender));
        }
        Ok(named)
    }

    /// A room's names and figures.
    fn line(&self, figures: RoomFigures) -> Value {
        let mut line = self.control.room_names(figures.room);
        line["viewers"] = figures.viewers.into();
        line["per_minute"] = figures.per_minute.into();
        line
    }
}

/// A number of rooms; `most` if none is wanted.
fn within(field: &str, wanted: Option<usize>, most: usize) -> Result<usize, Refusal> {
    match wanted {
        None => Ok(most),
        Some(wanted) if (1..=most).contains(&wanted) => Ok(wanted),
        Some(wanted) => {
            let message = format!("{field} is {wanted}; it must be 1 to {most}");
            Err(refused(message))
        }
    }
}
