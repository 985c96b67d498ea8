//! An entry point for fuzz targets: bodies as the operations read them, without a server.

use std::collections::BTreeMap;

use super::listing::Page;
use super::{logging, rooms, tags};
use crate::control::input::Input;
use crate::control::input::pattern::{ANY, CAPABILITY, EVENT_NAME, MESSAGE_ID};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{EVENT_NAME_CHARS_MAX, USER_ID_CHARS_MAX};

/// The members that the operations read.
#[derive(Debug)]
pub struct Seen {
    /// A room's member.
    pub name: Option<String>,
    /// A room's member.
    pub message_rate: Option<u32>,
    /// A room's member.
    pub message_length: Option<u32>,
    /// A member of any resource.
    pub tags: Option<BTreeMap<String, String>>,
    /// A member of an event or a token.
    pub attributes: Option<BTreeMap<String, String>>,
    /// A member of an event.
    pub event_name: Option<String>,
    /// A member of a message.
    pub id: Option<String>,
    /// A member of a token, or the user to disconnect.
    pub user_id: Option<String>,
    /// A member of a token.
    pub capabilities: Option<Vec<String>>,
    /// The page token, as this server would write it.
    pub page: Option<String>,
}

/// Reads every member that an operation reads in its own way; returns the text of any faults.
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

/// Tag keys of a query, or the text of the fault.
pub fn tag_keys(query: &str) -> Result<Vec<String>, String> {
    let keys = tags::keys(query).map_err(|fault| format!("{fault:?}"))?;
    Ok(keys.into_iter().collect())
}
