//! What a test may have of the whole server under `uproar dev`: a [reset](super::reset), a turn of its
//! [clocks](super::advance). Under `serve` there is no [`Emulator`], and its endpoints do not exist.

use tokio::sync::Mutex;

use super::fault::Fault;
use crate::shard::command::Refused;
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::EMULATOR_ADVANCE_MAX;

/// Replaces the keys that seal chat tokens, so that no token made before opens a connection. Returns why it could not.
pub type Rekey = Box<dyn Fn() -> Result<(), String>>;

/// What `dev` gives its tests.
pub struct Emulator {
    /// The rooms that are there at the start: ids and names.
    pub(super) ready: Vec<(RoomId, String)>,
    pub(super) rekey: Rekey,
    // One change of the whole server at a time.
    pub(super) alone: Mutex<()>,
}

/// Why the server is not as it was asked to be. It serves on.
#[derive(Debug, thiserror::Error)]
pub(super) enum EmulatorFault {
    /// The clocks would be too far ahead.
    #[error(
        "the clock may be at most {} days ahead of the machine's, all advances together: start a new server",
        EMULATOR_ADVANCE_MAX.as_secs() / 86_400
    )]
    TooFar,
    /// A shard did not stop for a moment.
    #[error("a shard does not stop: {0}; look at /livez, then try again")]
    Shard(#[from] Refused),
    /// A record could not be changed.
    #[error("a room or logging configuration stays: {0:?}; try again")]
    Record(Fault),
    /// The keys could not be replaced.
    #[error("the sealing keys stay: {0}; try again")]
    Keys(String),
}

impl Emulator {
    /// `ready` are the rooms of the start: ids and names.
    pub fn new(ready: Vec<(RoomId, String)>, rekey: Rekey) -> Self {
        Self {
            ready,
            rekey,
            alone: Mutex::default(),
        }
    }
}
