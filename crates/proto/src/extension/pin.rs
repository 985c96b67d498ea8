//! The message that a room shows above its chat: one, told with the room's state.

use crate::base::clock::UnixTime;
use crate::base::id::FrameId;
use crate::chat::encode::send_time;

/// A pinned message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The message's id; one of its own if it was never said.
    pub id: FrameId,
    /// Its text.
    pub text: Box<str>,
    /// Whose message it is; empty: nobody's.
    pub user: Box<str>,
    /// The moderator who pinned it; empty: a back end.
    pub by: Box<str>,
    /// Its attributes, as JSON; empty: it has none.
    pub attributes_json: Box<str>,
    /// Until when; `None`: until it is changed.
    pub until: Option<UnixTime>,
}

impl Pin {
    /// What members are told of it, in the room's state.
    pub fn shown(pin: Option<&Self>) -> Vec<(&'static str, String)> {
        let Some(pin) = pin else {
            return vec![(PINNED, String::new())];
        };
        let mut shown = vec![
            (PINNED, pin.id.as_str().to_owned()),
            ("PinnedText", pin.text.to_string()),
            ("PinnedUser", pin.user.to_string()),
            ("PinnedBy", pin.by.to_string()),
            ("PinnedUntil", pin.until.map(send_time).unwrap_or_default()),
        ];
        if !pin.attributes_json.is_empty() {
            shown.push(("PinnedAttributes", pin.attributes_json.to_string()));
        }
        shown
    }
}

/// The id of what is pinned; empty: nothing is.
const PINNED: &str = "Pinned";

/// What is to be pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRequest {
    /// The message, if it was said.
    pub id: Option<FrameId>,
    /// Its text; `None`: as it was said.
    pub text: Option<Box<str>>,
    /// For how long; `None`: until it is changed.
    pub seconds: Option<u32>,
}
