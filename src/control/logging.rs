//! Where the records of each room go, for whoever delivers them.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::Control;
use super::arn::resource_id;
use super::record::{Destination, Record, RoomRecord};
use crate::base::id::{LoggingId, RoomId};

/// One logging configuration of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDestination {
    /// The configuration.
    pub id: LoggingId,
    /// Where it delivers.
    pub destination: Destination,
}

/// Hears of rooms.
type Listener = Box<dyn Fn(RoomId)>;

/// Who wants to hear of changes.
#[derive(Default)]
pub(super) struct Logging {
    listeners: RefCell<Vec<Listener>>,
}

impl Logging {
    /// Tells everyone that where the room's records go may have changed.
    pub(super) fn changed(&self, room: RoomId) {
        for listener in self.listeners.borrow().iter() {
            listener(room);
        }
    }
}

impl Control {
    /// Where the room's records go now: each configuration once, at most three; none if it logs
    /// nothing, or does not exist.
    pub fn log_destinations(&self, room: RoomId) -> Vec<LogDestination> {
        let room = self.registry.rooms.get(room);
        room.map_or_else(Vec::new, |room| self.destinations_of(&room))
    }

    /// Every room that logs.
    pub fn logged_rooms(&self) -> Vec<(RoomId, Vec<LogDestination>)> {
        let rooms = self.registry.rooms.all();
        let logged = rooms
            .iter()
            .map(|room| (room.id(), self.destinations_of(room)));
        logged
            .filter(|(_, destinations)| !destinations.is_empty())
            .collect()
    }

    /// Calls `listener` on the control thread whenever [`Control::log_destinations`] of a room may have
    /// changed, before the room's shard hears of it. Deleted rooms are told of after their shard.
    pub fn on_logging_change(&self, listener: impl Fn(RoomId) + 'static) {
        self.logging.listeners.borrow_mut().push(Box::new(listener));
    }

    /// A configuration changed: so did every room that names it.
    pub(super) fn logging_configuration_changed(&self, id: LoggingId) {
        for room in self.registry.rooms.all() {
            if ids(&room).contains(&id) {
                self.logging.changed(room.id());
            }
        }
    }

    fn destinations_of(&self, room: &RoomRecord) -> Vec<LogDestination> {
        let known = ids(room).into_iter().filter_map(|id| {
            let destination = self.registry.logging.get(id)?.destination;
            Some(LogDestination { id, destination })
        });
        known.collect()
    }
}

fn ids(room: &RoomRecord) -> BTreeSet<LoggingId> {
    let arns = room.logging.iter().flatten();
    arns.filter_map(|arn| LoggingId::parse(resource_id(arn)))
        .collect()
}
