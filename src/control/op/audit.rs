//! ListAuditRecords; and what the API does as moderation is noted before it is answered.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::authorize::Authorized;
use super::request::Answer;
use super::tags;
use crate::audit::{By, Entry, Place, page};
use crate::control::fault::Fault;
use crate::control::input::Input;
use crate::control::input::pattern::ANY;
use crate::control::operation::Operation;
use crate::control::state::Control;
use crate::logging::{Kind, local};
use crate::supervisor::blocking;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::AUDIT_PAGE_MAX;
use uproar_proto::extension::is_ours;

/// A call of moderation that is about to be carried out.
#[derive(Debug)]
pub(super) struct Draft {
    operation: Operation,
    by: String,
    room: String,
    target: String,
    reason: String,
}

impl Draft {
    /// What the call will be noted as; `None`: it is no moderation, or nothing is noted.
    pub(super) fn of(control: &Control, operation: Operation, call: &Authorized) -> Option<Self> {
        if !operation.is_moderation() || !control.gateway.shared().audit.is_on() {
            return None;
        }
        let input = call.input();
        let sends_event = [Operation::SendEvent, Operation::SendUserEvent].contains(&operation);
        let (target, reason) = if sends_event {
            purge(&control.gateway.purge_event(), input)?
        } else if operation == Operation::TagResource {
            (tagged(input)?, String::new())
        } else if operation == Operation::UntagResource {
            (untagged(call.query())?, String::new())
        } else {
            let reason = input.peek("reason").unwrap_or_default();
            (aim(operation, input), reason.to_owned())
        };
        Some(Self {
            operation,
            by: call.key_id.clone(),
            room: call.resource_text().unwrap_or_default().to_owned(),
            target,
            reason,
        })
    }

    /// Notes it with its outcome. What was refused as not valid was not carried out, and is no record.
    pub(super) async fn record(self, control: &Control, answer: &Result<Answer, Fault>) {
        let result = match answer {
            Ok(_) => "ok".to_owned(),
            Err(fault) if fault.kind().1 == 400 => return,
            Err(fault) => fault.kind().1.to_string(),
        };
        let entry = Entry {
            time: now(control),
            by: By::Key(self.by),
            action: self.operation.name(),
            room: self.room,
            target: self.target,
            reason: self.reason,
            result,
        };
        control.gateway.shared().audit.record(entry).await;
    }
}

fn now(control: &Control) -> UnixTime {
    control.clock.now().unix
}

/// What an operation is aimed at. Other members, which it does not read, name nobody.
fn aim(operation: Operation, input: &Input) -> String {
    let of = TARGETS.iter().find(|(_, all)| all.contains(&operation));
    let names = of.map_or(&[][..], |(names, _)| names);
    let mut found = names.iter().filter_map(|name| input.peek_all(name));
    found.next().unwrap_or_default()
}

/// The members that say so, the first one that is there.
const TARGETS: &[(&[&str], &[Operation])] = &[
    (&["id"], &[Operation::DeleteMessage]),
    (&["ids"], &[Operation::DeleteMessages]),
    (
        &["userId"],
        &[
            Operation::DisconnectUser,
            Operation::DeleteUserMessages,
            Operation::EraseUser,
            Operation::CreateBan,
            Operation::DeleteBan,
        ],
    ),
    (&["messageId", "content"], &[Operation::PinMessage]),
    (&["messageId"], &[Operation::DecideHeld]),
    (
        &["name"],
        &[Operation::PutRuleSet, Operation::DeleteRuleSet],
    ),
];

/// User and reason of an event that takes back what a user said; `None`: it is another one.
fn purge(purge_event: &str, input: &Input) -> Option<(String, String)> {
    let text = |name| input.peek_in("attributes", name);
    let user_id = text("userId").or_else(|| text("UserId"))?;
    let reason = text("Reason").unwrap_or_default();
    let is_purge = input.peek("eventName") == Some(purge_event);
    is_purge.then(|| (user_id.to_owned(), reason.to_owned()))
}

/// Our tags of a TagResource; `None`: there are none, and a tag of one's own holds nobody back.
fn tagged(input: &Input) -> Option<String> {
    let ours = input.peek_pairs("tags").filter(|(key, _)| is_ours(key));
    let pairs = ours.map(|(key, value)| format!("{}={}", quoted(key), quoted(value)));
    joined(pairs.collect())
}

/// Our tags of an UntagResource, by their keys.
fn untagged(query: &str) -> Option<String> {
    let keys = tags::keys(query).ok()?;
    let ours = keys.iter().filter(|key| is_ours(key));
    joined(ours.map(|key| quoted(key).into_owned()).collect())
}

fn joined(ours: Vec<String>) -> Option<String> {
    (!ours.is_empty()).then(|| ours.join(" "))
}

