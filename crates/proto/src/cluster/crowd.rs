//! What nodes tell each other of rooms' viewers: how many each has, once a second, and who they are, when somebody asks.
//!
//! Said at most once, and in no log: counts are said again, and what a node does not hear it does not answer.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes};

use super::wire::{Section, VERSION, put_bytes};
use super::{Incarnation, WireFault};
use crate::base::clock::UnixTime;
use crate::base::id::RoomId;
use crate::base::limits::{
    BAN_ADDRESSES_MAX, LISTED_PAGE_MAX, RECALLED_BYTES_MAX, VIEWERS_REPORTED_MAX,
};
use crate::extension::viewers::Count;
use crate::token::TokenId;

/// From a node to all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Crowd {
    /// What it counts of rooms; at most [`VIEWERS_REPORTED_MAX`].
    Report {
        /// Who says so.
        from: Incarnation,
        /// Rooms and counts.
        counts: Vec<(RoomId, Count)>,
    },
    /// A token has opened a connection there again: another node's of it is closed.
    Replaced {
        /// Who says so.
        from: Incarnation,
        /// The token.
        token: TokenId,
    },
    /// What the others know of a room.
    Question {
        /// Who asks.
        from: Incarnation,
        /// The room.
        room: RoomId,
        /// What is asked.
        about: About,
    },
}

/// What is asked of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// How many users there are, as a set that others join.
    Unique,
    /// The first users behind this one, by their ids.
    Users {
        /// The last one that is known; empty: none.
        after: Box<str>,
        /// How many, at most [`LISTED_PAGE_MAX`] and one.
        most: u32,
    },
    /// The addresses of this user's connections.
    Addresses(Box<str>),
    /// The messages that the others remember.
    Remembered,
}

/// A message that another node remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// How long ago it was said there.
    pub age: Duration,
    /// Its whole frame.
    pub frame: Bytes,
}

/// A user in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomUser {
    /// The user's id.
    pub user_id: Box<str>,
    /// `Attributes` of the user's oldest connection, as JSON.
    pub attributes_json: Box<str>,
    /// The user's connections.
    pub connections: u32,
    /// When the oldest of them began.
    pub since: UnixTime,
}

const REPORT: u8 = 1;
const UNIQUE: u8 = 2;
const USERS: u8 = 3;
const ADDRESSES: u8 = 4;
const REPLACED: u8 = 5;
const REMEMBERED: u8 = 6;

impl Crowd {
    /// Encodes it.
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        match self {
            Self::Report { from, counts } => {
                out.put_u8(REPORT);
                out.put_u64_le(from.bits());
                out.put_u32_le(u32::try_from(counts.len()).expect("they are bounded"));
                for (room, count) in counts {
                    out.put_slice(room.as_bytes());
                    for number in [count.viewers, count.connections, count.peak] {
                        out.put_u32_le(number);
                    }
                    out.put_u64_le(count.joined);
                    out.put_u64_le(count.peak_at.nanos());
                }
            }
            Self::Replaced { from, token } => {
                out.put_u8(REPLACED);
                out.put_u64_le(from.bits());
                out.put_slice(token.as_bytes());
            }
            Self::Question { from, room, about } => {
                let (kind, after, most) = match about {
                    About::Unique => (UNIQUE, "", 0),
                    About::Users { after, most } => (USERS, &**after, *most),
                    About::Addresses(user_id) => (ADDRESSES, &**user_id, 0),
                    About::Remembered => (REMEMBERED, "", 0),
                };
                out.put_u8(kind);
                out.put_u64_le(from.bits());
                out.put_slice(room.as_bytes());
                put_bytes(&mut out, after.as_bytes());
                out.put_u32_le(most);
            }
        }
        out.into()
    }

    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`WireFault`]: what is wrong with it.
    pub fn decode(payload: &Bytes) -> Result<Self, WireFault> {
        let mut section = Section::versioned(payload)?;
        let kind = section.u8()?;
        let from = Incarnation::new(section.u64()?);
        match kind {
            REPORT => {
                let len = usize::try_from(section.u32()?).unwrap_or(usize::MAX);
                if len > VIEWERS_REPORTED_MAX {
                    return Err(WireFault::Value("a number of rooms"));
                }
                let counts = (0..len).map(|_| read_count(&mut section));
                let counts = counts.collect::<Result<_, _>>()?;
                Ok(Self::Report { from, counts })
            }
            REPLACED => {
                let token = TokenId::from_bytes(section.array()?);
                Ok(Self::Replaced { from, token })
            }
            UNIQUE | USERS | ADDRESSES | REMEMBERED => {
                let room = room_id(&mut section)?;
                let after = section.text()?.into();
                let most = section.u32()?.min(LISTED_PAGE_MAX + 1);
                let about = match kind {
                    UNIQUE => About::Unique,
                    USERS => About::Users { after, most },
                    REMEMBERED => About::Remembered,
                    _ => About::Addresses(after),
                };
                Ok(Self::Question { from, room, about })
            }
            other => Err(WireFault::Kind(other)),
        }
    }
}

