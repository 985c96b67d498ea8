//! Rooms by their number of viewers: the classes of `/metrics`, and how many rooms are in each.

use super::figure::Figure;
use crate::exposition::{Exposition, Family};

/// Names of the classes, each with its greatest number of viewers.
pub const SIZES: [(&str, usize); 5] = [
    ("1-10", 10),
    ("11-100", 100),
    ("101-1000", 1_000),
    ("1001-10000", 10_000),
    ("10001-", usize::MAX),
];

/// The class of a room with this many viewers; of one without, that of the smallest.
pub fn size_class(viewers: usize) -> usize {
    SIZES.iter().take_while(|(_, most)| viewers > *most).count()
}

/// Rooms at home on a shard, by their viewers on all shards, as of the last census.
#[derive(Debug, Default)]
pub struct RoomSizes {
    empty: Figure,
    classes: [Figure; SIZES.len()],
}

/// A count of all rooms at home on a shard, made in pieces.
#[derive(Debug, Default)]
pub struct Census {
    /// The first position of the table of rooms that it has not seen.
    pub position: usize,
    empty: usize,
    classes: [usize; SIZES.len()],
}

impl Census {
    /// Counts a room.
    pub fn see(&mut self, viewers: usize) {
        match self.classes.get_mut(size_class(viewers)) {
            Some(rooms) if viewers > 0 => *rooms += 1,
            _ => self.empty += 1,
        }
    }

    /// It has seen all rooms: their numbers are shown, and the next one begins.
    pub fn end(&mut self, shown: &RoomSizes) {
        shown.empty.set_len(self.empty);
        for (figure, rooms) in shown.classes.iter().zip(self.classes) {
            figure.set_len(rooms);
        }
        *self = Self::default();
    }
}

/// Adds the rooms of all shards to `/metrics`.
pub fn render<'a>(shards: impl Iterator<Item = &'a RoomSizes> + Clone, page: &mut Exposition) {
    let sum = |figure: &dyn Fn(&RoomSizes) -> &Figure| -> u64 {
        shards.clone().map(|sizes| figure(sizes).get()).sum()
    };
    let mut rooms = page.family(&ROOMS);
    rooms.add(&[("size", "0")], sum(&|sizes| &sizes.empty));
    for (class, (size, _)) in SIZES.iter().enumerate() {
        rooms.add(&[("size", size)], sum(&|sizes| &sizes.classes[class]));
    }
}

const ROOMS: Family = Family::gauge(
    "uproar_rooms_by_viewers",
    "Rooms at home here by their number of viewers on this server, counted a thousand a second on each shard.",
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each room is in one class, at both ends of each; a census shows nothing before it has ended, and the next one
    /// begins at nothing.
    #[test]
    fn a_census_counts_each_room_once() {
        let (sizes, others) = (RoomSizes::default(), RoomSizes::default());
        let mut census = Census::default();
        let shown = || {
            let mut page = Exposition::new();
            render([&sizes, &others].into_iter(), &mut page);
            let text = page.into_text();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let counts = lines.map(|line| line.rsplit_once(' ').expect("a value").1.to_owned());
            counts.collect::<Vec<_>>().join(" ")
        };
        for viewers in [0, 0, 1, 10, 11, 100, 1_000, 10_000, 10_001, 1_000_000] {
            census.see(viewers);
        }
        assert_eq!(shown(), "0 0 0 0 0 0");
        census.end(&sizes);
        assert_eq!(shown(), "2 2 2 1 1 2");
        census.end(&sizes);
        assert_eq!(shown(), "0 0 0 0 0 0");
    }
}