/// As a JSON string, if else it would not be told from its neighbours.
fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains(['"', '=']) || text.contains(char::is_whitespace) {
        Value::from(text).to_string().into()
    } else {
        text.into()
    }
}

pub(super) async fn list(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let mut input = call.into_input();
    let room = input.text("roomIdentifier", 1..=128, ANY);
    let count_max = input.integer("maxResults", 1..=AUDIT_PAGE_MAX);
    let before = place(&mut input);
    input.finish()?;
    let Some(directory) = control
        .gateway
        .shared()
        .audit
        .directory()
        .map(ToOwned::to_owned)
    else {
        let none = "The audit file is switched off: audit.enabled";
        return Err(Fault::Body(none));
    };
    let count_max = usize::try_from(count_max.unwrap_or(AUDIT_PAGE_MAX)).expect("at most 100");
    let page = blocking(move || page(&directory, room.as_deref(), before, count_max)).await;
    let page = page.map_err(|error| {
        if let Some(suppressed) = local::admit(Kind::Audit) {
            tracing::error!(%error, suppressed, "the audit file cannot be read");
        }
        Fault::Internal
    })?;
    let mut answer = Map::new();
    if let Some(Place { file, bytes }) = page.next {
        let token = URL_SAFE_NO_PAD.encode(format!("{file}:{bytes}"));
        answer.insert("nextToken".to_owned(), token.into());
    }
    answer.insert("records".to_owned(), Value::Array(page.records));
    Ok((200, Some(answer.into())))
}

/// The place of `nextToken`.
fn place(input: &mut Input) -> Option<Place> {
    let token = input.text("nextToken", 0..=64, ANY)?;
    if token.is_empty() {
        return None;
    }
    let place = read(&token);
    if place.is_none() {
        let must = "must be one that this server returned; list again without it";
        input.fault("nextToken", must);
    }
    place
}

fn read(token: &str) -> Option<Place> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (file, bytes) = text.split_once(':')?;
    Some(Place {
        file: file.parse().ok()?,
        bytes: bytes.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(body: &str) -> Input {
        Input::parse(body.as_bytes()).expect("JSON")
    }

    /// Goal: only tags of ours are noted, by their keys, and each as one that cannot be taken for another.
    #[test]
    fn tags_are_told_apart() {
        let of = |body: &str| tagged(&input(body));
        assert_eq!(of(r#"{"tags":{"team":"blue uproar:talk=none"}}"#), None);
        assert_eq!(of(r#"{"tags":{}}"#), None);
        let decoy = r#"{"userId":"bob","tags":{"team":"red","uproar:talk":"none"}}"#;
        assert_eq!(of(decoy).as_deref(), Some("uproar:talk=none"));
        let odd = r#"{"tags":{"uproar:a":"b uproar:c=d","uproar:e f":"","uproar:g":"\"\n"}}"#;
        let told = r#"uproar:a="b uproar:c=d" "uproar:e f"= uproar:g="\"\n""#;
        assert_eq!(of(odd).as_deref(), Some(told));
        assert_eq!(untagged("tagKeys=team%20uproar:x"), None);
        let keys = "tagKeys=team&tagKeys=uproar%3Atalk&tagKeys=uproar:a%20b";
        assert_eq!(
            untagged(keys).as_deref(),
            Some("\"uproar:a b\" uproar:talk")
        );
    }

    /// Goal: a member that an operation does not read names nobody.
    #[test]
    fn a_decoy_is_no_target() {
        let body =
            r#"{"userId":"decoy","id":"M1","ids":["M2","M3"],"name":"words","content":"hi"}"#;
        for (operation, told) in [
            (Operation::DeleteMessage, "M1"),
            (Operation::DeleteMessages, "M2 M3"),
            (Operation::PutRuleSet, "words"),
            (Operation::PinMessage, "hi"),
            (Operation::ClearRoom, ""),
        ] {
            assert_eq!(aim(operation, &input(body)), told, "{operation:?}");
        }
    }

    /// Goal: an event is moderation if it takes back what a user said, and no other is.
    #[test]
    fn an_event_that_purges_is_moderation() {
        let of = |body: &str| purge("app:DELETE_BY_USER", &input(body));
        let told = Some(("bob".to_owned(), "spam".to_owned()));
        for key in ["userId", "UserId"] {
            let body = format!(
                r#"{{"eventName":"app:DELETE_BY_USER","attributes":{{"{key}":"bob","Reason":"spam"}}}}"#
            );
            assert_eq!(of(&body), told);
        }
        for other in [
            r#"{"eventName":"app:DELETE_BY_USER","attributes":{"user":"bob"}}"#,
            r#"{"eventName":"app:DELETE_BY_USER"}"#,
            r#"{"eventName":"goal","attributes":{"userId":"bob"}}"#,
            "{}",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
