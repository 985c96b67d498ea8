//! Tags `uproar:<name>`: one table of their names, values and meanings.

use super::reactions::WINDOW;
use super::settings::{Roles, Settings, Talk, Unique, UniqueScope};
use super::{PREFIX, is_ours};
use crate::base::limits::{
    AGE_SECONDS_MAX, BAN_SECONDS_MAX, HISTORY_AGE_SECONDS_MAX, HISTORY_AGE_SECONDS_MIN,
    HISTORY_MESSAGES_MAX, REACTIONS_MILLIS_MAX, REACTIONS_MILLIS_MIN, RESUME_SECONDS_MAX,
    RULE_SETS_PER_ROOM_MAX, SLOW_SECONDS_MAX, UNIQUE_SECONDS_MAX, VIEWERS_SECONDS_MAX,
};
use crate::chat::review::is_function_arn;

/// A tag: what it is called, which values it takes, and what they mean.
#[derive(Debug, Clone, Copy)]
pub struct Tag {
    /// Its name, without the prefix.
    pub name: &'static str,
    /// What its value must be.
    pub must: &'static str,
    /// Whether it is a mode of the chat, which moderators may change for a while.
    pub is_mode: bool,
    /// Its name in the room's state; `None`: it is not shown there.
    pub shown_as: Option<&'static str>,
    read: fn(&str, &mut Settings) -> Option<()>,
    show: fn(&Settings) -> String,
}

/// Why a tag is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagFault {
    /// There is none of this name.
    Unknown,
    /// Its value must be another one.
    Value(&'static str),
}

/// Every tag.
pub const TAGS: &[Tag] = &[
    Tag {
        name: "slow",
        must: "must be an integer from 1 to 3600, in seconds",
        is_mode: true,
        shown_as: Some("Slow"),
        read: |value, settings| {
            settings.slow = Some(seconds(value, SLOW_SECONDS_MAX)?);
            Some(())
        },
        show: |settings| number(settings.slow),
    },
    Tag {
        name: "unique",
        must: "must be user: or room: and an integer from 1 to 600, in seconds, as in user:60",
        is_mode: true,
        shown_as: Some("Unique"),
        read: |value, settings| {
            settings.unique = Some(unique(value)?);
            Some(())
        },
        show: |settings| settings.unique.map(show_unique).unwrap_or_default(),
    },
    Tag {
        name: "talk",
        must: "must be all, none, or at most 16 roles joined by +, as in sub+vip",
        is_mode: true,
        shown_as: Some("Talk"),
        read: |value, settings| {
            settings.talk = match value {
                "all" => Talk::All,
                "none" => Talk::Nobody,
                roles => Talk::Roles(Roles::parse(roles)?),
            };
            Some(())
        },
        show: |settings| match &settings.talk {
            Talk::All => "all".to_owned(),
            Talk::Nobody => "none".to_owned(),
            Talk::Roles(roles) => roles.joined("+"),
        },
    },
    Tag {
        name: "age",
        must: "must be an integer from 1 to 315360000, in seconds",
        is_mode: true,
        shown_as: Some("Age"),
        read: |value, settings| {
            settings.age = Some(seconds(value, AGE_SECONDS_MAX)?);
            Some(())
        },
        show: |settings| number(settings.age),
    },
    Tag {
        name: "emotes",
        must: "must be only",
        is_mode: true,
        shown_as: Some("Emotes"),
        read: |value, settings| {
            settings.emotes_only = true;
            (value == "only").then_some(())
        },
        show: |settings| word(settings.emotes_only, "only"),
    },
    Tag {
        name: "kick",
        must: "must be an integer from 1 to 315360000, in seconds",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            settings.kick = Some(seconds(value, BAN_SECONDS_MAX)?);
            Some(())
        },
        show: |settings| number(settings.kick),
    },
    Tag {
        name: "show-bans",
        must: "must be all",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            settings.shows_bans = true;
            (value == "all").then_some(())
        },
        show: |settings| word(settings.shows_bans, "all"),
    },
    Tag {
        name: "viewers",
        must: "must be an integer from 1 to 300, in seconds",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            settings.viewers = Some(seconds(value, VIEWERS_SECONDS_MAX)?);
            Some(())
        },
        show: |settings| number(settings.viewers),
    },
    Tag {
        name: "reactions",
        must: "must be at most 16 names joined by +, as in heart+fire",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            let names = Roles::parse(value)?;
            let is_free = !names.contains(WINDOW);
            settings.reactions = Some(names);
            is_free.then_some(())
        },
        show: |settings| {
            let names = settings.reactions.as_ref();
            names.map(|names| names.joined("+")).unwrap_or_default()
        },
    },
    Tag {
        name: "reactions-ms",
        must: "must be an integer from 250 to 10000, in milliseconds",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            let millis = seconds(value, REACTIONS_MILLIS_MAX)?;
            settings.reactions_millis = Some(millis);
            (millis >= REACTIONS_MILLIS_MIN).then_some(())
        },
        show: |settings| number(settings.reactions_millis),
    },
    Tag {
        name: "history",
        must: "must be an integer from 1 to 200, in messages",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            settings.history = Some(seconds(value, HISTORY_MESSAGES_MAX)?);
            Some(())
        },
        show: |settings| number(settings.history),
    },
    Tag {
        name: "history-age",
        must: "must be an integer from 60 to 86400, in seconds",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            let age = seconds(value, HISTORY_AGE_SECONDS_MAX)?;
            settings.history_age = Some(age);
            (age >= HISTORY_AGE_SECONDS_MIN).then_some(())
        },
        show: |settings| number(settings.history_age),
    },
    Tag {
        name: "resume",
        must: "must be an integer from 0 to 600, in seconds",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            settings.resume = Some(match value {
                "0" => 0,
                value => seconds(value, RESUME_SECONDS_MAX)?,
            });
            Some(())
        },
        show: |settings| number(settings.resume),
    },
    Tag {
        name: "rules",
        must: "must be at most 8 names of rule sets joined by +, as in house+de",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            let names = Roles::parse(value)?;
            let is_few = names.iter().count() <= RULE_SETS_PER_ROOM_MAX;
            settings.rules = Some(names);
            is_few.then_some(())
        },
        show: |settings| {
            let names = settings.rules.as_ref();
            names.map(|names| names.joined("+")).unwrap_or_default()
        },
    },
    Tag {
        name: "after-review",
        must: "must be a function, as in arn:aws:lambda:eu-central-1:123456789012:function:name",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            settings.after_review = Some(value.into());
            is_function_arn(value).then_some(())
        },
        show: |settings| {
            settings
                .after_review
                .as_deref()
                .unwrap_or_default()
                .to_owned()
        },
    },
    Tag {
        name: "commands",
        must: "must be slash",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            settings.slash = true;
            (value == "slash").then_some(())
        },
        show: |settings| word(settings.slash, "slash"),
    },
    Tag {
        name: "state",
        must: "must be on or off",
        is_mode: false,
        shown_as: None,
        read: |value, settings| {
            settings.hides_state = value == "off";
            matches!(value, "on" | "off").then_some(())
        },
        show: |settings| word(settings.hides_state, "off"),
    },
];