fn room_id(section: &mut Section<'_>) -> Result<RoomId, WireFault> {
    RoomId::from_bytes(&section.array()?).ok_or(WireFault::Value("a room id"))
}

fn read_count(section: &mut Section<'_>) -> Result<(RoomId, Count), WireFault> {
    let room = room_id(section)?;
    let count = Count {
        viewers: section.u32()?,
        connections: section.u32()?,
        peak: section.u32()?,
        joined: section.u64()?,
        peak_at: UnixTime::from_nanos(section.u64()?),
    };
    Ok((room, count))
}

/// Encodes users, for whoever has asked.
pub fn encode_users(users: &[RoomUser]) -> Bytes {
    let mut out = vec![VERSION];
    out.put_u32_le(u32::try_from(users.len()).expect("they are bounded"));
    for user in users {
        put_bytes(&mut out, user.user_id.as_bytes());
        put_bytes(&mut out, user.attributes_json.as_bytes());
        out.put_u32_le(user.connections);
        out.put_u64_le(user.since.nanos());
    }
    out.into()
}

/// Reads them.
///
/// # Errors
///
/// [`WireFault`]: what is wrong with them.
pub fn decode_users(payload: &Bytes) -> Result<Vec<RoomUser>, WireFault> {
    let mut section = Section::versioned(payload)?;
    let len = section.u32()?;
    if len > LISTED_PAGE_MAX + 1 {
        return Err(WireFault::Value("a number of users"));
    }
    let read = |_| {
        Ok(RoomUser {
            user_id: section.text()?.into(),
            attributes_json: section.text()?.into(),
            connections: section.u32()?,
            since: UnixTime::from_nanos(section.u64()?),
        })
    };
    (0..len).map(read).collect()
}

/// Encodes addresses, for whoever has asked.
pub fn encode_addresses(addresses: &[IpAddr]) -> Bytes {
    let mut out = vec![VERSION];
    for address in addresses.iter().take(BAN_ADDRESSES_MAX) {
        put_bytes(&mut out, address.to_string().as_bytes());
    }
    out.into()
}

/// Reads them.
///
/// # Errors
///
/// [`WireFault`]: what is wrong with them.
pub fn decode_addresses(payload: &Bytes) -> Result<Vec<IpAddr>, WireFault> {
    let mut section = Section::versioned(payload)?;
    let mut addresses = Vec::new();
    while !section.is_empty() {
        let address = section.text()?.parse();
        addresses.push(address.map_err(|_| WireFault::Value("an address"))?);
    }
    Ok(addresses)
}

