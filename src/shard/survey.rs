//! Figures of single rooms, for people: which are largest and busiest, how one does, who is in it.
//!
//! Asked by the control thread, answered by home shards. Rooms are counted only when somebody asks, a piece of them in
//! each turn, so that a hundred thousand rooms delay nobody's message.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use bytes::Bytes;
use tokio::sync::oneshot;

use uproar_proto::base::id::{FrameId, RoomId};
use uproar_proto::cluster::crowd::{Recalled, RoomUser};
use uproar_proto::extension::speech::Key;
use uproar_proto::extension::unique::UniqueUsers;
use uproar_proto::extension::viewers::Audience;
use uproar_proto::room::memory::Place;

/// How a room does, as its home shard counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomFigures {
    /// The room.
    pub room: RoomId,
    /// Its viewers on all shards of this server.
    pub viewers: u64,
    /// Messages and events a minute, of late.
    pub per_minute: u64,
    /// Requests over a rate, or for a room that could take no more, since the shard knows the room.
    pub refused: u64,
    /// Its viewers on all servers of the cluster.
    pub audience: Audience,
}

/// The rooms of one shard that are first by some figure, greatest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TopRooms {
    /// Those with most viewers.
    pub by_viewers: Vec<RoomFigures>,
    /// Those with most messages.
    pub by_rate: Vec<RoomFigures>,
    /// Those with most viewers on all servers of the cluster; none without.
    pub by_audience: Vec<RoomFigures>,
}

/// What is asked of a shard about its rooms.
#[derive(Debug)]
pub enum Survey {
    /// The first `count` of all rooms at home on the shard.
    Top {
        /// How many.
        count: usize,
        /// Gets them, some turns later.
        answer: oneshot::Sender<TopRooms>,
    },
    /// These rooms, as far as they are at home on the shard.
    Of {
        /// Which; few, since they are counted at once.
        rooms: Vec<RoomId>,
        /// Gets them in the same order.
        answer: oneshot::Sender<Vec<RoomFigures>>,
    },
    /// Frames that slow members on the shard did not get, of each of these rooms.
    Shed {
        /// Which; few, since they are counted at once.
        rooms: Vec<RoomId>,
        /// Gets them in the same order; 0 of rooms that nobody on the shard is in.
        answer: oneshot::Sender<Vec<u64>>,
    },
    /// The rooms in which a user has connections on the shard.
    User {
        /// The user's id.
        user_id: Box<str>,
        /// Gets them, some turns later.
        answer: oneshot::Sender<Vec<Presence>>,
    },
    /// The users of a room with viewers on the shard, as a set.
    Unique {
        /// The room.
        room: RoomId,
        /// Gets the set.
        answer: oneshot::Sender<UniqueUsers>,
    },
    /// The first users of a room behind one, by their ids, that are viewers on the shard.
    Users {
        /// The room, which is not large.
        room: RoomId,
        /// The last user that is known; empty: none.
        after: Box<str>,
        /// How many.
        most: usize,
        /// Gets them in order.
        answer: oneshot::Sender<Vec<RoomUser>>,
    },
    /// The addresses of a user's connections in a room on the shard.
    Addresses {
        /// The room.
        room: RoomId,
        /// The user.
        user_id: Box<str>,
        /// Gets them.
        answer: oneshot::Sender<Vec<IpAddr>>,
    },
    /// The first `count` members that a room has on the shard, in no order that means anything.
    Members {
        /// The room.
        room: RoomId,
        /// How many; few, since they are written at once.
        count: usize,
        /// Gets `Sender` of each, as JSON.
        answer: oneshot::Sender<Vec<Box<str>>>,
    },
    /// Messages that a room at home on the shard remembers.
    Remembered {
        /// The room.
        room: RoomId,
        /// Which.
        wanted: Wanted,
        /// Gets the JSON of each, newest first; `None`: no such room is at home there.
        answer: oneshot::Sender<Option<Vec<Bytes>>>,
    },
    /// All messages that a room at home on the shard remembers, for another node of the cluster.
    Recall {
        /// The room.
        room: RoomId,
        /// Gets them, oldest first.
        answer: oneshot::Sender<Vec<Recalled>>,
    },
}

/// Which remembered messages are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The one with this id.
    Message(FrameId),
    /// Those before this place; without one, all.
    Before(Option<Place>),
    /// All of a user's: their ids.
    OfUser(Key),
}

/// A user in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// The room.
    pub room: RoomId,
    /// The user's connections there.
    pub connections: u64,
}

/// A search for a user that has not seen all rooms yet.
#[derive(Debug)]
pub(super) struct UserSearch {
    /// The position of the table of rooms that is looked at next.
    pub(super) position: usize,
    /// The user's id.
    pub(super) user_id: Box<str>,
    /// Where the user is, at most `ADMIN_ROOMS_MAX` and one more.
    pub(super) found: Vec<Presence>,
    /// Gets that.
    pub(super) answer: oneshot::Sender<Vec<Presence>>,
}

