//! Who may not write in a room, or not be there: time-outs, bans and shadow bans, each until an instant of the monotonic clock,
//! so that a wall clock that steps ends none early and keeps none.
//!
//! Owns: what is in force. Never: records, clocks, connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sha2::{Digest, Sha256};

use crate::base::clock::Tick;
use crate::base::id::{BanId, RoomId};

/// `EventName` of a ban, for those who moderate.
pub const BAN: &str = "uproar:ban";

/// What a banned user may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BanMode {
    /// Write, unnoticed: the user's messages come back to the user alone.
    Shadow,
    /// Write.
    Timeout,
    /// Be in the room.
    Ban,
}

impl BanMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Shadow, Self::Timeout, Self::Ban];

    /// Its name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Timeout => "timeout",
            Self::Ban => "ban",
        }
    }

    /// The mode of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// Addresses that are one household's: an IPv4 address, or a /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// That of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self(ip.into()),
            IpAddr::V6(ip) => {
                let prefix = u128::from(ip) >> 64 << 64;
                Self(Ipv6Addr::from(prefix).into())
            }
        }
    }

    /// Reads what [`Network`] shows.
    pub fn parse(text: &str) -> Option<Self> {
        let is_wide = text.ends_with("/64");
        let text = text.strip_suffix("/64").unwrap_or(text);
        if is_wide {
            return text.parse::<Ipv6Addr>().ok().map(|ip| Self::of(ip.into()));
        }
        text.parse::<Ipv4Addr>().ok().map(|ip| Self(ip.into()))
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => write!(f, "{ip}"),
            IpAddr::V6(ip) => write!(f, "{ip}/64"),
        }
    }
}

impl BanId {
    /// The id of a user's ban in a room, or in all rooms: the same wherever it is made, so that a user has one in each.
    pub fn of(room: Option<RoomId>, user_id: &str) -> Self {
        let mut hash = Sha256::new();
        // No room's id is empty: rooms and users cannot be taken for each other.
        hash.update(room.as_ref().map_or(&[][..], |room| room.as_bytes()));
        hash.update([0]);
        hash.update(user_id);
        let digest = hash.finalize();
        let bits = digest.first_chunk();
        Self::from_random(bits.map_or(0, |bits| u128::from_be_bytes(*bits)))
    }
}

/// A ban that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ban {
    /// Where; `None`: in all rooms.
    pub room: Option<RoomId>,
    /// What the user may not do.
    pub mode: BanMode,
    /// Until when; `None`: for ever.
    pub until: Option<Tick>,
    /// Addresses that may not be there either, and until when.
    pub networks: Option<(Box<[Network]>, Tick)>,
}

/// What a ban keeps a user from, now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InForce {
    /// What.
    pub mode: BanMode,
    /// Until when; `None`: for ever.
    pub until: Option<Tick>,
}

impl InForce {
    /// Seconds that are left, and one for what is begun; `None`: no end.
    pub fn seconds_left(self, now: Tick) -> Option<u64> {
        let left = self.until?.since(now);
        Some(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }
}

/// All bans that are in force, of all rooms.
#[derive(Debug, Default)]
pub struct Bans {
    by_id: HashMap<BanId, Ban>,
    // Bans of each room; of all rooms under `None`. Never zero.
    counts: HashMap<Option<RoomId>, usize>,
    // Bans that name a network, by where and which; never empty. Invariant: those of `by_id`.
    networks: HashMap<(Option<RoomId>, Network), Vec<BanId>>,
}

impl Bans {
    /// Puts a ban in force, in place of the one with this id.
    pub fn put(&mut self, id: BanId, ban: Ban) {
        self.remove(id);
        *self.counts.entry(ban.room).or_default() += 1;
        for network in ban.networks.iter().flat_map(|(networks, _)| networks) {
            self.networks
                .entry((ban.room, *network))
                .or_default()
                .push(id);
        }
        self.by_id.insert(id, ban);
    }

    /// Lifts a ban; whether there was one.
    pub fn remove(&mut self, id: BanId) -> bool {
        let Some(ban) = self.by_id.remove(&id) else {
            return false;
        };
        if let Entry::Occupied(mut count) = self.counts.entry(ban.room) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        for network in ban.networks.iter().flat_map(|(networks, _)| networks) {
            if let Entry::Occupied(mut ids) = self.networks.entry((ban.room, *network)) {
                ids.get_mut().retain(|other| *other != id);
                if ids.get().is_empty() {
                    ids.remove();
                }
            }
        }
        true
    }

