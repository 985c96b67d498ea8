//! How long messages take: to the last member's send, and into the kernel. A few figures a batch, none for a member.

use crate::net::io::Io;
use crate::shard::core::outbound::ConnectionSlot;
use crate::shard::core::rooms::{Ended, Spread};
use uproar_proto::base::clock::Tick;

/// What is being measured.
pub(super) struct Spreads<W: Io> {
    /// Walks that this turn has ended; their sends are submitted at its end.
    pub(super) ended: Vec<Spread>,
    /// When the deletions and disconnects were accepted that this turn has offered to the last member.
    pub(super) moderated: Vec<Tick>,
    /// The last member of a walk, and when the first of its messages was accepted, until its send has completed. One at
    /// a time.
    pub(super) sample: Option<(ConnectionSlot<W>, Tick)>,
}

impl<W: Io> Default for Spreads<W> {
    fn default() -> Self {
        Self {
            ended: Vec::new(),
            moderated: Vec::new(),
            sample: None,
        }
    }
}

impl<W: Io> Spreads<W> {
    /// Begins a turn. What a turn without a send has ended is not counted: it sent nothing.
    pub(super) fn begin(&mut self) {
        self.ended.clear();
        self.moderated.clear();
    }

    /// Notes what has ended with this member.
    pub(super) fn note(&mut self, ended: Ended, last: Option<ConnectionSlot<W>>) {
        self.moderated.extend(ended.moderated);
        let Some(spread) = ended.walk else {
            return;
        };
        if self.sample.is_none()
            && let Some(last) = last
        {
            self.sample = Some((last, spread.since));
        }
        self.ended.push(spread);
    }
}
