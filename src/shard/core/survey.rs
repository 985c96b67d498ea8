//! Answers about single rooms: a search through all of them takes a piece in each turn.

use super::Core;
use crate::net::io::Io;
use crate::shard::survey::{Search, Survey};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::table::Slot;

impl<W: Io> Core<W> {
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
                let of = |room: &RoomId| {
                    let shard_room = self.rooms.find(*room).and_then(|slot| self.rooms.get(slot));
                    shard_room.map_or(0, |shard_room| shard_room.audience.shed())
                };
                let _asker_gone = answer.send(rooms.iter().map(of).collect());
            }
            Survey::Members {
                room,
                count,
                answer,
            } => {
                let shard_room = self.rooms.find(room).and_then(|slot| self.rooms.get(slot));
                let keys = shard_room.into_iter().flat_map(|room| room.audience.keys());
                let members = keys.map(Slot::from_bits).take(count);
                let senders = members.filter_map(|slot| self.connections.sender(slot));
                let _asker_gone = answer.send(senders.map(Into::into).collect());
            }
        }
    }

    /// Goes on with the oldest search; returns whether some are left.
    pub(super) fn search(&mut self) -> bool {
        let Some(mut search) = self.searches.pop_front() else {
            return false;
        };
        if search.is_abandoned() {
            // Its asker has given up.
        } else if self.rooms.search(&mut search, self.env.now.tick) {
            search.end();
        } else {
            self.searches.push_front(search);
        }
        !self.searches.is_empty()
    }
}
