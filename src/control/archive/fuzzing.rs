//! An entry point for fuzz targets: a delivery, and the results of the answers to its requests.

use std::path::PathBuf;

use super::shipment::{Report, Shipment};
use super::upload::UploadRequest;
use super::verdict::{self, Outcome};
use crate::control::aws_client::Answered;
use uproar_proto::base::limits::LOG_RETRY_MAX;

/// A destination's service, which decides the form of its answers.
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
    /// The outcome of an answer to a request with `sent` records.
    pub fn verdict(self, answered: &Answered, sent: usize) -> Outcome {
        match self {
            Self::S3 => verdict::object(answered),
            Self::Logs => verdict::log_events(answered, sent),
            Self::Firehose => verdict::records(answered, sent),
        }
    }

    fn upload(self, indexes: Vec<usize>) -> UploadRequest {
        match self {
            // An object and a file of lines affect the queue alike.
            Self::S3 => UploadRequest::Lines {
                file: PathBuf::new(),
                indexes,
            },
            Self::Logs => UploadRequest::LogEvents {
                group: String::new(),
                stream: String::new(),
                indexes,
            },
            Self::Firehose => UploadRequest::Records {
                stream: String::new(),
                indexes,
            },
        }
    }
}

/// Records on their way to a destination.
#[derive(Debug)]
pub struct Delivery(Shipment);

/// The result of an answer, in records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Counted as delivered.
    pub delivered: u64,
    /// Counted as acknowledged but never accepted.
    pub rejected: u64,
    /// Dropped, since no request with them is accepted.
    pub refused: u64,
}

impl Delivery {
    /// A delivery of this many records, `each` per request.
    pub fn new(service: Service, records: usize, each: usize) -> Self {
        let all: Vec<usize> = (0..records).collect();
        let uploads = all
            .chunks(each)
            .map(|indexes| service.upload(indexes.to_vec()));
        Self(Shipment::new(uploads.collect(), 0))
    }

    /// The records of the next request; `None` if there is none left.
    pub fn next(&self) -> Option<Vec<usize>> {
        self.0.next().map(|upload| upload.indexes().to_vec())
    }

    /// Applies the answer to that request. `others_wait`: records wait in the spool behind these.
    pub fn answered(&mut self, outcome: Outcome, others_wait: bool) -> Counts {
        self.0.set_others_wait(others_wait);
        let Report {
            delivered,
            rejected,
            refused,
            pause,
            ..
        } = self.0.answered(outcome);
        assert!(pause.is_none_or(|pause| !pause.is_zero() && pause <= LOG_RETRY_MAX));
        Counts {
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
