//! What a room's record has beyond IVS Chat: how often its tags of ours were changed, and what moderators laid over them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Record, RoomRecord};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::FrameId;
use uproar_proto::chat::encode::attributes_json;
use uproar_proto::extension::{Extension, PREFIX, Pin, Settings, is_ours, tags};

type Tags = BTreeMap<String, String>;

/// Of a room that never had a tag of ours nothing is written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExtensionRecord {
    /// Number of the last change of what is in force.
    pub version: u64,
    /// When that was, in milliseconds since the epoch.
    pub changed_ms: u64,
    /// What moderators laid over tags, by the tag's name without the prefix.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<String, Override>,
    /// The pinned message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<PinRecord>,
}

/// A pinned message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRecord {
    /// The message's id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Whose message it is; empty: nobody's.
    pub user: String,
    /// The moderator who pinned it; empty: a back end.
    pub by: String,
    /// Its attributes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Until when, in milliseconds since the epoch; absent: until it is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

impl PinRecord {
    /// As shards have it; `None`: its id is none.
    fn pin(&self) -> Option<Pin> {
        let attributes = &self.attributes;
        let attributes = (!attributes.is_empty()).then(|| attributes_json(pairs(attributes)));
        Some(Pin {
            id: FrameId::parse(&self.id)?,
            text: self.text.as_str().into(),
            user: self.user.as_str().into(),
            by: self.by.as_str().into(),
            attributes_json: attributes.unwrap_or_default().into(),
            until: self.until_ms.map(UnixTime::from_millis),
        })
    }
}

/// A value over that of a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// As a tag has it; empty: as if there were no tag.
    pub value: String,
    /// Until when, in milliseconds since the epoch; absent: until it is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

impl ExtensionRecord {
    pub(super) fn is_new(&self) -> bool {
        *self == Self::default()
    }

    /// Notes a change of what is in force.
    fn touch(&mut self, now_ms: u64) {
        self.version += 1;
        self.changed_ms = now_ms.max(self.changed_ms);
    }
}

impl RoomRecord {
    /// Changes the tags. A change of those that are ours is a new version of what is in force.
    ///
    /// # Errors
    ///
    /// That of `edit`.
    pub fn retag<E>(
        &mut self,
        now_ms: u64,
        edit: impl FnOnce(&mut Tags) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.header.tags.clone();
        edit(&mut self.header.tags)?;
        if tags::differ(pairs(&before), pairs(&self.header.tags)) {
            self.extension.touch(now_ms);
        }
        Ok(())
    }

    /// Gives a new room its tags.
    pub fn tag_new(&mut self, now_ms: u64, tags: Tags) {
        let tagged: Result<(), std::convert::Infallible> = self.retag(now_ms, |own| {
            *own = tags;
            Ok(())
        });
        let Ok(()) = tagged;
    }

    /// Lays a value over a tag, or takes back what lies over it.
    pub fn lay_over(&mut self, tag: &str, over: Option<Override>, now_ms: u64) {
        let overrides = &mut self.extension.overrides;
        match over {
            Some(over) => drop(overrides.insert(tag.to_owned(), over)),
            None => drop(overrides.remove(tag)),
        }
        self.extension.touch(now_ms);
    }

    /// Pins a message; `false`: no tag of the room is ours, so that nobody would be told.
    #[must_use]
    pub fn pin(&mut self, pin: PinRecord, now_ms: u64) -> bool {
        let is_told = self.header.tags.keys().any(|key| is_ours(key));
        if is_told {
            self.extension.pin = Some(pin);
            self.extension.touch(now_ms);
        }
        is_told
    }

    /// Takes the pin back.
    pub fn unpin(&mut self, now_ms: u64) {
        self.extension.pin = None;
        self.extension.touch(now_ms);
    }

    /// Whether something is pinned; with `only`, whether it is this message.
    pub fn is_pinned(&self, only: Option<&str>) -> bool {
        let pin = self.extension.pin.as_ref();
        pin.is_some_and(|pin| only.is_none_or(|id| pin.id == id))
    }

    /// When what lies over tags, or is pinned, ends, in milliseconds since the epoch; what has no end is left out.
    pub fn ends(&self) -> impl Iterator<Item = u64> {
        let overrides = self.extension.overrides.values();
        let pin = self.extension.pin.as_ref();
        let ends = overrides.filter_map(|over| over.until_ms);
        ends.chain(pin.and_then(|pin| pin.until_ms))
    }

    /// Takes back what ends then.
    pub fn lift(&mut self, ended: &[u64], now_ms: u64) {
        let has_ended = |end: Option<u64>| end.is_some_and(|end| ended.contains(&end));
        let overrides = &mut self.extension.overrides;
        overrides.retain(|_, over| !has_ended(over.until_ms));
        let pin = &mut self.extension.pin;
        pin.take_if(|pin| has_ended(pin.until_ms));
        self.extension.touch(now_ms);
    }

