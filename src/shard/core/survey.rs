//! Answers about single rooms: a search through all of them takes a piece in each turn.

use std::collections::BTreeMap;

use super::Core;
use super::outbound::ConnectionSlot;
use crate::net::io::Io;
use crate::shard::command::user_hash;
use crate::shard::survey::{Presence, Search, Survey, UserSearch};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::{ADMIN_ROOMS_MAX, SURVEY_MEMBERS_PER_TURN, SURVEY_ROOMS_PER_TURN};
use uproar_proto::base::table::Slot;
use uproar_proto::chat::encode;
use uproar_proto::cluster::crowd::RoomUser;
use uproar_proto::extension::unique::UniqueUsers;
use uproar_proto::room::audience::MemberKey;

impl<W: Io> Core<W> {
    /// Frames that slow members of a room here did not get.
    fn shed(&self, room: RoomId) -> u64 {
        let shard_room = self.rooms.find(room).and_then(|slot| self.rooms.get(slot));
        shard_room.map_or(0, |shard_room| shard_room.audience.shed())
    }

    /// Answers at once, or begins a search.
    pub(super) fn survey(&mut self, survey: Survey) {
        let now = self.env.now.tick;
        match survey {
            Survey::Top { count, answer } => self.searches.push_back(Search::new(count, answer)),
            Survey::Of { rooms, answer } => {
                let figures = rooms
                    .iter()
                    .filter_map(|room| self.rooms.figures(*room, now));
                let _asker_gone = answer.send(figures.collect());
            }
            Survey::Shed { rooms, answer } => {
                let shed = rooms.iter().map(|room| self.shed(*room));
                let _asker_gone = answer.send(shed.collect());
            }
            Survey::User { user_id, answer } => self.user_searches.push_back(UserSearch {
                position: 0,
                user_id,
                found: Vec::new(),
                answer,
            }),
            Survey::Unique { room, answer } => {
                let mut unique = UniqueUsers::default();
                self.viewers_of(room).for_each(|(_, hash)| unique.add(hash));
                let _asker_gone = answer.send(unique);
            }
            Survey::Users {
                room,
                after,
                most,
                answer,
            } => {
                let _asker_gone = answer.send(self.users_of(room, &after, most));
            }
            Survey::Addresses {
                room,
                user_id,
                answer,
            } => {
                let addresses = self.connections.addresses_of(room, &user_id, &self.rooms);
                let _asker_gone = answer.send(addresses);
            }
            Survey::Remembered {
                room,
                wanted,
                answer,
            } => {
                let _asker_gone = answer.send(self.rooms.remembered(room, wanted));
            }
            Survey::Recall { room, answer } => {
                let _asker_gone = answer.send(self.rooms.recalled(room, now));
            }
            Survey::Members {
                room,
                count,
                answer,
            } => {
                let _asker_gone = answer.send(self.senders_of(room, count));
            }
        }
    }

    /// The senders of some of a room's members.
    fn senders_of(&self, room: RoomId, count: usize) -> Vec<Box<str>> {
        let shard_room = self.rooms.find(room).and_then(|slot| self.rooms.get(slot));
        let keys = shard_room.into_iter().flat_map(|room| room.audience.keys());
        let members = keys.map(Slot::from_bits).take(count);
        let senders = members.filter_map(|slot| self.connections.sender(slot));
        senders.map(Into::into).collect()
    }

    /// The viewers that a room has here: keys and hashes of users.
    fn viewers_of(&self, room: RoomId) -> impl Iterator<Item = (MemberKey, u32)> {
        let shard_room = self.rooms.find(room).and_then(|slot| self.rooms.get(slot));
        shard_room
            .into_iter()
            .flat_map(|room| room.audience.viewers())
    }

    /// The first users of a room behind `after`, by their ids.
    fn users_of(&self, room: RoomId, after: &str, most: usize) -> Vec<RoomUser> {
        let mut users: BTreeMap<Box<str>, RoomUser> = BTreeMap::new();
        for (key, _) in self.viewers_of(room) {
            let Some(seen) = self.connections.look(Slot::from_bits(key)) else {
                continue;
            };
            let user_id: Box<str> = encode::sender_name(seen.sender_json).into();
            if *user_id <= *after {
                continue;
            }
            let lived = self.env.now.tick.since(seen.began);
            let lived = u64::try_from(lived.as_nanos()).unwrap_or(u64::MAX);
            let since = UnixTime::from_nanos(self.env.now.unix.nanos().saturating_sub(lived));
            let attributes_json = encode::sender_attributes(seen.sender_json, &user_id);
            let user = users.entry(user_id.clone()).or_insert_with(|| RoomUser {
                user_id,
                attributes_json: attributes_json.into(),
                connections: 0,
                since,
            });
            user.connections += 1;
            if since < user.since {
                (user.since, user.attributes_json) = (since, attributes_json.into());
            }
            if users.len() > most {
                users.pop_last();
            }
        }
        users.into_values().collect()
    }

    /// Goes on with the oldest search of each kind; returns whether some are left.
    pub(super) fn search(&mut self) -> bool {
        if let Some(mut search) = self.searches.pop_front()
            && !search.is_abandoned()
        {
            if self.rooms.search(&mut search, self.env.now.tick) {
                search.end();
            } else {
                self.searches.push_front(search);
            }
        }
        if let Some(mut search) = self.user_searches.pop_front()
            && !search.answer.is_closed()
        {
            if self.look_for(&mut search) {
                let _asker_gone = search.answer.send(search.found);
            } else {
                self.user_searches.push_front(search);
            }
        }
        !self.searches.is_empty() || !self.user_searches.is_empty()
    }

    /// Looks for a user in some more rooms; returns whether that was all.
    fn look_for(&self, search: &mut UserSearch) -> bool {
        let hash = user_hash(&search.user_id);
        let is_user = |slot: &ConnectionSlot<W>| {
            let sender = self.connections.sender(*slot);
            sender.is_some_and(|sender| encode::is_sender(sender, &search.user_id))
        };
        let positions = self.rooms.positions();
        let (mut rooms, mut members) = (0, 0);
        while search.position < positions
            && rooms < SURVEY_ROOMS_PER_TURN
            && members < SURVEY_MEMBERS_PER_TURN
        {
            let shard_room = self.rooms.at(search.position);
            (search.position, rooms) = (search.position + 1, rooms + 1);
            let Some(shard_room) = shard_room else {
                continue;
            };
            members += shard_room.audience.len();
            let slots = shard_room.audience.with_user_hash(hash);
            let connections = slots.map(Slot::from_bits).filter(is_user).count();
            if connections > 0 {
                search.found.push(Presence {
                    room: shard_room.id,
                    connections: u64::try_from(connections).expect("a count in memory"),
                });
            }
            if search.found.len() > ADMIN_ROOMS_MAX {
                return true;
            }
        }
        search.position >= positions
    }
}
