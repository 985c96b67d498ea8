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

    /// What this one, which follows from a kick or a rule, becomes where there is another one; `None`: that one stays. It
    /// never makes a ban milder, nor shorter.
    pub fn over(mut self, there: &Self, now_ms: u64) -> Option<Self> {
        let end = |ban: &Self| ban.until_ms.unwrap_or(u64::MAX);
        if end(there) <= now_ms {
            return Some(self);
        }
        if self.mode() == there.mode() {
            self.networks.clone_from(&there.networks);
            return (end(&self) > end(there)).then_some(self);
        }
        // A kick holds although its user is timed out; a shadow is not timed out, or he would learn of it.
        (self.mode() == BanMode::Ban).then(|| {
            if end(there) > end(&self) {
                self.until_ms = there.until_ms;
            }
            self
        })
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
pub(in crate::control) fn tick_at(unix_ms: u64, now: Now) -> Tick {
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

    /// Goal: what follows from a kick or a rule makes no ban milder or shorter; a kick keeps out whoever is timed out.
    #[test]
    fn kicks_and_rules_make_no_ban_milder() {
        let ending = |mode: BanMode, until_ms| BanRecord {
            header: ResourceHeader::new(BanId::of(None, "bob"), 0),
            room: None,
            user_id: "bob".to_owned(),
            mode: mode.name().to_owned(),
            until_ms,
            reason: String::new(),
            by: String::new(),
            networks: vec![mode.name().to_owned()],
        };
        let (out, muted, shadow) = (BanMode::Ban, BanMode::Timeout, BanMode::Shadow);
        let stays = None;
        let becomes = |until_ms: Option<u64>| Some(until_ms);
        for (there, new, wanted) in [
            ((out, None), (out, None), stays),
            ((out, None), (out, Some(90)), stays),
            ((out, Some(90)), (out, None), becomes(None)),
            ((out, Some(90)), (out, Some(90)), stays),
            ((out, Some(89)), (out, Some(90)), becomes(Some(90))),
            ((muted, Some(89)), (muted, Some(90)), becomes(Some(90))),
            ((muted, Some(90)), (muted, Some(89)), stays),
            // They are over.
            ((out, Some(40)), (out, Some(60)), becomes(Some(60))),
            ((shadow, Some(50)), (muted, Some(60)), becomes(Some(60))),
            // A kick of whoever may not write.
            ((muted, Some(80)), (out, Some(90)), becomes(Some(90))),
            ((muted, Some(90)), (out, Some(80)), becomes(Some(90))),
            ((muted, None), (out, Some(80)), becomes(None)),
            ((shadow, None), (out, Some(80)), becomes(None)),
            ((shadow, Some(60)), (out, Some(80)), becomes(Some(80))),
            // A rule that times out.
            ((out, Some(60)), (muted, Some(90)), stays),
            ((shadow, Some(60)), (muted, Some(90)), stays),
            ((shadow, None), (muted, Some(90)), stays),
        ] {
            let (there, new) = (ending(there.0, there.1), ending(new.0, new.1));
            let made = new.clone().over(&there, 50);
            let told = made.as_ref().map(|made| made.until_ms);
            assert_eq!(told, wanted, "{there:?} {new:?}");
            assert!(made.is_none_or(|made| made.mode() == new.mode()));
        }
        let with = BanRecord {
            networks: vec!["192.0.2.1".to_owned()],
            ..ending(out, Some(60))
        };
        let longer = ending(out, Some(90)).over(&with, 50).expect("it is longer");
        assert_eq!(longer.networks, with.networks, "addresses stay barred");
    }
}
