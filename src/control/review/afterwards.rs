//! Reviews after delivery: the same question to a function, and more time for it. What it denies is deleted.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Fault, Handler, Reviews, counted};
use crate::shard::command::Refused;
use crate::shard::review::ReviewRequest;
use uproar_proto::chat::review::Verdict;

/// Attempts to delete a denied message while a rate is used up, a second apart.
const DELETIONS_MAX: usize = 10;

impl Reviews {
    /// Has a message reviewed that its room's members have. What fails leaves it there.
    pub(super) fn take_afterwards(self: &Rc<Self>, function: String, request: ReviewRequest) {
        let handler = self.handler((function, true));
        if self.is_full(&handler) {
            return self.left(&handler, &request, &Fault::Busy);
        }
        let reviews = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let outcome = reviews.verdict(&handler, &request).await;
            if let Err(fault) = &outcome {
                return reviews.left(&handler, &request, fault);
            }
            reviews.metrics.note_afterwards(counted(&outcome));
            if let Ok(Verdict::Deny(reason)) = outcome {
                reviews.delete(&request, &reason).await;
            }
        });
    }

    /// Deletes a denied message, as DeleteMessage does.
    async fn delete(&self, request: &ReviewRequest, reason: &str) {
        let (room, id) = (request.room, request.id.as_str());
        // First, so that a crash leaves no deleted text pinned.
        let _refused = self.control.unpin(room, Some(id)).await;
        for _ in 0..DELETIONS_MAX {
            match self.control.gateway.delete_message(room, id, reason).await {
                Err(Refused::Rate | Refused::Busy) => sleep(Duration::from_secs(1)).await,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Counts and logs that a message was not reviewed.
    fn left(&self, handler: &Handler, request: &ReviewRequest, fault: &Fault) {
        self.metrics.note_afterwards(fault.outcome());
        if handler.may_complain(self.control.clock.now().tick) {
            let (function, room) = (&handler.function, request.room);
            tracing::warn!(function, %room, %fault, "a message was not reviewed after its delivery: it stays");
        }
    }
}