    /// What keeps a user from something in a room; the strictest of what is in force.
    pub fn of_user(&self, room: RoomId, user_id: &str, now: Tick) -> Option<InForce> {
        let of = |room| self.by_id.get(&BanId::of(room, user_id));
        let own = [of(Some(room)), of(None)].into_iter().flatten();
        let own = own.filter(|ban| !is_over(ban.until, now));
        // Of two time-outs the longer one counts.
        let strictest = own.max_by_key(|ban| {
            let end = ban.until.map_or(u64::MAX, Tick::nanos);
            (ban.mode, end)
        });
        strictest.map(|ban| InForce {
            mode: ban.mode,
            until: ban.until,
        })
    }

    /// Whether nobody may come to a room from this address.
    pub fn bars_address(&self, room: RoomId, ip: IpAddr, now: Tick) -> bool {
        if self.networks.is_empty() {
            return false;
        }
        let network = Network::of(ip);
        let ids = [Some(room), None].into_iter();
        let mut ids =
            ids.flat_map(|room| self.networks.get(&(room, network)).into_iter().flatten());
        ids.any(|id| {
            let ban = self.by_id.get(id);
            ban.is_some_and(|ban| {
                let end = ban.networks.as_ref().map(|(_, end)| *end);
                !is_over(ban.until, now) && !is_over(end, now)
            })
        })
    }

    /// Number of bans, of those that are over too, until they are removed.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Number of bans of a room, or of all rooms.
    pub fn count(&self, room: Option<RoomId>) -> usize {
        self.counts.get(&room).copied().unwrap_or_default()
    }

