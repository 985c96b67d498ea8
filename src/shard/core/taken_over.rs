//! What a shard knows of the process that it takes over.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::shard::command::SenderAddress;
use crate::shard::estate::{Carried, RoomsEstate, SenderTag};

/// The process that a shard takes over, until it serves.
pub(super) struct TakenOver {
    /// Its rooms.
    pub(super) estate: Arc<RoomsEstate>,
    /// Where the senders of messages under review are now, of rooms at home here.
    pub(super) senders: HashMap<SenderTag, SenderAddress>,
    // Messages to homes about arrived members that are not answered.
    uncounted: usize,
    // Told when all are.
    answers: Vec<(oneshot::Sender<Carried>, Carried)>,
}

impl TakenOver {
    /// Nothing has arrived but the rooms.
    pub(super) fn new(estate: Arc<RoomsEstate>) -> Self {
        Self {
            estate,
            senders: HashMap::new(),
            uncounted: 0,
            answers: Vec::new(),
        }
    }

    /// Notes that a home was told of arrived members.
    pub(super) fn told(&mut self) {
        self.uncounted += 1;
    }

    /// Notes that a home has counted them; with the last one, who waits is answered.
    pub(super) fn counted(&mut self) {
        self.uncounted = self.uncounted.saturating_sub(1);
        if self.uncounted == 0 {
            for (answer, carried) in self.answers.drain(..) {
                let _asker_gone = answer.send(carried);
            }
        }
    }

    /// Answers once all are counted.
    pub(super) fn answer(&mut self, answer: oneshot::Sender<Carried>, carried: Carried) {
        if self.uncounted > 0 {
            self.answers.push((answer, carried));
        } else {
            let _asker_gone = answer.send(carried);
        }
    }
}
