//! One delivery as a pure state machine: what to send next, and what an answer means for it.
//!
//! A request that is refused for what it holds is halved until the record to blame stands alone. That
//! record is dropped, and counted, if the sink is known to take others; else the sink or the
//! configuration may be to blame, and the record waits behind the others. A sink that took records once
//! and then refuses one after the other is not believed for long: see [`LOG_DROPS_MAX`]. So one record costs about two
//! requests for each power of two in its request, and nothing else waits for it.

use std::collections::VecDeque;
use std::time::Duration;

use super::metrics::Trouble;
use super::parcel::Parcel;
use super::verdict::Outcome;
use crate::base::limits::{
    LOG_DROPS_MAX, LOG_HALVINGS_MAX, LOG_REFUSALS_MAX, LOG_RETRY_MAX, LOG_RETRY_MIN,
};

/// What is left of a delivery.
#[derive(Debug)]
pub(super) struct Shipment {
    // To be sent in this order.
    left: VecDeque<Part>,
    // Records that may still be dropped until the sink takes something: none until it has.
    drops_left: u32,
    // Records wait in the spool, behind these.
    others_wait: bool,
    // Halvings without a pause until something is taken.
    halvings_left: u32,
    // The last pause; `None` after a success.
    pause: Option<Duration>,
}

/// A request, and how often it was refused while it held one record.
#[derive(Debug)]
struct Part {
    parcel: Parcel,
    refusals: u32,
}

/// What an answer came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    /// Records known to be taken.
    pub(super) delivered: u64,
    /// Records the sink took note of and will never take.
    pub(super) rejected: u64,
    /// Records dropped because the sink refuses every request that holds them.
    pub(super) refused: u64,
    /// What went wrong, and for people.
    pub(super) trouble: Option<(Trouble, String)>,
    /// Wait so long before the next request.
    pub(super) pause: Option<Duration>,
}

impl Report {
    /// Nothing waits for anything.
    const NOTHING: Self = Self {
        delivered: 0,
        rejected: 0,
        refused: 0,
        trouble: None,
        pause: None,
    };
}

impl Shipment {
    /// Of these requests, in order. `drops_left`: as an earlier one left it; 0 for a new sink.
    pub(super) fn new(parcels: Vec<Parcel>, drops_left: u32) -> Self {
        let part = |parcel| Part {
            parcel,
            refusals: 0,
        };
        Self {
            left: parcels.into_iter().map(part).collect(),
            drops_left,
            others_wait: false,
            halvings_left: LOG_HALVINGS_MAX,
            pause: None,
        }
    }

    /// What to send now; `None`: everything was delivered or dropped.
    pub(super) fn next(&self) -> Option<&Parcel> {
        self.left.front().map(|part| &part.parcel)
    }

    /// Records neither delivered nor dropped.
    pub(super) fn count(&self) -> u64 {
        self.left.iter().map(|part| part.parcel.count()).sum()
    }

    /// How many records may be dropped until the sink takes something.
    pub(super) fn drops_left(&self) -> u32 {
        self.drops_left
    }

    /// Tells whether records wait in the spool behind these.
    pub(super) fn set_others_wait(&mut self, others_wait: bool) {
        self.others_wait = others_wait;
    }

    /// Whether the last answer was a failure.
    pub(super) fn is_failing(&self) -> bool {
        self.pause.is_some()
    }

    /// Takes the answer to what [`Shipment::next`] said.
    pub(super) fn answered(&mut self, outcome: Outcome) -> Report {
        let Some(mut part) = self.left.pop_front() else {
            return Report::NOTHING;
        };
        let count = part.parcel.count();
        match outcome {
            Outcome::Taken { rejected } => {
                self.took(rejected < count);
                self.pause = None;
                Report {
                    delivered: count - rejected,
                    rejected,
                    ..Report::NOTHING
                }
            }
            Outcome::Partly { left, text } => {
                part.parcel.keep(&left);
                let delivered = count - part.parcel.count();
                self.took(delivered > 0);
                if part.parcel.count() > 0 {
                    self.left.push_front(part);
                }
                Report {
                    delivered,
                    pause: Some(self.pause(delivered > 0)),
                    trouble: Some((Trouble::Throttled, text)),
                    ..Report::NOTHING
                }
            }
            Outcome::Failed { trouble, text } => {
                self.left.push_front(part);
                Report {
                    pause: Some(self.pause(false)),
                    trouble: Some((trouble, text)),
                    ..Report::NOTHING
                }
            }
            Outcome::Refused { named, text } if count > 1 => {
                let second = part.parcel.split();
                let is_free = self.halvings_left > 0;
                self.halvings_left = self.halvings_left.saturating_sub(1);
                self.left.push_front(Part {
                    parcel: second,
                    refusals: 0,
                });
                self.left.push_front(part);
                Report {
                    pause: (!is_free).then(|| self.pause(false)),
                    trouble: Some((trouble_of(named), text)),
                    ..Report::NOTHING
                }
            }
            Outcome::Refused { named, text } => self.refused_alone(part, named, text),
        }
    }

    fn refused_alone(&mut self, mut part: Part, named: bool, text: String) -> Report {
        part.refusals += 1;
        let trouble = Some((trouble_of(named), text));
        let in_the_way = named || self.others_wait;
        if self.drops_left > 0 || (in_the_way && part.refusals >= LOG_REFUSALS_MAX) {
            self.drops_left = self.drops_left.saturating_sub(1);
            return Report {
                refused: 1,
                trouble,
                ..Report::NOTHING
            };
        }
        // Others first: if the sink takes one of them, this record is to blame.
        self.left.push_back(part);
        Report {
            pause: Some(self.pause(false)),
            trouble,
            ..Report::NOTHING
        }
    }

    fn took(&mut self, any: bool) {
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

fn trouble_of(named: bool) -> Trouble {
    if named {
        Trouble::Invalid
    } else {
        Trouble::Refused
    }
}

#[cfg(test)]
#[path = "shipment_tests.rs"]
mod tests;
