//! Commands of members: a message with the attribute `uproar:do`, or, where the room's tags say so, a moderator's message
//! that begins with a slash. One table of verbs; a further one is a variant of [`Verb`] and a row.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::alias::{Alias, OFF};
use super::bans::BanMode;
use super::held::Decision;
use super::new_ban::{self, NewBan};
use super::pin::PinRequest;
use super::reactions::Taps;
use super::settings::is_role;
use super::tags::{TAGS, Tag, TagFault};
use super::tally::TallyPlan;
use super::{PREFIX, Settings, Speaker, is_ours};
use crate::base::id::FrameId;
use crate::base::limits::{
    CONTENT_CHARS_MAX, OVERRIDE_SECONDS_MAX, PIN_SECONDS_MAX, REASON_CHARS_MAX,
    TAG_VALUE_CHARS_MAX, TIMEOUT_SECONDS_DEFAULT,
};
use crate::chat::{ErrorCode, Request, encode, texts};
use crate::token::{Capabilities, Capability};

/// The attribute that makes a message a command.
const DO: &str = "uproar:do";

/// Which messages of a room's members are commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Commands {
    /// None: attributes are data, as in IVS Chat.
    #[default]
    None,
    /// Those with the attribute `uproar:do`; others of ours are refused.
    Attributes,
    /// The same, and a moderator's messages that begin with a slash.
    Slash,
}

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// A mode of the room is changed, over its tag.
    Set(Set),
    /// A message is pinned.
    Pin(PinRequest),
    /// The pin is taken back; with an id, if it is that message, which was deleted.
    Unpin(Option<FrameId>),
    /// A vote in a tally.
    Vote(Choice),
    /// A reaction.
    React(Taps),
    /// A user is banned, in one mode or another.
    Ban(NewBan),
    /// A user's ban is lifted.
    Unban(Box<str>),
    /// All messages of a user are taken back.
    Purge {
        /// The user's id.
        user_id: Box<str>,
        /// Why; may be empty.
        reason: Box<str>,
    },
    /// All messages of the room are taken back; why.
    Clear(Box<str>),
    /// A held message is said, or is not.
    Decide(Decision),
}

/// A vote, as its member writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The tally's id.
    pub tally: Box<str>,
    /// The option's number, from 1.
    pub option: u8,
}

/// A change of one mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The tag's name, without the prefix.
    pub tag: &'static str,
    /// The value over the tag's; empty: the mode is off; `None`: the tag counts again.
    pub value: Option<Box<str>>,
    /// For how long; `None`: until it is changed again.
    pub seconds: Option<u32>,
}

/// A valid command, which the token allows, or why there is none.
pub type Command = Result<Verb, CommandFault>;

/// Why a command is refused: code and text.
pub type CommandFault = (ErrorCode, Cow<'static, str>);

/// Names and values behind a command, without the prefix.
type Arguments = BTreeMap<String, String>;

/// How a verb is called, by whom, and how its arguments are read.
struct Row {
    name: &'static str,
    needs: Option<Capability>,
    // In the order of a slash command; the last one takes all words that are left.
    arguments: &'static [&'static str],
    read: fn(&Arguments) -> Result<Verb, Cow<'static, str>>,
}

