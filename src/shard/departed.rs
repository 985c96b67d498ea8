//! Who has left a room, for its home.

use uproar_proto::extension::speech::Key;
use uproar_proto::room::stands::Stand;

/// Where a viewer stands who leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// The user.
    pub user: Key,
    /// The place.
    pub stand: Stand,
    /// Whether the connection was there for long enough that what it got at its beginning has come.
    pub is_settled: bool,
}