/// Encodes remembered messages, oldest first, for whoever has asked: the newest that fit.
pub fn encode_recalled(recalled: &[Recalled]) -> Bytes {
    let mut len = 0;
    let fit = recalled.iter().rev().take_while(|recalled| {
        len += recalled.frame.len();
        len <= RECALLED_BYTES_MAX
    });
    let skipped = recalled.len() - fit.count();
    let mut out = vec![VERSION];
    for Recalled { age, frame } in recalled.iter().skip(skipped) {
        out.put_u64_le(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        put_bytes(&mut out, frame);
    }
    out.into()
}

/// Reads them.
///
/// # Errors
///
/// [`WireFault`]: what is wrong with them.
pub fn decode_recalled(payload: &Bytes) -> Result<Vec<Recalled>, WireFault> {
    let mut section = Section::versioned(payload)?;
    let mut recalled = Vec::new();
    while !section.is_empty() {
        recalled.push(Recalled {
            age: Duration::from_millis(section.u64()?),
            frame: section.bytes()?,
        });
    }
    Ok(recalled)
}

/// Joins pages of users of several shards or nodes: the first `most` by id, each user once.
pub fn join_users(pages: impl IntoIterator<Item = Vec<RoomUser>>, most: usize) -> Vec<RoomUser> {
    let mut all: Vec<RoomUser> = pages.into_iter().flatten().collect();
    // The oldest of a user's connections stands first.
    all.sort_by(|a, b| (&a.user_id, a.since).cmp(&(&b.user_id, b.since)));
    all.dedup_by(|next, kept| {
        let is_same = next.user_id == kept.user_id;
        if is_same {
            kept.connections = kept.connections.saturating_add(next.connections);
        }
        is_same
    });
    all.truncate(most);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, connections: u32, since: u64) -> RoomUser {
        RoomUser {
            user_id: name.into(),
            attributes_json: format!("{{\"n\":\"{since}\"}}").into(),
            connections,
            since: UnixTime::from_secs(since),
        }
    }

    /// Goal: what one node says another reads; no cut bytes are taken for it, nor more than may be said.
    #[test]
    fn crowds_survive_the_wire() {
        let (from, room) = (Incarnation::new(7), RoomId::from_random(9));
        let count = Count {
            viewers: 1,
            connections: 2,
            joined: 3,
            peak: 4,
            peak_at: UnixTime::from_secs(5),
        };
        let after = "böb".into();
        for said in [
            Crowd::Report {
                from,
                counts: vec![(room, count), (RoomId::from_random(1), Count::default())],
            },
            Crowd::Question {
                from,
                room,
                about: About::Unique,
            },
            Crowd::Question {
                from,
                room,
                about: About::Users { after, most: 101 },
            },
        ] {
            let bytes = said.encode();
            assert_eq!(Crowd::decode(&bytes), Ok(said));
            for end in 0..bytes.len() {
                assert!(Crowd::decode(&bytes.slice(..end)).is_err(), "{end}");
            }
        }
        let token = TokenId::from_bytes([7; 16]);
        for said in [
            Crowd::Replaced { from, token },
            Crowd::Question {
                from,
                room,
                about: About::Remembered,
            },
        ] {
            let bytes = said.encode();
            assert_eq!(Crowd::decode(&bytes), Ok(said));
            assert!(Crowd::decode(&bytes.slice(..bytes.len() - 1)).is_err());
        }
        let counts = vec![(room, count); VIEWERS_REPORTED_MAX + 1];
        assert!(Crowd::decode(&Crowd::Report { from, counts }.encode()).is_err());
        let about = About::Addresses("böb".into());
        let said = Crowd::Question { from, room, about };
        assert_eq!(Crowd::decode(&said.encode()), Ok(said));
        let addresses = ["192.0.2.1", "2001:db8::1"].map(|text| text.parse().expect("an address"));
        let bytes = encode_addresses(&addresses);
        assert_eq!(decode_addresses(&bytes), Ok(addresses.to_vec()));
        assert!(decode_addresses(&bytes.slice(..bytes.len() - 1)).is_err());
        let users = [user("a", 1, 2), user("b\"\u{1F525}", 3, 4)];
        assert_eq!(decode_users(&encode_users(&users)), Ok(users.to_vec()));
        assert!(decode_users(&encode_users(&vec![user("a", 1, 1); 102])).is_err());
    }

    /// Goal: the newest messages cross, as many as one answer takes, in order.
    #[test]
    fn recalled_messages_survive_the_wire() {
        let recalled = |len: usize, age| Recalled {
            age: Duration::from_millis(age),
            frame: vec![7; len].into(),
        };
        let few = vec![recalled(3, 9), recalled(0, 8), recalled(70_000, 1)];
        let bytes = encode_recalled(&few);
        assert_eq!(decode_recalled(&bytes), Ok(few));
        assert!(decode_recalled(&bytes.slice(..bytes.len() - 1)).is_err());
        let many = vec![recalled(RECALLED_BYTES_MAX / 2, 3); 5];
        assert_eq!(
            decode_recalled(&encode_recalled(&many)),
            Ok(many[3..].to_vec())
        );
    }

    /// Goal: a user on several shards or nodes is one, with the attributes of the oldest connection.
    #[test]
    fn pages_join() {
        let pages = [
            vec![user("a", 1, 9), user("c", 1, 1)],
            vec![user("a", 2, 5), user("b", 1, 7)],
        ];
        let joined = join_users(pages.clone(), 10);
        assert_eq!(joined, [user("a", 3, 5), user("b", 1, 7), user("c", 1, 1)]);
        assert_eq!(join_users(pages, 2), joined[..2]);
    }
}