const VERBS: &[Row] = &[
    Row {
        name: "set",
        needs: Some(Capability::DisconnectUser),
        arguments: &["key", "value", "seconds"],
        read: set,
    },
    Row {
        name: "pin",
        needs: Some(Capability::DeleteMessage),
        arguments: &["id", "text", "seconds"],
        read: pin,
    },
    Row {
        name: "unpin",
        needs: Some(Capability::DeleteMessage),
        arguments: &[],
        read: |_| Ok(Verb::Unpin(None)),
    },
    Row {
        name: "vote",
        needs: None,
        arguments: &["tally", "option"],
        read: vote,
    },
    Row {
        name: "react",
        needs: None,
        arguments: &["key", "n"],
        read: react,
    },
    Row {
        name: "timeout",
        needs: Some(Capability::DisconnectUser),
        arguments: &["user", "seconds", "reason"],
        read: |arguments| {
            NewBan::read(BanMode::Timeout, Some(TIMEOUT_SECONDS_DEFAULT), arguments).map(Verb::Ban)
        },
    },
    Row {
        name: "ban",
        needs: Some(Capability::DisconnectUser),
        arguments: &["user", "reason", "seconds"],
        read: |arguments| NewBan::read(BanMode::Ban, None, arguments).map(Verb::Ban),
    },
    Row {
        name: "shadow",
        needs: Some(Capability::DisconnectUser),
        arguments: &["user", "reason", "seconds"],
        read: |arguments| NewBan::read(BanMode::Shadow, None, arguments).map(Verb::Ban),
    },
    Row {
        name: "unban",
        needs: Some(Capability::DisconnectUser),
        arguments: &["user"],
        read: |arguments| new_ban::user(arguments).map(Verb::Unban),
    },
    Row {
        name: "purge",
        needs: Some(Capability::DeleteMessage),
        arguments: &["user", "reason"],
        read: |arguments| {
            Ok(Verb::Purge {
                user_id: new_ban::user(arguments)?,
                reason: reason(arguments)?,
            })
        },
    },
    Row {
        name: "clear",
        needs: Some(Capability::DeleteMessage),
        arguments: &["reason"],
        read: |arguments| reason(arguments).map(Verb::Clear),
    },
    Row {
        name: "allow",
        needs: Some(Capability::DeleteMessage),
        arguments: &["id"],
        read: |arguments| Decision::read(true, arguments).map(Verb::Decide),
    },
    Row {
        name: "deny",
        needs: Some(Capability::DeleteMessage),
        arguments: &["id", "reason"],
        read: |arguments| Decision::read(false, arguments).map(Verb::Decide),
    },
];

impl Commands {
    /// Those of a room with these settings.
    pub fn of(settings: Option<&Settings>) -> Self {
        match settings {
            None => Self::None,
            Some(settings) if settings.slash => Self::Slash,
            Some(_) => Self::Attributes,
        }
    }
}

impl Verb {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::Pin(_) => "pin",
            Self::Unpin(_) => "unpin",
            Self::Vote(_) => "vote",
            Self::React(_) => "react",
            Self::Ban(ban) => ban.mode.name(),
            Self::Unban(_) => "unban",
            Self::Purge { .. } => "purge",
            Self::Clear(_) => "clear",
            Self::Decide(decision) => decision.verb(),
        }
    }
}

/// `Attributes` of the answer to a command of this name, for its sender alone: a message, so that the promise of an official client
/// resolves.
pub fn answer_attributes(verb: &str) -> String {
    encode::attributes_json([(DO, verb), ("uproar:private", "1"), ("uproar:result", "ok")])
}

/// Reads the command that a request is; `None`: it is none, and everybody may get it.
pub fn read(
    request: &Request<'_>,
    commands: Commands,
    capabilities: Capabilities,
) -> Option<Command> {
    let Request::SendMessage {
        content,
        attributes_json,
        ..
    } = *request
    else {
        return None;
    };
    if commands == Commands::None {
        return None;
    }
    if attributes_json.contains(PREFIX) {
        let attributes: Arguments = serde_json::from_str(attributes_json).unwrap_or_default();
        if attributes.keys().any(|key| is_ours(key)) {
            return Some(by_attributes(attributes).and_then(|asked| asked.judge(capabilities)));
        }
    }
    let words = content.strip_prefix('/')?;
    let is_crew = Speaker::of(capabilities, None).is_crew();
    (commands == Commands::Slash && is_crew)
        .then(|| by_slash(words).and_then(|asked| asked.judge(capabilities)))
}

/// A command that has a row.
struct Asked {
    row: &'static Row,
    arguments: Arguments,
}

