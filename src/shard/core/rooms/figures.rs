//! Figures of rooms at home here.

use super::Rooms;
use crate::shard::room_sizes::RoomSizes;
use crate::shard::shard_room::ShardRoom;
use crate::shard::survey::{RoomFigures, Search};
use uproar_proto::base::clock::Tick;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::SURVEY_ROOMS_PER_TURN;

impl Rooms {
    /// The figures of a room, if it is at home here.
    pub(in crate::shard::core) fn figures(&self, room: RoomId, now: Tick) -> Option<RoomFigures> {
        figures(self.get(self.find(room)?)?, now)
    }

    /// Positions of the table of rooms.
    pub(in crate::shard::core) fn positions(&self) -> usize {
        self.table.positions()
    }

    /// The room at one of them, if there is one.
    pub(in crate::shard::core) fn at(&self, position: usize) -> Option<&ShardRoom> {
        self.get(self.table.at(position)?)
    }

    /// Shows a search the next piece of the rooms at home here; returns whether it has seen all.
    pub(in crate::shard::core) fn search(&self, search: &mut Search, now: Tick) -> bool {
        let positions = self.table.positions();
        let end = positions.min(search.position + SURVEY_ROOMS_PER_TURN);
        for position in search.position..end {
            let shard_room = self.table.at(position).and_then(|slot| self.get(slot));
            if let Some(figures) = shard_room.and_then(|room| figures(room, now)) {
                search.see(figures);
            }
        }
        search.position = end;
        end == positions
    }
}

impl Rooms {
    /// Goes on with the census of rooms; to be called once a second.
    pub(in crate::shard::core) fn count_sizes(&mut self, shown: &RoomSizes) {
        let positions = self.table.positions();
        let end = positions.min(self.census.position + SURVEY_ROOMS_PER_TURN);
        for position in self.census.position..end {
            let room = self
                .table
                .at(position)
                .and_then(|slot| self.table.get(slot));
            if let Some(home) = room.and_then(|room| room.home.as_deref()) {
                self.census.see(home.member_count());
            }
        }
        self.census.position = end;
        if end == positions {
            self.census.end(shown);
        }
    }

    /// Number of members here, of all rooms.
    pub(in crate::shard::core) fn members(&self) -> usize {
        let rooms = self.by_id.values().filter_map(|slot| self.get(*slot));
        rooms.map(|shard_room| shard_room.audience.len()).sum()
    }

    /// When the oldest message was accepted of those that members are being served with.
    pub(in crate::shard::core) fn serving_since(&self) -> Option<Tick> {
        let rooms = self.walking.iter().filter_map(|slot| self.get(*slot));
        rooms.filter_map(|room| room.spreading).min()
    }
}

fn figures(shard_room: &ShardRoom, now: Tick) -> Option<RoomFigures> {
    let home = shard_room.home.as_deref()?;
    let viewers = u64::try_from(home.member_count()).expect("a count in memory");
    Some(RoomFigures {
        room: shard_room.id,
        viewers,
        per_minute: home.room.per_minute(now),
        refused: home.refused,
        audience: home
            .viewers
            .as_ref()
            .map(|viewers| viewers.audience(now))
            .unwrap_or_default(),
    })
}