/// A search for the first rooms that has not seen all yet.
#[derive(Debug)]
pub(super) struct Search {
    /// The position of the table that is looked at next.
    pub(super) position: usize,
    by_viewers: First,
    by_rate: First,
    by_audience: First,
    answer: oneshot::Sender<TopRooms>,
}

impl Search {
    /// Begins a search for the first `count` rooms.
    pub(super) fn new(count: usize, answer: oneshot::Sender<TopRooms>) -> Self {
        Self {
            position: 0,
            by_viewers: First::of(count),
            by_rate: First::of(count),
            by_audience: First::of(count),
            answer,
        }
    }

    /// Takes a room into account.
    pub(super) fn see(&mut self, figures: RoomFigures) {
        self.by_viewers.see(figures.viewers, figures);
        self.by_rate.see(figures.per_minute, figures);
        if figures.audience.viewers > 0 {
            self.by_audience.see(figures.audience.viewers, figures);
        }
    }

    /// Whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    /// Answers with what was seen.
    pub(super) fn end(self) {
        let _asker_gone = self.answer.send(TopRooms {
            by_viewers: self.by_viewers.into_sorted(),
            by_rate: self.by_rate.into_sorted(),
            by_audience: self.by_audience.into_sorted(),
        });
    }
}

/// A room as it stands in the heap: by the figure, then by its id.
#[derive(Debug, Clone, Copy)]
struct Kept(u64, RoomFigures);

impl Kept {
    fn key(&self) -> (u64, Reverse<RoomId>) {
        (self.0, Reverse(self.1.room))
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Kept {}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The first rooms by one figure.
#[derive(Debug)]
struct First {
    count: usize,
    // At most `count`; the least is on top. Of equal ones the room with the lesser id is first.
    kept: BinaryHeap<Reverse<Kept>>,
}

impl First {
    fn of(count: usize) -> Self {
        let kept = BinaryHeap::new();
        Self { count, kept }
    }

    fn see(&mut self, figure: u64, of: RoomFigures) {
        let entry = Reverse(Kept(figure, of));
        if self.kept.len() < self.count {
            self.kept.push(entry);
        } else if let Some(mut least) = self.kept.peek_mut()
            && entry < *least
        {
            *least = entry;
        }
    }

    fn into_sorted(self) -> Vec<RoomFigures> {
        let sorted = self.kept.into_sorted_vec().into_iter();
        sorted.map(|Reverse(Kept(_, figures))| figures).collect()
    }
}

/// Joins the answers of several shards: the first `count` of all, by `figure`.
pub fn merge(
    answers: impl IntoIterator<Item = Vec<RoomFigures>>,
    count: usize,
    figure: impl Fn(&RoomFigures) -> u64,
) -> Vec<RoomFigures> {
    let mut first = First::of(count);
    for figures in answers.into_iter().flatten() {
        first.see(figure(&figures), figures);
    }
    first.into_sorted()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: u64) -> RoomFigures {
        let room = RoomId::parse(&format!("{number:012}")).expect("twelve digits");
        RoomFigures {
            room,
            viewers: number * 7919 % 1000,
            per_minute: number % 10,
            refused: number % 7,
            audience: Audience::default(),
        }
    }

    /// Goal: the greatest come first, equals by id, whatever the order of arrival and however many shards there are.
    /// Method: a thousand rooms on three shards against a sorted list.
    #[test]
    fn the_first_rooms_are_those_of_a_sorted_list() {
        let by_viewers = |figures: &RoomFigures| figures.viewers;
        let by_rate = |figures: &RoomFigures| figures.per_minute;
        let mut all: Vec<_> = (0..1000).map(room).collect();
        for count in [0, 1, 10, 999, 2000] {
            let mut tops = Vec::new();
            for shard in 0..3 {
                let (answer, mut answered) = oneshot::channel();
                let mut search = Search::new(count, answer);
                let own = (0..1000).filter(|number| number % 3 == shard).map(room);
                own.for_each(|figures| search.see(figures));
                search.end();
                tops.push(answered.try_recv().expect("an answer"));
            }
            let (viewers, rates): (Vec<_>, Vec<_>) = tops
                .into_iter()
                .map(|top| (top.by_viewers, top.by_rate))
                .unzip();
            all.sort_by_key(|figures| (Reverse(figures.viewers), figures.room));
            assert_eq!(merge(viewers, count, by_viewers), all[..count.min(1000)]);
            all.sort_by_key(|figures| (Reverse(figures.per_minute), figures.room));
            assert_eq!(merge(rates, count, by_rate), all[..count.min(1000)]);
        }
    }
}
