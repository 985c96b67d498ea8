//! The settings of a room beyond IVS Chat's, typed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::limits::{HISTORY_AGE_SECONDS_MAX, RESUME_SECONDS, ROLE_CHARS_MAX, ROLES_MAX};

/// What the `uproar:` tags of a room ask for; by default nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent settings, not a state"
)]
pub struct Settings {
    /// Seconds between two messages of a user.
    pub slow: Option<u32>,
    /// Which messages may not be said again.
    pub unique: Option<Unique>,
    /// Who may write.
    pub talk: Talk,
    /// Seconds that a user must have been known for, by the token's `uproar:since`.
    pub age: Option<u32>,
    /// Whether messages are emotes alone.
    pub emotes_only: bool,
    /// Seconds for which a kick also bans.
    pub kick: Option<u32>,
    /// Whether bans are announced to the whole room.
    pub shows_bans: bool,
    /// Seconds between two events of the number of viewers.
    pub viewers: Option<u32>,
    /// Names of the room's reactions.
    pub reactions: Option<Roles>,
    /// Milliseconds for which reactions are summed.
    pub reactions_millis: Option<u32>,
    /// Messages that who joins gets.
    pub history: Option<u32>,
    /// Seconds for which they are remembered.
    pub history_age: Option<u32>,
    /// Seconds within which a viewer who comes back gets what he missed.
    pub resume: Option<u32>,
    /// Sets of rules that its messages are held to.
    pub rules: Option<Roles>,
    /// The function that reviews messages after their delivery, as an ARN.
    pub after_review: Option<Box<str>>,
    /// Whether a moderator's message that begins with a slash is a command.
    pub slash: bool,
    /// Whether the room's state is kept from its members.
    pub hides_state: bool,
}

/// Who may write in a room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Talk {
    /// Everybody whose token permits it.
    #[default]
    All,
    /// Nobody but moderators.
    Nobody,
    /// Those with one of these roles, and moderators.
    Roles(Roles),
}

/// Words that name roles, or reactions, in the order of the tag; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles(Box<[Box<str>]>);

/// Which messages may not be said again for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unique {
    /// Whose messages count.
    pub scope: UniqueScope,
    /// For how many seconds.
    pub seconds: u32,
}

/// Whose messages a message is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniqueScope {
    /// The user's own.
    User,
    /// Everybody's in the room.
    Room,
}

/// What a room is asked to remember; never nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recall {
    /// Messages that who joins gets.
    pub history: usize,
    /// For how long they are remembered.
    pub history_age: Duration,
    /// Within which time a viewer who comes back gets what he missed; zero: never.
    pub resume: Duration,
}

impl Settings {
    /// What is to be remembered of the room's messages; `None`: nothing.
    pub fn recall(&self) -> Option<Recall> {
        let history = self.history.unwrap_or(0);
        let unasked = if history > 0 { RESUME_SECONDS } else { 0 };
        let resume = self.resume.unwrap_or(unasked);
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        (history > 0 || resume > 0).then(|| Recall {
            history: usize::try_from(history).unwrap_or(usize::MAX),
            history_age: seconds(self.history_age.unwrap_or(HISTORY_AGE_SECONDS_MAX)),
            resume: seconds(resume),
        })
    }

    /// Whether messages are judged by a mode.
    pub fn has_modes(&self) -> bool {
        self.slow.is_some()
            || self.unique.is_some()
            || self.talk != Talk::All
            || self.age.is_some()
            || self.emotes_only
    }
}

impl Roles {
    /// Reads words joined by `+`; `None` if one is no role, or there are too many.
    pub fn parse(text: &str) -> Option<Self> {
        let words: Box<[Box<str>]> = text.split('+').map(Box::from).collect();
        let is_valid = words.len() <= ROLES_MAX && words.iter().all(|word| is_role(word));
        is_valid.then_some(Self(words))
    }

    /// Whether a role is one of them.
    pub fn contains(&self, role: &str) -> bool {
        self.0.iter().any(|word| **word == *role)
    }

    /// The words.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|word| &**word)
    }

    /// The words, joined.
    pub fn joined(&self, by: &str) -> String {
        self.0.join(by)
    }
}

/// Whether a text is the name of a role: a word of letters, digits, `-` and `_`.
pub fn is_role(word: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !word.is_empty() && word.len() <= ROLE_CHARS_MAX && word.bytes().all(is_plain)
}