impl Asked {
    /// Reads it if the token allows it.
    fn judge(self, capabilities: Capabilities) -> Command {
        let needs = self.row.needs;
        if needs.is_some_and(|needed| !capabilities.contains(needed)) {
            return Err((ErrorCode::Forbidden, texts::CAPABILITY.into()));
        }
        (self.row.read)(&self.arguments).map_err(|text| (ErrorCode::BadRequest, text))
    }
}

fn by_attributes(attributes: Arguments) -> Result<Asked, CommandFault> {
    let Some(verb) = attributes.get(DO) else {
        return Err(bad("Attributes that begin with uproar: are the server's"));
    };
    let row = verb_named(verb)?;
    let mut arguments = Arguments::new();
    for (key, value) in attributes {
        match key.strip_prefix(PREFIX) {
            None | Some("do") => {}
            Some(name) if row.arguments.contains(&name) => {
                arguments.insert(name.to_owned(), value);
            }
            Some(_) => {
                let known = row.arguments.iter().map(|name| format!("{PREFIX}{name}"));
                let known = known.collect::<Vec<_>>().join(", ");
                let text = format!("{} has the attributes {known}, and no other", row.name);
                return Err((ErrorCode::BadRequest, text.into()));
            }
        }
    }
    Ok(Asked { row, arguments })
}

fn by_slash(words: &str) -> Result<Asked, CommandFault> {
    let (word, rest) = words.split_once(' ').unwrap_or((words, ""));
    let alias = Alias::of(word);
    let (row, names, fixed) = if let Some(alias) = alias {
        (verb_named(alias.verb)?, alias.arguments, alias.fixed)
    } else {
        let row = verb_named(word)?;
        (row, row.arguments, &[][..])
    };
    let fixed = fixed
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let mut arguments: Arguments = fixed.collect();
    let mut rest = rest.trim();
    for (at, name) in names.iter().enumerate() {
        let is_last = at + 1 == names.len();
        let (value, after) = match rest.split_once(' ') {
            Some(parts) if !is_last => parts,
            _ => (rest, ""),
        };
        if !value.is_empty() {
            arguments.insert((*name).to_owned(), value.to_owned());
        }
        rest = after.trim_start();
    }
    if rest.is_empty() {
        Ok(Asked { row, arguments })
    } else {
        Err(bad("The command has more words than it takes"))
    }
}

fn verb_named(name: &str) -> Result<&'static Row, CommandFault> {
    let row = VERBS.iter().find(|row| row.name == name);
    row.ok_or_else(|| {
        let known = VERBS.iter().map(|row| row.name).collect::<Vec<_>>();
        let text = format!("Unknown command; the commands are {}", known.join(", "));
        (ErrorCode::BadRequest, text.into())
    })
}

fn set(arguments: &Arguments) -> Result<Verb, Cow<'static, str>> {
    let modes = || TAGS.iter().filter(|tag| tag.is_mode);
    let key = arguments
        .get("key")
        .map_or("", |key| key.strip_prefix(PREFIX).unwrap_or(key));
    let Some(tag) = modes().find(|tag| tag.name == key) else {
        let known = modes().map(|tag| tag.name).collect::<Vec<_>>().join(", ");
        return Err(format!("uproar:key must be one of {known}").into());
    };
    let value = match arguments.get("value").map(|value| &**value) {
        None => None,
        Some(OFF | "") => Some("".into()),
        Some(value) => Some(checked(tag, value)?),
    };
    let seconds = match arguments.get("seconds") {
        None => None,
        Some(text) => {
            let seconds = text
                .parse()
                .ok()
                .filter(|s| (1..=OVERRIDE_SECONDS_MAX).contains(s));
            let must = "uproar:seconds must be an integer from 1 to 86400";
            Some(seconds.ok_or(must)?)
        }
    };
    Ok(Verb::Set(Set {
        tag: tag.name,
        value,
        seconds,
    }))
}