impl Tag {
    /// The tag of this name, without the prefix.
    pub fn named(name: &str) -> Option<&'static Self> {
        TAGS.iter().find(|tag| tag.name == name)
    }

    /// Sets it to `value`.
    ///
    /// # Errors
    ///
    /// [`TagFault::Value`], and the settings are as they were.
    pub fn set(&self, value: &str, settings: &mut Settings) -> Result<(), TagFault> {
        let mut changed = settings.clone();
        (self.read)(value, &mut changed).ok_or(TagFault::Value(self.must))?;
        *settings = changed;
        Ok(())
    }

    /// Its value in force; empty if it is not set.
    pub fn show(&self, settings: &Settings) -> String {
        (self.show)(settings)
    }
}

/// Checks one tag of a room. Tags that are not ours are valid.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(key: &str, value: &str) -> Result<(), TagFault> {
    let Some(name) = key.strip_prefix(PREFIX) else {
        return Ok(());
    };
    let tag = Tag::named(name).ok_or(TagFault::Unknown)?;
    tag.set(value, &mut Settings::default())
}

/// The settings that a room's tags ask for; `None` if none of them is ours. A tag that is not valid asks for nothing: it was
/// stored while the extensions were switched off.
pub fn settings<'a>(tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Settings> {
    let mut settings = None;
    for (key, value) in tags {
        let tag = key.strip_prefix(PREFIX).and_then(Tag::named);
        if let Some(tag) = tag {
            let mut changed = settings.clone().unwrap_or_default();
            if tag.set(value, &mut changed).is_ok() {
                settings = Some(changed);
            }
        }
    }
    settings
}

/// Whether a change of tags may change what is in force.
pub fn differ<'a>(
    before: impl IntoIterator<Item = (&'a str, &'a str)>,
    after: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> bool {
    let ours = |(key, _): &(&str, &str)| is_ours(key);
    let (before, after) = (
        before.into_iter().filter(ours),
        after.into_iter().filter(ours),
    );
    !before.eq(after)
}

/// A whole number, of seconds if nothing else is said, from 1 to `most`, in digits alone.
fn seconds(value: &str, most: u32) -> Option<u32> {
    let is_digits = value.bytes().all(|b| b.is_ascii_digit());
    let number = value.parse().ok().filter(|_| is_digits)?;
    (1..=most).contains(&number).then_some(number)
}

