//! Reviews after delivery: the same question to a function, and more time for it. What it denies is deleted.

use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Fault, Handler, Reviews, counted};
use crate::shard::command::Refused;
use crate::shard::estate::unfinished::AfterReview;
use crate::shard::review::ReviewRequest;
use uproar_proto::base::limits::AFTER_REVIEW_TIMEOUT;
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
        let request = self.note(request);
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

    /// Notes a review until it has its outcome.
    fn note(self: &Rc<Self>, request: ReviewRequest) -> Open {
        let number = self.next_afterwards.get();
        self.next_afterwards.set(number + 1);
        let request = Rc::new(request);
        let mut open = self.afterwards.borrow_mut();
        open.insert(number, Rc::clone(&request));
        Open {
            reviews: Rc::clone(self),
            number,
            request,
        }
    }

    /// The reviews after delivery that have no outcome yet, for the process that takes over: it asks again. Call it when no
    /// shard has anything more to say; they go on here in case that process fails.
    pub fn unfinished(self: &Rc<Self>) -> Vec<AfterReview> {
        let shards = self.control.review_requests.borrow().len();
        for shard in 0..shards {
            while let Some(request) = self.next_of(shard) {
                self.take(request);
            }
        }
        let open = self.afterwards.borrow();
        let reviews = open.values().filter_map(|request| AfterReview::of(request));
        reviews.collect()
    }

    /// Asks for reviews that another process has not brought to an end.
    pub fn take_up(self: &Rc<Self>, reviews: Vec<AfterReview>) {
        let deadline = self.control.clock.now().tick.after(AFTER_REVIEW_TIMEOUT);
        for review in reviews {
            self.take(review.request(deadline));
        }
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

/// A review after delivery without an outcome.
struct Open {
    reviews: Rc<Reviews>,
    number: u64,
    request: Rc<ReviewRequest>,
}

impl Deref for Open {
    type Target = ReviewRequest;

    fn deref(&self) -> &ReviewRequest {
        &self.request
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reviews.afterwards.borrow_mut().remove(&self.number);
    }
}
