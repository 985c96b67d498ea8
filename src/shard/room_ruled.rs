//! What a room with rules has: their names, the messages that they hold, and who reviews messages afterwards.

use super::command::PublishRequest;
use uproar_proto::extension::held::Waiting;
use uproar_proto::extension::settings::Roles;

/// A room's rules.
#[derive(Debug, Default)]
pub(super) struct Ruled {
    /// The sets that its messages are held to.
    pub(super) names: Option<Roles>,
    /// The function that reviews messages after their delivery, as an ARN.
    pub(super) reviewer: Option<Box<str>>,
    /// Messages that wait for a moderator. Invariant: none without rules.
    pub(super) waiting: Waiting<HeldForCrew>,
}

/// A message that waits for a moderator.
#[derive(Debug)]
pub(super) struct HeldForCrew {
    /// What its sender asked for, masked where rules mask.
    pub(super) publish_request: PublishRequest,
    /// The rule that holds it, with its set.
    pub(super) rule: Box<str>,
}
