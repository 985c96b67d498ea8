//! One delivery as a pure state machine: which request is next, and what an answer means for it.
//!
//! A request that is refused because of its records is halved until the record at fault stands
//! alone. That record is dropped, and counted, if the sink is known to accept others; otherwise the
//! sink or the configuration may be at fault, and the record waits behind the others. A sink that
//! accepted records once and then refuses one after the other is trusted only up to
//! [`LOG_DROPS_MAX`]. So one record costs about two requests for each power of two in its request,
//! and nothing else waits for it.

use std::collections::VecDeque;
use std::time::Duration;

use super::metrics::DeliveryError;
use super::upload::UploadRequest;
use super::verdict::Outcome;
use uproar_proto::base::limits::{
    LOG_DROPS_MAX, LOG_HALVINGS_MAX, LOG_REFUSALS_MAX, LOG_RETRY_MAX, LOG_RETRY_MIN,
};

/// The rest of a delivery.
#[derive(Debug)]
pub(super) struct Shipment {
    // Requests to send, in this order.
    left: VecDeque<PendingUpload>,
    // Records that may still be dropped until the sink accepts one: none until it has.
    drops_left: u32,
    // Records wait in the spool behind these.
    others_wait: bool,
    // Halvings without a pause until a record is accepted.
    halvings_left: u32,
    // The last pause; `None` after a success.
    pause: Option<Duration>,
}

/// A request, and how often it was refused while it held one record.
#[derive(Debug)]
struct PendingUpload {
    upload: UploadRequest,
    refusals: u32,
}

/// The result of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Records known to be accepted.
    pub(super) delivered: u64,
    /// Records the sink acknowledged and will never accept.
    pub(super) rejected: u64,
    /// Records dropped because the sink refuses every request that holds them.
    pub(super) refused: u64,
    /// The error, with a text for people.
    pub(super) error: Option<(DeliveryError, String)>,
    /// Pause before the next request.
    pub(super) pause: Option<Duration>,
}

impl Report {
    /// No records, no error, no pause.
    const NOTHING: Self = Self {
        delivered: 0,
        rejected: 0,
        refused: 0,
        error: None,
        pause: None,
    };
}

impl Shipment {
    /// Starts with these requests, in order. `drops_left` is what an earlier delivery left; 0 for a
    /// new sink.
    pub(super) fn new(uploads: Vec<UploadRequest>, drops_left: u32) -> Self {
        let pending = |upload| PendingUpload {
            upload,
            refusals: 0,
        };
        Self {
            left: uploads.into_iter().map(pending).collect(),
            drops_left,
            others_wait: false,
            halvings_left: LOG_HALVINGS_MAX,
            pause: None,
        }
    }

    /// The next request; `None` once every record was delivered or dropped.
    pub(super) fn next(&self) -> Option<&UploadRequest> {
        self.left.front().map(|pending| &pending.upload)
    }

    /// Records neither delivered nor dropped.
    pub(super) fn count(&self) -> u64 {
        self.left.iter().map(|pending| pending.upload.count()).sum()
    }

    /// How many records may be dropped until the sink accepts one.
    pub(super) fn drops_left(&self) -> u32 {
        self.drops_left
    }

    /// Sets whether records wait in the spool behind these.
    pub(super) fn set_others_wait(&mut self, others_wait: bool) {
        self.others_wait = others_wait;
    }

    /// Whether the last answer was a failure.
    pub(super) fn is_failing(&self) -> bool {
        self.pause.is_some()
    }

    /// Applies the answer to the request of [`Shipment::next`].
    pub(super) fn answered(&mut self, outcome: Outcome) -> Report {
        let Some(mut pending) = self.left.pop_front() else {
            return Report::NOTHING;
        };
        let count = pending.upload.count();
        match outcome {
            Outcome::Accepted { rejected } => {
                self.note_progress(rejected < count);
                self.pause = None;
                Report {
                    delivered: count - rejected,
                    rejected,
                    ..Report::NOTHING
                }
            }
            Outcome::Partial { left, text } => {
                pending.upload.keep(&left);
                let delivered = count - pending.upload.count();
                self.note_progress(delivered > 0);
                if pending.upload.count() > 0 {
                    self.left.push_front(pending);
                }
                Report {
                    delivered,
                    pause: Some(self.pause(delivered > 0)),
                    error: Some((DeliveryError::Throttled, text)),
                    ..Report::NOTHING
                }
            }
            Outcome::Failed { error, text } => {
                self.left.push_front(pending);
                Report {
                    pause: Some(self.pause(false)),
                    error: Some((error, text)),
                    ..Report::NOTHING
                }
            }
            Outcome::Refused { named, text } if count > 1 => {
                let second = pending.upload.split();
                let is_free = self.halvings_left > 0;
                self.halvings_left = self.halvings_left.saturating_sub(1);
                self.left.push_front(PendingUpload {
                    upload: second,
                    refusals: 0,
                });
                self.left.push_front(pending);
                Report {
                    pause: (!is_free).then(|| self.pause(false)),
                    error: Some((error_of(named), text)),
                    ..Report::NOTHING
                }
            }
            Outcome::Refused { named, text } => self.refused_alone(pending, named, text),
        }
    }

    fn refused_alone(&mut self, mut pending: PendingUpload, named: bool, text: String) -> Report {
        pending.refusals += 1;
        let error = Some((error_of(named), text));
        let is_blocking = named || self.others_wait;
        if self.drops_left > 0 || (is_blocking && pending.refusals >= LOG_REFUSALS_MAX) {
            self.drops_left = self.drops_left.saturating_sub(1);
            return Report {
                refused: 1,
                error,
                ..Report::NOTHING
            };
        }
        // Others first: if the sink accepts one of them, this record is at fault.
        self.left.push_back(pending);
        Report {
            pause: Some(self.pause(false)),
            error,
            ..Report::NOTHING
        }
    }

    fn note_progress(&mut self, any: bool) {
        if any {
            self.drops_left = LOG_DROPS_MAX;
            self.halvings_left = LOG_HALVINGS_MAX;
        }
    }

    /// The pause after a failure: the shortest if there was progress, else twice the last one.
    fn pause(&mut self, progress: bool) -> Duration {
        let pause = match self.pause {
            Some(last) if !progress => (last * 2).min(LOG_RETRY_MAX),
            _ => LOG_RETRY_MIN,
        };
        self.pause = Some(pause);
        pause
    }
}

fn error_of(named: bool) -> DeliveryError {
    if named {
        DeliveryError::Invalid
    } else {
        DeliveryError::Refused
    }
}

#[cfg(test)]
#[path = "shipment_tests.rs"]
mod tests;
