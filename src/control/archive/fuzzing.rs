//! A door for fuzz targets: a delivery, and what the answers to its requests come to.

use std::path::PathBuf;

use super::parcel::Parcel;
use super::shipment::{Report, Shipment};
use super::verdict::{self, Outcome};
use crate::base::limits::LOG_RETRY_MAX;
use crate::control::client::Answered;

/// What a destination's service is, hence the form of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Object storage.
    S3,
    /// CloudWatch Logs.
    Logs,
    /// Firehose.
    Firehose,
}

impl Service {
    /// What it says of a request with so many records.
    pub fn verdict(self, answered: &Answered, sent: usize) -> Outcome {
        match self {
            Self::S3 => verdict::object(answered),
            Self::Logs => verdict::log_events(answered, sent),
            Self::Firehose => verdict::records(answered, sent),
        }
    }

    fn parcel(self, picks: Vec<usize>) -> Parcel {
        match self {
            // What an object and a file of lines do to the queue is the same.
            Self::S3 => Parcel::Lines {
                file: PathBuf::new(),
                picks,
            },
            Self::Logs => Parcel::LogEvents {
                group: String::new(),
                stream: String::new(),
                picks,
            },
            Self::Firehose => Parcel::Records {
                stream: String::new(),
                picks,
            },
        }
    }
}

/// Records on their way to a destination.
#[derive(Debug)]
pub struct Delivery(Shipment);

/// What an answer came to, in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// Counted as delivered.
    pub delivered: u64,
    /// Counted as taken note of, and never taken.
    pub rejected: u64,
    /// Dropped, since no request with them is taken.
    pub refused: u64,
}

impl Delivery {
    /// Of so many records, `each` in a request.
    pub fn new(service: Service, records: usize, each: usize) -> Self {
        let all: Vec<usize> = (0..records).collect();
        let parcels = all.chunks(each).map(|picks| service.parcel(picks.to_vec()));
        Self(Shipment::new(parcels.collect(), 0))
    }

    /// The records of the next request; `None`: there is none left.
    pub fn next(&self) -> Option<Vec<usize>> {
        self.0.next().map(|parcel| parcel.picks().to_vec())
    }

    /// Takes the answer to that request. `others_wait`: records wait in the spool behind these.
    pub fn answered(&mut self, outcome: Outcome, others_wait: bool) -> Came {
        self.0.set_others_wait(others_wait);
        let Report {
            delivered,
            rejected,
            refused,
            pause,
            ..
        } = self.0.answered(outcome);
        assert!(pause.is_none_or(|pause| !pause.is_zero() && pause <= LOG_RETRY_MAX));
        Came {
            delivered,
            rejected,
            refused,
        }
    }

    /// Records that are neither delivered nor dropped.
    pub fn left(&self) -> u64 {
        self.0.count()
    }
}
