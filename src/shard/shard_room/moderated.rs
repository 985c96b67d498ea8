//! How far the members of a shard are with what moderators did.

use uproar_proto::base::clock::Tick;
use uproar_proto::room::audience::Audience;
use uproar_proto::room::log::Cursor;

/// Deletions and disconnects on their way to the members of a shard.
#[derive(Debug, Clone, Copy)]
pub(in crate::shard) struct Moderated {
    /// When the first of them was accepted.
    pub since: Tick,
    /// The end of the last one in the log.
    pub until: Cursor,
}

impl Moderated {
    /// One more, which was accepted at `since`, ends at the head of the log.
    pub(in crate::shard) fn note(moderated: &mut Option<Self>, since: Tick, audience: &Audience) {
        *moderated = Some(Self {
            // What members are still being served with is older.
            since: moderated.map_or(since, |before| before.since),
            until: audience.log().head(),
        });
    }
}
