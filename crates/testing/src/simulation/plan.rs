//! What can happen in a world.

use uproar_proto::base::limits::MAILBOX_COMMANDS;
use uproar_proto::room::review::Fallback;

/// The user who sends arbitrary bytes.
pub(super) const WILD: &str = "wild";

/// How the archive of a world behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Archive {
    /// The room is not logged.
    Off,
    /// It always answers before the deadline.
    Prompt,
    /// It repeatedly stalls far beyond the deadline.
    Stalling,
    /// As `Prompt`, and the room's logging ends and begins repeatedly.
    Switched,
}

impl Archive {
    /// Whether it answers before the deadline.
    pub(super) fn is_prompt(self) -> bool {
        matches!(self, Self::Prompt | Self::Switched)
    }
}

/// The events that can happen in a world.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, not a state"
)]
pub(super) struct Plan {
    pub(super) archive: Archive,
    pub(super) fallback: Option<Fallback>,
    /// Capacity of each mailbox.
    pub(super) places: usize,
    /// Operations fail.
    pub(super) faults: bool,
    /// The wall clock steps.
    pub(super) steps: bool,
    /// Time leaps.
    pub(super) leaps: bool,
    /// A shard oversleeps.
    pub(super) oversleeps: bool,
    /// Clients send arbitrary bytes.
    pub(super) wild: bool,
}

impl Plan {
    pub(super) fn of(number: u64) -> Self {
        let archive = match number % 8 {
            1 => Archive::Prompt,
            5 => Archive::Switched,
            3 | 7 => Archive::Stalling,
            _ => Archive::Off,
        };
        let fallback = match number % 3 {
            0 => None,
            1 => Some(Fallback::Allow),
            _ => Some(Fallback::Deny),
        };
        let places = match number % 5 {
            0 => 2,
            1 => 1,
            2 => 7,
            _ => MAILBOX_COMMANDS,
        };
        Self {
            archive,
            fallback,
            places,
            faults: number % 7 < 3,
            steps: number % 11 < 5,
            // An archive that is prompt has a deadline.
            leaps: number % 13 < 6 && !archive.is_prompt(),
            oversleeps: number % 5 < 3 && !archive.is_prompt(),
            wild: number % 17 < 8,
        }
    }
}
