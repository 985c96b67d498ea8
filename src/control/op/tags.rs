//! ListTagsForResource, TagResource, UntagResource.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde_json::json;

use super::authorize::{Authorized, ResourceArn};
use super::request::Answer;
use super::resource::now_ms;
use crate::control::arn::Taggable;
use crate::control::fault::Fault;
use crate::control::input::{Input, too_many};
use crate::control::record::{LoggingRecord, RoomRecord};
use crate::control::state::Control;
use uproar_proto::base::limits::{TAG_VALUE_CHARS_MAX, TAGS_MAX};
use uproar_proto::extension::tags::{self, TAGS};
use uproar_proto::extension::{PREFIX, TagFault};
use uproar_proto::sigv4::percent_decode;

const KEY_CHARS: RangeInclusive<usize> = 1..=128;

type Tags = BTreeMap<String, String>;

/// The member `tags`.
pub(super) fn read(input: &mut Input) -> Option<Tags> {
    let values = 0..=TAG_VALUE_CHARS_MAX;
    let tags = input.map("tags", KEY_CHARS, values, (TAGS_MAX, usize::MAX))?;
    if tags.keys().any(|key| is_reserved(key)) {
        input.fault("tags", RESERVED);
        return None;
    }
    Some(tags)
}

/// The member `tags` of a room: where they mean something, ours are checked, each fault under its own name.
pub(super) fn read_for_room(control: &Control, input: &mut Input) -> Option<Tags> {
    let tags = read(input)?;
    if control.registry.has_extensions() {
        for (key, value) in &tags {
            if let Err(fault) = tags::check(key, value) {
                input.fault(&format!("tags.{key}"), must(key, fault));
            }
        }
    }
    Some(tags)
}

/// What a tag must be, with a guess at the one that is meant.
fn must(key: &str, fault: TagFault) -> String {
    let TagFault::Value(must) = fault else {
        let names = TAGS.iter().map(|tag| format!("{PREFIX}{}", tag.name));
        let likeness = |name: &String| strsim::jaro(name, key);
        let likely = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let guess = likely.filter(|name| likeness(name) >= LIKENESS_MIN);
        let guess = guess.map_or_else(String::new, |name| format!(". Did you mean {name}?"));
        return format!("is no tag of this server{guess}");
    };
    must.to_owned()
}

/// Below this likeness (Jaro) a guess would only confuse; the prefix alone makes two tags alike.
const LIKENESS_MIN: f64 = 0.85;

/// Tags with this prefix are AWS's own, in any letter case.
fn is_reserved(key: &str) -> bool {
    key.get(..RESERVED_PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX))
}

const RESERVED_PREFIX: &str = "aws:";
const RESERVED: &str = "keys must not begin with aws:, which is reserved";

pub(super) async fn list(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (_no_body, arn) = call.into_resource();
    let registry = &control.registry;
    registry.barrier().await?;
    let tags = match find(control, &arn)? {
        Taggable::Room(id) => registry.rooms.get(id).map(|room| room.header.tags),
        Taggable::Logging(id) => registry.logging.get(id).map(|logging| logging.header.tags),
    };
    let tags = tags.ok_or_else(|| Fault::not_found(&arn.text))?;
    Ok((200, Some(json!({"tags": tags}))))
}

pub(super) async fn tag(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let (mut input, arn) = call.into_resource();
    if !input.has("tags") {
        input.fault("tags", "is required");
    }
    let account = &control.settings.account;
    let new = match account.parse_taggable(&arn.text) {
        Ok(Some(Taggable::Room(_))) => read_for_room(control, &mut input),
        Ok(Some(Taggable::Logging(_)) | None) | Err(_) => read(&mut input),
    };
    let new = new.unwrap_or_default();
    input.finish()?;
    let add = |tags: &mut Tags| {
        tags.extend(new.clone());
        if tags.len() <= TAGS_MAX {
            Ok(())
        } else {
            let all = too_many(
                TAGS_MAX,
                "entries, with those that the resource has",
                tags.len(),
            );
            Err(Fault::field("tags", all))
        }
    };
    edit(control, &arn, add).await
}

pub(super) async fn untag(control: &Control, call: Authorized) -> Result<Answer, Fault> {
    let keys = keys(call.query())?;
    let take = |tags: &mut Tags| {
        tags.retain(|key, _| !keys.contains(key));
        Ok(())
    };
    edit(control, &call.into_resource().1, take).await
}

/// Changes tags, without the update time.
async fn edit(
    control: &Control,
    arn: &ResourceArn,
    edit: impl Fn(&mut Tags) -> Result<(), Fault>,
) -> Result<Answer, Fault> {
    let registry = &control.registry;
    registry.barrier().await?;
    let found = match find(control, arn)? {
        Taggable::Room(id) => {
            let now_ms = now_ms(control);
            let edited = registry.edit(id, |room: &mut RoomRecord| {
                room.retag(now_ms, |tags| edit(tags))
            });
            let room = edited.await?;
            if let Some(room) = &room
                && registry.has_extensions()
            {
                control.put_room(room).await?;
            }
            room.is_some()
        }
        Taggable::Logging(id) => {
            let edited = registry.edit(id, |logging: &mut LoggingRecord| {
                edit(&mut logging.header.tags)
            });
            edited.await?.is_some()
        }
    };
    if found {
        Ok((200, Some(json!({}))))
    } else {
        Err(Fault::not_found(&arn.text))
    }
}

fn find(control: &Control, arn: &ResourceArn) -> Result<Taggable, Fault> {
    let account = &control.settings.account;
    let found = account.parse_taggable(&arn.text);
    let found = found.map_err(|error| Fault::field(arn.field, error))?;
    found.ok_or_else(|| Fault::not_found(&arn.text))
}

/// The `tagKeys`, each once.
pub(super) fn keys(query: &str) -> Result<BTreeSet<String>, Fault> {
    let wrong = |must: String| Fault::field("tagKeys", must);
    let mut keys = BTreeSet::new();
    let pairs = query.split('&');
    for (index, escaped) in pairs
        .filter_map(|pair| pair.strip_prefix("tagKeys="))
        .enumerate()
    {
        if index >= TAGS_MAX {
            return Err(wrong(format!("must have at most {TAGS_MAX} keys")));
        }
        let key = String::from_utf8(percent_decode(escaped));
        let key = key.map_err(|_| wrong("keys must be UTF-8".to_owned()))?;
        let found = key.chars().count();
        if !KEY_CHARS.contains(&found) {
            let (least, most) = (KEY_CHARS.start(), KEY_CHARS.end());
            let must = format!("keys must have {least} to {most} characters; one has {found}");
            return Err(wrong(must));
        }
        if is_reserved(&key) {
            return Err(wrong(RESERVED.to_owned()));
        }
        keys.insert(key);
    }
    if keys.is_empty() {
        return Err(wrong("is required".to_owned()));
    }
    Ok(keys)
}