fn pin(arguments: &Arguments) -> Result<Verb, Cow<'static, str>> {
    let mut text = arguments.get("text").map(|text| &**text);
    let id = match arguments.get("id") {
        Some(id) => Some(FrameId::parse(id).ok_or("uproar:id must be the id of a message")?),
        None => text.and_then(FrameId::parse),
    };
    if id.is_some() && !arguments.contains_key("id") {
        text = None;
    }
    let is_short = |text: &str| (1..=CONTENT_CHARS_MAX).contains(&text.chars().count());
    if text.is_some_and(|text| !is_short(text)) || (text.is_none() && id.is_none()) {
        return Err(
            "uproar:id must be the id of a message, or uproar:text 1 to 500 characters".into(),
        );
    }
    let seconds = arguments.get("seconds");
    let seconds = seconds.map(|text| whole(text, PIN_SECONDS_MAX));
    if seconds == Some(None) {
        return Err(
            format!("uproar:seconds must be an integer from 1 to {PIN_SECONDS_MAX}").into(),
        );
    }
    Ok(Verb::Pin(PinRequest {
        id,
        text: text.map(Box::from),
        seconds: seconds.flatten(),
    }))
}

/// A number from 1 to `most`, in digits alone.
fn whole(text: &str, most: u32) -> Option<u32> {
    let is_digits = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_digits)?;
    (1..=most).contains(&number).then_some(number)
}

fn vote(arguments: &Arguments) -> Result<Verb, Cow<'static, str>> {
    let tally = arguments.get("tally").filter(|id| TallyPlan::is_id(id));
    let tally = tally.ok_or("uproar:tally must be the id of a tally")?;
    let option = arguments.get("option").map_or("", |option| option);
    let is_digits = option.bytes().all(|b| b.is_ascii_digit());
    let option = option.parse().ok().filter(|_| is_digits);
    Ok(Verb::Vote(Choice {
        tally: (**tally).into(),
        option: option.ok_or("uproar:option must be the number of an option, from 1")?,
    }))
}

fn react(arguments: &Arguments) -> Result<Verb, Cow<'static, str>> {
    let key = arguments.get("key").filter(|key| is_role(key));
    let key = key.ok_or("uproar:key must be the name of a reaction")?;
    let count = match arguments.get("n") {
        None => 1,
        Some(text) => Taps::count(text).ok_or("uproar:n must be an integer from 1 to 50")?,
    };
    Ok(Verb::React(Taps {
        key: (**key).into(),
        count,
    }))
}

fn reason(arguments: &Arguments) -> Result<Box<str>, Cow<'static, str>> {
    let reason = arguments.get("reason").map_or("", |reason| reason);
    if reason.chars().count() > REASON_CHARS_MAX {
        return Err("uproar:reason is too long".into());
    }
    Ok(reason.into())
}

fn checked(tag: &Tag, value: &str) -> Result<Box<str>, Cow<'static, str>> {
    if value.chars().count() > TAG_VALUE_CHARS_MAX {
        return Err("uproar:value must have at most 256 characters".into());
    }
    match tag.set(value, &mut Settings::default()) {
        Ok(()) => Ok(value.into()),
        Err(TagFault::Value(must)) => Err(format!("{} {must}, or off", tag.name).into()),
        Err(TagFault::Unknown) => Err("uproar:key is not known".into()),
    }
}