    /// Whether there is a ban with this id.
    pub fn contains(&self, id: BanId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Number of bans that are in force, by mode.
    pub fn by_mode(&self, now: Tick) -> [(BanMode, usize); 3] {
        BanMode::ALL.map(|mode| {
            let of = |ban: &&Ban| ban.mode == mode && !is_over(ban.until, now);
            (mode, self.by_id.values().filter(of).count())
        })
    }

    /// Bans that are over, at most `most`.
    pub fn over(&self, now: Tick, most: usize) -> Vec<BanId> {
        let over = self.by_id.iter().filter(|(_, ban)| is_over(ban.until, now));
        over.map(|(id, _)| *id).take(most).collect()
    }
}

fn is_over(until: Option<Tick>, now: Tick) -> bool {
    until.is_some_and(|until| until <= now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    fn room(number: u128) -> RoomId {
        RoomId::from_random(number)
    }

    fn ban(room: Option<RoomId>, mode: BanMode, until: Option<u64>) -> Ban {
        Ban {
            room,
            mode,
            until: until.map(at),
            networks: None,
        }
    }

    /// Goal: a ban holds for its user in its room until its end; a ban of all rooms everywhere; the strictest counts.
    #[test]
    fn bans_hold_where_and_while_they_should() {
        let mut bans = Bans::default();
        let (here, there) = (room(1), room(2));
        let put = |bans: &mut Bans, room, mode, until| {
            bans.put(BanId::of(room, "bob"), ban(room, mode, until));
        };
        put(&mut bans, Some(here), BanMode::Timeout, Some(10));
        let of =
            |bans: &Bans, room, second| bans.of_user(room, "bob", at(second)).map(|own| own.mode);
        assert_eq!(of(&bans, here, 9), Some(BanMode::Timeout));
        assert_eq!((of(&bans, here, 10), of(&bans, there, 1)), (None, None));
        assert_eq!(bans.of_user(here, "Bob", at(1)), None);
        put(&mut bans, None, BanMode::Shadow, None);
        assert_eq!(of(&bans, there, 1_000_000), Some(BanMode::Shadow));
        assert_eq!(of(&bans, here, 1), Some(BanMode::Timeout));
        put(&mut bans, Some(here), BanMode::Ban, None);
        assert_eq!(of(&bans, here, 1), Some(BanMode::Ban));
        assert_eq!(
            (bans.len(), bans.count(Some(here)), bans.count(None)),
            (2, 1, 1)
        );
        assert!(
            bans.remove(BanId::of(Some(here), "bob")) && !bans.remove(BanId::of(Some(here), "bob"))
        );
        assert_eq!(bans.count(Some(here)), 0);
        let left = InForce {
            mode: BanMode::Timeout,
            until: Some(at(10)),
        };
        assert_eq!(left.seconds_left(Tick::from_nanos(8_500_000_000)), Some(2));
    }

    /// Goal: addresses are barred by /32 and /64, in their room, for their time, and not after the ban is lifted.
    #[test]
    fn addresses_are_barred() {
        let mut bans = Bans::default();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let networks: Box<[Network]> =
            [Network::of(ip("192.0.2.1")), Network::of(ip("2001:db8::1"))].into();
        let id = BanId::of(Some(room(1)), "bob");
        let with = Ban {
            networks: Some((networks, at(100))),
            ..ban(Some(room(1)), BanMode::Ban, None)
        };
        bans.put(id, with);
        let barred = |bans: &Bans, number, text, second| {
            bans.bars_address(room(number), ip(text), at(second))
        };
        for (text, wanted) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8::ffff", true),
            ("2001:db8:0:1::1", false),
        ] {
            assert_eq!(barred(&bans, 1, text, 1), wanted, "{text}");
            assert!(!barred(&bans, 2, text, 1) && !barred(&bans, 1, text, 100));
        }
        bans.remove(id);
        assert!(!barred(&bans, 1, "192.0.2.1", 1) && bans.networks.is_empty());
        for text in ["192.0.2.1", "2001:db8:0:1::/64"] {
            assert_eq!(
                Network::parse(text).map(|network| network.to_string()),
                Some(text.to_owned())
            );
        }
        assert!(
            ["", "x", "::1", "192.0.2.1/64"]
                .iter()
                .all(|text| Network::parse(text).is_none())
        );
    }

    /// Goal: a hundred thousand bans are as many look-ups apart as one.
    #[test]
    fn as_many_as_may_be() {
        let mut bans = Bans::default();
        for number in 0..100_000 {
            let room = Some(room(number % 10));
            bans.put(
                BanId::of(room, &format!("u{number}")),
                ban(room, BanMode::Ban, Some(1)),
            );
        }
        assert_eq!((bans.len(), bans.count(Some(room(3)))), (100_000, 10_000));
        assert_eq!(
            bans.of_user(room(7), "u77", at(0)).map(|own| own.mode),
            Some(BanMode::Ban)
        );
        assert_eq!(bans.over(at(1), 1_000).len(), 1_000);
        assert_eq!(
            bans.by_mode(at(0)),
            [
                (BanMode::Shadow, 0),
                (BanMode::Timeout, 0),
                (BanMode::Ban, 100_000)
            ]
        );
    }

    proptest! {
        /// Goal: the counts, the networks and the look-ups agree with a plain list, whatever is put and removed; user ids of
        /// any characters are told apart.
        #[test]
        fn it_is_a_list(steps in proptest::collection::vec((any::<bool>(), 0..3_u128, "\\PC{0,3}", 0..3_u64), 1..80)) {
            let mut bans = Bans::default();
            let mut plain: HashMap<(Option<RoomId>, String), u64> = HashMap::new();
            for (puts, number, user, until) in steps {
                let place = (number > 0).then(|| room(number));
                let id = BanId::of(place, &user);
                if puts {
                    let networks: Box<[Network]> = [Network::of(Ipv4Addr::LOCALHOST.into())].into();
                    let networks = Some((networks, at(9)));
                    bans.put(id, Ban { networks, ..ban(place, BanMode::Ban, Some(until)) });
                    plain.insert((place, user), until);
                } else {
                    prop_assert_eq!(bans.remove(id), plain.remove(&(place, user)).is_some());
                }
                prop_assert_eq!(bans.len(), plain.len());
                let barred = plain.iter().any(|((place, _), until)| *until > 1 && place.is_none_or(|place| place == room(1)));
                prop_assert_eq!(bans.bars_address(room(1), Ipv4Addr::LOCALHOST.into(), at(1)), barred);
                for ((place, user), until) in &plain {
                    if let Some(place) = place {
                        let all = plain.get(&(None, user.clone())).is_some_and(|until| *until > 1);
                        prop_assert_eq!(bans.of_user(*place, user, at(1)).is_some(), *until > 1 || all);
                    }
                }
            }
        }
    }
}
