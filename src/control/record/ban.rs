//! A ban as the control plane stores it.

use serde::{Deserialize, Serialize};

use super::ResourceHeader;
use crate::control::store::Table;
use uproar_proto::base::clock::{Now, Tick, UnixTime};
use uproar_proto::base::id::{BanId, RoomId};
use uproar_proto::base::limits::{BAN_ADDRESSES_MAX, BAN_ADDRESSES_TIME};
use uproar_proto::extension::bans::{Ban, BanMode, Network};

/// A user who may not write in a room, or not be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRecord {
    /// Id and times.
    #[serde(flatten)]
    pub header: ResourceHeader,
    /// The room's id; absent: all rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// The user.
    pub user_id: String,
    /// The name of its mode. One of a later version bans: whoever wrote it wanted no less than that.
    pub mode: String,
    /// Until when, in milliseconds since the epoch; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The access key or the moderator.
    #[serde(default)]
    pub by: String,
    /// Addresses that may not be there either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

impl BanRecord {
    /// What the user may not do.
    pub fn mode(&self) -> BanMode {
        BanMode::parse(&self.mode).unwrap_or(BanMode::Ban)
    }

    /// Where it holds; `None`: in all rooms.
    pub fn room(&self) -> Option<RoomId> {
        self.room.as_deref().and_then(RoomId::parse)
    }

    /// Notes that its texts or addresses have changed, while it stays the ban that it is.
    pub fn note_change(&mut self, now_ms: u64) {
        let behind = self.header.created_ms.saturating_add(1);
        self.header.touch(now_ms.max(behind));
    }

    /// Whether it is as it was made: then those who moderate do not know of it yet.
    pub fn is_new(&self) -> bool {
        self.header.updated_ms == self.header.created_ms
    }

    /// Whether it is in force, and lasts as long as another one or longer.
    pub fn outlasts(&self, other: &Self, now_ms: u64) -> bool {
        let is_longer = |until_ms: u64| {
            until_ms > now_ms && other.until_ms.is_some_and(|other| other <= until_ms)
        };
        self.until_ms.is_none_or(is_longer)
    }

    /// What is in force. What is left of its time counts from now by the monotonic clock.
    pub fn in_force(&self, now: Now) -> Ban {
        let networks = self.networks.iter().take(BAN_ADDRESSES_MAX);
        let networks: Box<[Network]> = networks.filter_map(|text| Network::parse(text)).collect();
        let addresses_ms = u64::try_from(BAN_ADDRESSES_TIME.as_millis()).expect("a day");
        let addresses_end = tick_at(self.header.updated_ms.saturating_add(addresses_ms), now);
        Ban {
            room: self.room(),
            mode: self.mode(),
            until: self.until_ms.map(|until_ms| tick_at(until_ms, now)),
            networks: (!networks.is_empty()).then_some((networks, addresses_end)),
        }
    }
}

/// The instant of a wall-clock time, as far as the clocks agree now.
fn tick_at(unix_ms: u64, now: Now) -> Tick {
    let nanos = unix_ms.saturating_mul(1_000_000);
    let left = UnixTime::from_nanos(nanos)
        .nanos()
        .saturating_sub(now.unix.nanos());
    Tick::from_nanos(now.tick.nanos().saturating_add(left))
}

stored!(BanRecord, BanId, Table::Bans);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is stored is what is in force, from now on by the monotonic clock; a record of a later version bans.
    #[test]
    fn records_come_into_force() {
        let room = RoomId::from_random(1);
        let id = BanId::of(Some(room), "böb \"\u{7f}");
        let record = BanRecord {
            header: ResourceHeader::new(id, 1_000),
            room: Some(room.to_string()),
            user_id: "böb \"\u{7f}".to_owned(),
            mode: "timeout".to_owned(),
            until_ms: Some(61_000),
            reason: String::new(),
            by: "mod".to_owned(),
            networks: vec!["192.0.2.1".to_owned(), "what".to_owned()],
        };
        let text = serde_json::to_string(&record).expect("strings and numbers");
        assert_eq!(
            serde_json::from_str::<BanRecord>(&text).expect("as written"),
            record
        );
        let now = Now {
            tick: Tick::from_nanos(7_000_000_000),
            unix: UnixTime::from_millis(21_000),
        };
        let ban = record.in_force(now);
        assert_eq!((ban.room, ban.mode), (Some(room), BanMode::Timeout));
        assert_eq!(ban.until, Some(Tick::from_nanos(47_000_000_000)));
        assert_eq!(ban.networks.map(|(networks, _)| networks.len()), Some(1));
        let later = BanRecord {
            mode: "exile".to_owned(),
            until_ms: Some(1),
            ..record
        };
        assert_eq!(
            (later.mode(), later.in_force(now).until),
            (BanMode::Ban, Some(now.tick))
        );
        let endless = BanRecord {
            until_ms: Some(u64::MAX),
            ..later
        };
        let far = Some(Tick::from_nanos(u64::MAX / 2));
        assert!(endless.in_force(now).until > far, "no sum overflows");
    }

    /// Goal: what lasts as long or longer outlasts; what is over does not.
    #[test]
    fn the_longer_ban_outlasts() {
        let ending = |until_ms| BanRecord {
            header: ResourceHeader::new(BanId::of(None, "bob"), 0),
            room: None,
            user_id: "bob".to_owned(),
            mode: "ban".to_owned(),
            until_ms,
            reason: String::new(),
            by: String::new(),
            networks: Vec::new(),
        };
        for (there, new, stays) in [
            (None, None, true),
            (None, Some(90), true),
            (Some(90), None, false),
            (Some(90), Some(90), true),
            (Some(89), Some(90), false),
            (Some(40), Some(30), false),
        ] {
            let outlasts = ending(there).outlasts(&ending(new), 50);
            assert_eq!(outlasts, stays, "{there:?} {new:?}");
        }
    }
}
