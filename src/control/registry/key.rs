//! Keys of the registry's bucket.

use super::facts::FACTS_KEY;
use crate::control::arn::ResourceId;
use uproar_proto::base::id::{BanId, LoggingId, RoomId, RuleSetId};

/// Key of the ring of sealing keys, sealed.
pub(crate) const RING_KEY: &str = "secret.ring";
const ROOM: &str = "room.";
const LOGGING: &str = "logging.";
const BAN: &str = "ban.";
const RULE_SET: &str = "rules.";
pub(super) const ACCESS_KEY: &str = "secret.key.";
const TICK: &str = "tick.";

/// What a key of the bucket is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    Room(RoomId),
    Logging(LoggingId),
    Ban(BanId),
    RuleSet(RuleSetId),
    /// An access key, by its id.
    AccessKey(&'a str),
    Ring,
    Facts,
    /// A barrier of a node: it counts for its revision alone.
    Tick,
    /// Of a later version.
    Unknown,
}

impl<'a> Subject<'a> {
    pub(super) fn of(key: &'a str) -> Self {
        if let Some(id) = key.strip_prefix(ROOM) {
            return RoomId::parse(id).map_or(Self::Unknown, Self::Room);
        }
        if let Some(id) = key.strip_prefix(LOGGING) {
            return LoggingId::parse(id).map_or(Self::Unknown, Self::Logging);
        }
        if let Some(id) = key.strip_prefix(BAN) {
            return BanId::parse(id).map_or(Self::Unknown, Self::Ban);
        }
        if let Some(id) = key.strip_prefix(RULE_SET) {
            return RuleSetId::parse(id).map_or(Self::Unknown, Self::RuleSet);
        }
        if let Some(id) = key.strip_prefix(ACCESS_KEY) {
            return Self::AccessKey(id);
        }
        match key {
            RING_KEY => Self::Ring,
            FACTS_KEY => Self::Facts,
            _ if key.starts_with(TICK) => Self::Tick,
            _ => Self::Unknown,
        }
    }
}

/// The key of a record, by its kind and id.
pub(super) fn of_record<I: ResourceId>(id: I) -> String {
    let kind = if I::KIND == RoomId::KIND {
        ROOM
    } else if I::KIND == BanId::KIND {
        BAN
    } else if I::KIND == RuleSetId::KIND {
        RULE_SET
    } else {
        LOGGING
    };
    format!("{kind}{id}")
}

/// The key of an access key.
pub(crate) fn of_access_key(id: &str) -> String {
    format!("{ACCESS_KEY}{id}")
}

/// The key that a node's barriers write. Any name will do: what is no letter or digit is written as hexadecimal.
pub(super) fn of_tick(node: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let written = node.bytes().map(|byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("_{byte:02x}"),
    });
    format!("{TICK}{}", written.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each key is read as what it was made for, and nothing else is.
    #[test]
    fn keys_are_read_as_they_are_made() {
        let room = RoomId::parse("TC6fLHr7ycLt").expect("an id");
        let logging = LoggingId::parse("TC6fLHr7ycLt").expect("an id");
        assert_eq!(Subject::of(&of_record(room)), Subject::Room(room));
        assert_eq!(Subject::of(&of_record(logging)), Subject::Logging(logging));
        let ban = BanId::parse("TC6fLHr7ycLt").expect("an id");
        assert_eq!(Subject::of(&of_record(ban)), Subject::Ban(ban));
        let set = RuleSetId::of("house");
        assert_eq!(Subject::of(&of_record(set)), Subject::RuleSet(set));
        assert_eq!(
            Subject::of(&of_access_key("AKUP1")),
            Subject::AccessKey("AKUP1")
        );
        assert_eq!(Subject::of(RING_KEY), Subject::Ring);
        assert_eq!(Subject::of(FACTS_KEY), Subject::Facts);
        assert_eq!(Subject::of(&of_tick("chat.1 ü")), Subject::Tick);
        assert_eq!(of_tick("chat-1.a"), "tick.chat-1_2ea");
        for other in ["room.", "room.a b", "rooms.TC6fLHr7ycLt", "fact.other", ""] {
            assert_eq!(Subject::of(other), Subject::Unknown, "{other}");
        }
    }
}