fn bad(text: &'static str) -> CommandFault {
    (ErrorCode::BadRequest, text.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::limits::PARSE_PADDING_BYTES;
    use crate::chat::Parser;

    fn crew() -> Capabilities {
        [Capability::SendMessage, Capability::DisconnectUser]
            .into_iter()
            .collect()
    }

    fn send<'a>(content: &'a str, attributes_json: &'a str) -> Request<'a> {
        Request::SendMessage {
            content,
            attributes_json,
            request_id: "r",
        }
    }

    fn slow(value: Option<&str>, seconds: Option<u32>) -> Verb {
        Verb::Set(Set {
            tag: "slow",
            value: value.map(Box::from),
            seconds,
        })
    }

    /// Goal: a command by attributes, with every argument and without.
    #[test]
    fn attributes_are_a_command() {
        for (json, wanted) in [
            (
                r#"{"uproar:do":"set","uproar:key":"slow","uproar:value":"10","uproar:seconds":"60","x":"y"}"#,
                slow(Some("10"), Some(60)),
            ),
            (
                r#"{"uproar:do":"set","uproar:key":"uproar:slow","uproar:value":"off"}"#,
                slow(Some(""), None),
            ),
            (
                r#"{"uproar:do":"set","uproar:key":"slow"}"#,
                slow(None, None),
            ),
        ] {
            assert_eq!(
                read(&send("x", json), Commands::Attributes, crew()),
                Some(Ok(wanted)),
                "{json}"
            );
        }
    }

    /// Goal: each way to be wrong has its code and says what would be right.
    #[test]
    fn wrong_commands_are_refused() {
        let nobody = Capabilities::default();
        for (json, capabilities, code, part) in [
            (r#"{"uproar:private":"1"}"#, crew(), 400, "are the server's"),
            (
                r#"{"uproar:do":"dance"}"#,
                crew(),
                400,
                "the commands are set, pin, unpin, vote, react",
            ),
            (
                r#"{"uproar:do":"set"}"#,
                crew(),
                400,
                "slow, unique, talk, age, emotes",
            ),
            (
                r#"{"uproar:do":"set","uproar:key":"kick"}"#,
                crew(),
                400,
                "must be one of",
            ),
            (
                r#"{"uproar:do":"set","uproar:key":"slow","uproar:value":"0"}"#,
                crew(),
                400,
                "from 1 to 3600",
            ),
            (
                r#"{"uproar:do":"set","uproar:key":"slow","uproar:seconds":"0"}"#,
                crew(),
                400,
                "from 1 to 86400",
            ),
            (
                r#"{"uproar:do":"set","uproar:user":"bob"}"#,
                crew(),
                400,
                "uproar:key",
            ),
            (
                r#"{"uproar:do":"set","uproar:key":"slow"}"#,
                nobody,
                403,
                "capability",
            ),
        ] {
            let found = read(&send("x", json), Commands::Attributes, capabilities);
            let (found, text) = found.expect("of ours").expect_err("refused");
            assert_eq!(found.number(), code, "{json}");
            assert!(text.contains(part), "{json}: {text}");
        }
    }

    /// Goal: pins by id and by words, as attributes and with a slash; without the capability none.
    #[test]
    fn moderators_pin() {
        let mods = [Capability::SendMessage, Capability::DeleteMessage]
            .into_iter()
            .collect();
        let id = FrameId::parse("M2YcHkgffEvU");
        let wanted = |id, text: Option<&str>, seconds| {
            Some(Ok(Verb::Pin(PinRequest {
                id,
                text: text.map(Box::from),
                seconds,
            })))
        };
        for (content, json, pin) in [
            (
                "x",
                r#"{"uproar:do":"pin","uproar:id":"M2YcHkgffEvU"}"#,
                wanted(id, None, None),
            ),
            (
                "x",
                r#"{"uproar:do":"pin","uproar:id":"M2YcHkgffEvU","uproar:text":"hi","uproar:seconds":"60"}"#,
                wanted(id, Some("hi"), Some(60)),
            ),
            ("/pin M2YcHkgffEvU", "null", wanted(id, None, None)),
            (
                "/pin be kind, all of you",
                "null",
                wanted(None, Some("be kind, all of you"), None),
            ),
            ("/unpin", "null", Some(Ok(Verb::Unpin(None)))),
        ] {
            assert_eq!(
                read(&send(content, json), Commands::Slash, mods),
                pin,
                "{content} {json}"
            );
            let viewer = [Capability::SendMessage].into_iter().collect();
            let of_viewer = read(&send(content, json), Commands::Slash, viewer);
            assert!(!matches!(of_viewer, Some(Ok(_))), "{content}");
        }
        for (content, json) in [
            ("/pin", "null"),
            ("/unpin now", "null"),
            ("x", r#"{"uproar:do":"pin","uproar:id":"short"}"#),
            ("x", r#"{"uproar:do":"pin","uproar:text":""}"#),
            (
                "x",
                r#"{"uproar:do":"pin","uproar:text":"a","uproar:seconds":"0"}"#,
            ),
            (
                "x",
                r#"{"uproar:do":"pin","uproar:text":"a","uproar:seconds":"2592001"}"#,
            ),
        ] {
            let found = read(&send(content, json), Commands::Slash, mods);
            assert!(
                matches!(found, Some(Err((ErrorCode::BadRequest, _)))),
                "{content} {json}"
            );
        }
    }

    /// Goal: votes and reactions of everybody; what is out of range is refused with what would be right.
    #[test]
    fn everybody_votes_and_reacts() {
        let viewer = [Capability::SendMessage].into_iter().collect();
        let asked = |json: &str| read(&send("x", json), Commands::Attributes, viewer);
        let vote = Verb::Vote(Choice {
            tally: "p1".into(),
            option: 2,
        });
        let json = r#"{"uproar:do":"vote","uproar:tally":"p1","uproar:option":"2"}"#;
        assert_eq!(asked(json), Some(Ok(vote)));
        for (n, count) in [("", 1), (r#","uproar:n":"50""#, 50)] {
            let taps = Taps {
                key: "heart".into(),
                count,
            };
            let json = format!(r#"{{"uproar:do":"react","uproar:key":"heart"{n}}}"#);
            assert_eq!(asked(&json), Some(Ok(Verb::React(taps))));
        }
        for (json, part) in [
            (
                r#"{"uproar:do":"vote","uproar:option":"1"}"#,
                "uproar:tally",
            ),
            (
                r#"{"uproar:do":"vote","uproar:tally":"a b","uproar:option":"1"}"#,
                "uproar:tally",
            ),
            (
                r#"{"uproar:do":"vote","uproar:tally":"p"}"#,
                "uproar:option",
            ),
            (
                r#"{"uproar:do":"vote","uproar:tally":"p","uproar:option":"-1"}"#,
                "uproar:option",
            ),
            (
                r#"{"uproar:do":"vote","uproar:tally":"p","uproar:option":"+1"}"#,
                "uproar:option",
            ),
            (
                r#"{"uproar:do":"vote","uproar:tally":"p","uproar:option":"256"}"#,
                "uproar:option",
            ),
            (r#"{"uproar:do":"react"}"#, "uproar:key"),
            (
                r#"{"uproar:do":"react","uproar:key":"heart","uproar:n":"0"}"#,
                "1 to 50",
            ),
            (
                r#"{"uproar:do":"react","uproar:key":"heart","uproar:n":"51"}"#,
                "1 to 50",
            ),
            (
                r#"{"uproar:do":"react","uproar:key":"heart","uproar:n":"-1"}"#,
                "1 to 50",
            ),
            (
                r#"{"uproar:do":"react","uproar:key":"heart","uproar:n":"1e1"}"#,
                "1 to 50",
            ),
        ] {
            let (code, text) = asked(json).expect("of ours").expect_err("refused");
            assert_eq!(code, ErrorCode::BadRequest, "{json}");
            assert!(text.contains(part), "{json}: {text}");
        }
    }

    /// Goal: where nothing asks for them, nothing is a command.
    #[test]
    fn other_messages_are_left_alone() {
        let json = r#"{"uproar:do":"set"}"#;
        assert_eq!(read(&send("/slow 5", json), Commands::None, crew()), None);
        assert_eq!(
            read(&send("/slow 5", "null"), Commands::Attributes, crew()),
            None
        );
        let viewer = [Capability::SendMessage].into_iter().collect();
        assert_eq!(
            read(&send("/slow 5", "null"), Commands::Slash, viewer),
            None
        );
        let mentioned = r#"{"text":"uproar:do is a name","a":"\"uproar:do\":"}"#;
        assert_eq!(read(&send("x", mentioned), Commands::Slash, crew()), None);
        let delete = Request::DeleteMessage {
            id: "AAAAAAAAAAAA",
            reason: "uproar:do",
            request_id: "",
        };
        assert_eq!(read(&delete, Commands::Slash, crew()), None);
    }

    fn banned(mode: BanMode, seconds: Option<u32>, reason: &str) -> Verb {
        Verb::Ban(NewBan {
            user_id: "bob".into(),
            mode,
            seconds,
            reason: reason.into(),
            cause: new_ban::Cause::Asked,
        })
    }

    /// Goal: the words that moderators know.
    #[test]
    fn slash_commands_mean_the_same() {
        for (content, wanted) in [
            ("/set slow 10 60", slow(Some("10"), Some(60))),
            ("/slow 10", slow(Some("10"), None)),
            ("/slow  10   60", slow(Some("10"), Some(60))),
            ("/slowoff", slow(Some(""), None)),
            (
                "/timeout bob 60 go away",
                banned(BanMode::Timeout, Some(60), "go away"),
            ),
            (
                "/timeout bob",
                banned(BanMode::Timeout, Some(TIMEOUT_SECONDS_DEFAULT), ""),
            ),
            ("/ban bob 60 times", banned(BanMode::Ban, None, "60 times")),
            ("/shadow bob", banned(BanMode::Shadow, None, "")),
            ("/untimeout bob", Verb::Unban("bob".into())),
        ] {
            let found = read(&send(content, "null"), Commands::Slash, crew());
            assert_eq!(found, Some(Ok(wanted)), "{content}");
        }
        for content in [
            "/",
            "/dance",
            "/slowoff now",
            "/slow 10 60 70",
            "/slow x",
            "/timeout",
            "/timeout bob spam",
            "/timeout bob 0",
            "/timeout bob +5",
            "/ban",
            "/unban",
        ] {
            let found = read(&send(content, "null"), Commands::Slash, crew());
            assert!(
                matches!(found, Some(Err((ErrorCode::BadRequest, _)))),
                "{content}: {found:?}"
            );
        }
    }

    proptest! {
        /// Goal: no spelling of JSON carries an attribute of ours past the server: what is published has none. Method: a
        /// request with any attributes, escaped at will, through the parser that ships. Oracle: serde_json.
        #[test]
        fn nobody_forges_an_attribute(
            keys in proptest::collection::vec("(uproar:[a-z]{0,8}|[a-z:\"\\\\]{0,12})", 1..4),
            escaped: u64, content in "[/a-z ]{1,12}", is_crew: bool,
        ) {
            let spell = |text: &str| -> String {
                let spelled = text.chars().enumerate().map(|(at, c)| {
                    if c == '"' || c == '\\' || escaped >> (at % 64) & 1 == 1 {
                        format!("\\u{:04x}", u32::from(c))
                    } else {
                        c.to_string()
                    }
                });
                spelled.collect()
            };
            let attributes = keys.iter().map(|key| format!("\"{}\":\"1\"", spell(key)));
            let attributes = attributes.collect::<Vec<_>>().join(",");
            let json = format!("{{\"Action\":\"SEND_MESSAGE\",\"Content\":\"{content}\",\"Attributes\":{{{attributes}}}}}");
            let len = json.len();
            let mut padded = json.into_bytes();
            padded.resize(len + PARSE_PADDING_BYTES, 0);
            let mut parser = Parser::default();
            let Ok(request) = parser.parse(&mut padded, len, 500) else {
                return Ok(());
            };
            let capabilities = if is_crew { crew() } else { Capabilities::default() };
            let found = read(&request, Commands::Attributes, capabilities);
            let [_, attributes_json, _] = request.texts();
            let parsed: Arguments = serde_json::from_str(attributes_json).expect("an object");
            prop_assert_eq!(found.is_some(), parsed.keys().any(|key| is_ours(key)));
        }
    }
}
