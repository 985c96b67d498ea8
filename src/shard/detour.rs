//! Why requests to a room do not enter its log at once: chat modes, rules, reviews, or the order of a cluster.

use super::review::Held;
use super::room_ruled::Ruled;
use super::room_tallies::RoomTallies;
use uproar_proto::extension::Modes;
use uproar_proto::room::review::Pending;

/// What is between a room's requests and its log. A room without has none of it, so that its
/// messages pay one test.
#[derive(Debug, Default)]
pub(super) struct Detour {
    /// Messages under review; present while the room is reviewed, and until the last message has
    /// left.
    pub(super) reviewed: Option<Pending<Held>>,
    /// What the room's chat modes remember; present while its tags ask for one.
    pub(super) modes: Option<Modes>,
    /// What its rules are, and what they hold; present while its tags ask for some, or for reviews afterwards.
    pub(super) ruled: Option<Box<Ruled>>,
    /// What is counted of its members' votes and reactions; present while there is something.
    pub(super) tallies: Option<Box<RoomTallies>>,
    /// Whether a cluster orders the room, as all rooms of its nodes.
    pub(super) is_clustered: bool,
}

impl Detour {
    /// The detour of a room of a cluster.
    pub(super) fn of_cluster() -> Self {
        Self {
            is_clustered: true,
            ..Self::default()
        }
    }

    /// Whether some request must take it.
    pub(super) fn is_needed(&self) -> bool {
        self.is_clustered
            || self.reviewed.is_some()
            || self.modes.is_some()
            || self.ruled.is_some()
            || self.tallies.is_some()
    }
}