fn unique(value: &str) -> Option<Unique> {
    let (scope, time) = value.split_once(':')?;
    let scope = match scope {
        "user" => UniqueScope::User,
        "room" => UniqueScope::Room,
        _ => return None,
    };
    let seconds = seconds(time, UNIQUE_SECONDS_MAX)?;
    Some(Unique { scope, seconds })
}

fn show_unique(unique: Unique) -> String {
    let scope = match unique.scope {
        UniqueScope::User => "user",
        UniqueScope::Room => "room",
    };
    format!("{scope}:{}", unique.seconds)
}

fn number(value: Option<u32>) -> String {
    value.map(|number| number.to_string()).unwrap_or_default()
}

fn word(is_set: bool, value: &str) -> String {
    if is_set {
        value.to_owned()
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Goal: the bounds that a refusal names are those that hold.
    #[test]
    fn values_are_taken_up_to_their_bounds() {
        for (key, good, bad) in [
            (
                "slow",
                &["1", "3600"][..],
                &["0", "3601", "", "abc", "+1", "1 ", "1.5"][..],
            ),
            (
                "unique",
                &["user:1", "room:600"],
                &["user", "user:", "user:0", "room:601", "all:5"],
            ),
            (
                "talk",
                &["all", "none", "sub", "sub+vip", "a-b+c_d"],
                &["", "+", "sub+", "a b", "a:b"],
            ),
            ("age", &["1", "315360000"], &["0", "315360001"]),
            ("emotes", &["only"], &["", "all", "Only"]),
            ("kick", &["1", "315360000"], &["0", "-1"]),
            ("show-bans", &["all"], &["none"]),
            ("viewers", &["1", "300"], &["0", "301"]),
            (
                "reactions",
                &["heart", "a+b"],
                &["", "+", "a b", "WindowMs"],
            ),
            ("reactions-ms", &["250", "10000"], &["0", "249", "10001"]),
            ("history", &["1", "200"], &["0", "201"]),
            ("history-age", &["60", "86400"], &["59", "86401"]),
            ("resume", &["0", "1", "600"], &["601", "00", ""]),
            (
                "rules",
                &["house", "house+de", "a+b+c+d+e+f+g+h"],
                &["", "+", "a b", "a+b+c+d+e+f+g+h+i"],
            ),
            (
                "after-review",
                &["arn:aws:lambda:eu-central-1:123456789012:function:f"],
                &["", "f", "arn:aws:lambda:eu-central-1:1:function:f"],
            ),
            ("commands", &["slash"], &["on"]),
            ("state", &["on", "off"], &["true"]),
        ] {
            let tag = format!("uproar:{key}");
            for value in good {
                assert_eq!(check(&tag, value), Ok(()), "{tag}={value}");
            }
            for value in bad {
                let must = Tag::named(key).expect("it is in the table").must;
                assert_eq!(
                    check(&tag, value),
                    Err(TagFault::Value(must)),
                    "{tag}={value}"
                );
            }
        }
        assert_eq!(check("uproar:slwo", "10"), Err(TagFault::Unknown));
        assert_eq!(check("uproar:", ""), Err(TagFault::Unknown));
        assert_eq!(check("Uproar:slow", "x"), Ok(()), "another key");
    }

    /// Goal: a room without our tags has no settings, and tags of before the switch ask for nothing.
    #[test]
    fn only_valid_tags_make_settings() {
        assert_eq!(settings([("team", "a"), ("uproarious", "b")]), None);
        assert_eq!(
            settings([("uproar:slow", "never"), ("uproar:what", "1")]),
            None
        );
        let found = settings([("a", "b"), ("uproar:slow", "10"), ("uproar:age", "x")]);
        let slow = Settings {
            slow: Some(10),
            ..Settings::default()
        };
        assert_eq!(found, Some(slow));
        assert_eq!(
            settings([("uproar:state", "on")]),
            Some(Settings::default())
        );
    }

    proptest! {
        /// Goal: no text panics, and what is shown of a valid value asks for the same again.
        #[test]
        fn shown_values_are_read_again(name in 0..TAGS.len(), value in "\\PC{0,24}|[a-z]{1,8}(\\+[a-z]{1,8}){0,20}|[a-z]{4}:[0-9]{1,4}|[0-9]{1,12}") {
            let tag = &TAGS[name];
            let mut read = Settings::default();
            if tag.set(&value, &mut read).is_ok() {
                let shown = tag.show(&read);
                let mut again = Settings::default();
                if !shown.is_empty() {
                    tag.set(&shown, &mut again).expect("it is shown as it is read");
                }
                prop_assert_eq!(again, read);
            } else {
                prop_assert_eq!(read, Settings::default());
            }
        }
    }
}