    /// What its tags ask for, and moderators laid over them; `None`: no tag of it is ours.
    pub(super) fn in_force(&self) -> Option<Extension> {
        let tagged = &self.header.tags;
        if !tagged.keys().any(|key| is_ours(key)) {
            return None;
        }
        let settings = tags::settings(pairs(tagged))?;
        let settings = self.overridden(settings);
        let ExtensionRecord {
            version,
            changed_ms,
            ..
        } = self.extension;
        let changed = UnixTime::from_millis(changed_ms);
        let pin = self.extension.pin.as_ref().and_then(PinRecord::pin);
        let change = (version, changed);
        Some(Extension::new(self.id(), settings, pin.as_ref(), change))
    }

    fn overridden(&self, settings: Settings) -> Settings {
        let overrides = &self.extension.overrides;
        if overrides.is_empty() {
            return settings;
        }
        let mut tagged = self.header.tags.clone();
        for (name, over) in overrides {
            let key = format!("{PREFIX}{name}");
            if over.value.is_empty() {
                tagged.remove(&key);
            } else {
                tagged.insert(key, over.value.clone());
            }
        }
        tags::settings(pairs(&tagged)).unwrap_or_default()
    }
}

fn pairs(tags: &Tags) -> impl Iterator<Item = (&str, &str)> {
    tags.iter().map(|(key, value)| (&**key, &**value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::record::ResourceHeader;
    use uproar_proto::base::id::RoomId;

    fn room() -> RoomRecord {
        RoomRecord::new(ResourceHeader::new(RoomId::from_random(1), 1))
    }

    fn retag(room: &mut RoomRecord, now_ms: u64, key: &str, value: &str) {
        let edited = room.retag(now_ms, |tags| {
            tags.insert(key.to_owned(), value.to_owned());
            Ok::<_, ()>(())
        });
        assert_eq!(edited, Ok(()));
    }

    /// Goal: a room without tags of ours is stored as before, and asks for nothing.
    #[test]
    fn a_plain_room_stays_as_it_was() {
        let mut room = room();
        retag(&mut room, 5, "team", "a");
        let text = serde_json::to_string(&room).expect("strings and numbers");
        assert!(!text.contains("extension"), "{text}");
        assert_eq!(
            (room.in_force(), room.settings(true).extension),
            (None, None)
        );
        let read: RoomRecord = serde_json::from_str(&text).expect("what was written");
        assert_eq!(read, room);
    }

    /// Goal: each change of a tag of ours has a number of its own, also one that goes back; others have none.
    #[test]
    fn versions_count_changes() {
        let mut room = room();
        for (now_ms, key, value, version) in [
            (5, "uproar:slow", "10", 1),
            (6, "uproar:slow", "20", 2),
            (4, "uproar:slow", "10", 3),
            (9, "uproar:slow", "10", 3),
            (9, "team", "a", 3),
        ] {
            retag(&mut room, now_ms, key, value);
            assert_eq!(room.extension.version, version, "{key}={value} at {now_ms}");
        }
        assert_eq!(room.extension.changed_ms, 6, "time does not go back");
        let extension = room.in_force().expect("tagged");
        assert_eq!((extension.settings.slow, extension.version), (Some(10), 3));
        assert_eq!(room.settings(false).extension, None, "switched off");
    }

    /// Goal: a pin is a version of the state, ends by its time, and is refused where nobody is told.
    #[test]
    fn a_pin_is_stored_with_its_room() {
        let mut room = room();
        let pin = |until_ms| PinRecord {
            id: "M2YcHkgffEvU".to_owned(),
            text: "hello".to_owned(),
            user: String::new(),
            by: "mod".to_owned(),
            attributes: [("k".to_owned(), "v".to_owned())].into(),
            until_ms,
        };
        assert!(!room.pin(pin(None), 1), "untagged");
        retag(&mut room, 1, "uproar:state", "on");
        assert!(room.pin(pin(Some(50)), 2));
        let text = serde_json::to_string(&room).expect("strings and numbers");
        assert_eq!(
            serde_json::from_str::<RoomRecord>(&text).expect("it was written"),
            room
        );
        let pinned = |room: &RoomRecord| room.in_force().expect("tagged").pinned.map(|(id, _)| id);
        assert_eq!(pinned(&room), FrameId::parse("M2YcHkgffEvU"));
        assert!(room.is_pinned(Some("M2YcHkgffEvU")) && !room.is_pinned(Some("AAAAAAAAAAAA")));
        assert_eq!(room.ends().collect::<Vec<_>>(), [50]);
        room.lift(&[49], 50);
        assert!(pinned(&room).is_some());
        room.lift(&[49, 50], 50);
        assert_eq!((pinned(&room), room.ends().count()), (None, 0));
    }

    /// Goal: what moderators lay over a tag counts, be it a value or none, and the room stays one with tags.
    #[test]
    fn overrides_lie_over_tags() {
        let mut room = room();
        retag(&mut room, 1, "uproar:slow", "10");
        for (value, slow) in [("30", Some(30)), ("", None)] {
            let over = Override {
                value: value.to_owned(),
                until_ms: None,
            };
            room.extension.overrides.insert("slow".to_owned(), over);
            let settings = room.in_force().expect("tagged").settings;
            assert_eq!(settings.slow, slow);
        }
    }
}
