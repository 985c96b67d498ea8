//! A door for fuzz targets: bodies as the operations read them, without a server behind.

use std::collections::BTreeMap;

use super::listing::Page;
use super::{logging, rooms, tags};
use crate::base::id::RoomId;
use crate::base::limits::{EVENT_NAME_CHARS_MAX, USER_ID_CHARS_MAX};
use crate::control::input::Input;
use crate::control::input::pattern::{ANY, CAPABILITY, EVENT_NAME, MESSAGE_ID};

/// What was read, as the operations would.
#[derive(Debug)]
pub struct Seen {
    /// Of a room.
    pub name: Option<String>,
    /// Of a room.
    pub message_rate: Option<u32>,
    /// Of a room.
    pub message_length: Option<u32>,
    /// Of any resource.
    pub tags: Option<BTreeMap<String, String>>,
    /// Of an event or a token.
    pub attributes: Option<BTreeMap<String, String>>,
    /// Of an event.
    pub event_name: Option<String>,
    /// Of a message.
    pub id: Option<String>,
    /// Of a token, and of who is disconnected.
    pub user_id: Option<String>,
    /// Of a token.
    pub capabilities: Option<Vec<String>>,
    /// The page token, as this server would write it.
    pub page: Option<String>,
}

/// Reads every member that any operation reads in a way of its own; the faults' text if there are any.
pub fn see(body: &[u8]) -> Result<Seen, String> {
    let text = |fault| format!("{fault:?}");
    let mut input = Input::parse(body).map_err(text)?;
    let (name, message_rate, message_length) = rooms::seen(&mut input);
    let seen = Seen {
        name,
        message_rate,
        message_length,
        tags: tags::read(&mut input),
        attributes: input.attributes("attributes"),
        event_name: input.text("eventName", 1..=EVENT_NAME_CHARS_MAX, EVENT_NAME),
        id: input.text("id", 12..=12, MESSAGE_ID),
        user_id: input.text("userId", 1..=USER_ID_CHARS_MAX, ANY),
        capabilities: input.list("capabilities", usize::MAX, CAPABILITY),
        page: Page::<RoomId>::read(&mut input).token(),
    };
    let _destination = logging::destination(&mut input);
    input.finish().map_err(text)?;
    Ok(seen)
}

/// Tag keys of a query; the fault's text if there is one.
pub fn tag_keys(query: &str) -> Result<Vec<String>, String> {
    let keys = tags::keys(query).map_err(|fault| format!("{fault:?}"))?;
    Ok(keys.into_iter().collect())
}
