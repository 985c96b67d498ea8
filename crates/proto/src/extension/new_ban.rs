//! A ban as a moderator or a back end asks for it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::bans::BanMode;
use crate::base::limits::{BAN_SECONDS_MAX, REASON_CHARS_MAX, USER_ID_CHARS_MAX};

/// Names and values behind a command, without the prefix.
type Arguments = BTreeMap<String, String>;

/// A ban that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBan {
    /// The user.
    pub user_id: Box<str>,
    /// What the user may not do.
    pub mode: BanMode,
    /// For how long; `None`: for ever.
    pub seconds: Option<u32>,
    /// Why, for people.
    pub reason: Box<str>,
    /// What it came with.
    pub cause: Cause,
}

/// What a ban comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Somebody asked for it.
    Asked,
    /// A kick, in a room with `uproar:kick`.
    Kick,
    /// A message that a rule hit.
    Rule,
}

impl NewBan {
    /// Reads a command's; without a number it lasts `seconds`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(
        mode: BanMode,
        seconds: Option<u32>,
        arguments: &Arguments,
    ) -> Result<Self, Cow<'static, str>> {
        let seconds = match arguments.get("seconds") {
            None => seconds,
            Some(text) => {
                let is_digits = text.bytes().all(|b| b.is_ascii_digit());
                let given = text.parse().ok().filter(|_| is_digits);
                let given = given.filter(|given| (1..=BAN_SECONDS_MAX).contains(given));
                Some(given.ok_or("uproar:seconds must be an integer from 1 to 315360000")?)
            }
        };
        let reason = arguments.get("reason").map_or("", |reason| reason);
        if reason.chars().count() > REASON_CHARS_MAX {
            let text = format!("uproar:reason must have at most {REASON_CHARS_MAX} characters");
            return Err(text.into());
        }
        Ok(Self {
            user_id: user(arguments)?,
            mode,
            seconds,
            reason: reason.into(),
            cause: Cause::Asked,
        })
    }
}

/// The user that a command names.
///
/// # Errors
///
/// It names none.
pub fn user(arguments: &Arguments) -> Result<Box<str>, Cow<'static, str>> {
    let user = arguments.get("user").map_or("", |user| user);
    if (1..=USER_ID_CHARS_MAX).contains(&user.chars().count()) {
        Ok(user.into())
    } else {
        Err(format!("uproar:user must be a user id of 1 to {USER_ID_CHARS_MAX} characters").into())
    }
}
