//! How chat logs are kept and delivered.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::control::arn::Account;
use crate::control::aws_client::{AwsClient, Endpoint, LOGS};
use uproar_proto::sigv4::sign::Credentials;

/// How chat logs are kept and delivered.
#[derive(Debug, Clone)]
pub struct ArchiveSettings {
    /// Region and account: part of every key, and of every signature.
    pub account: Account,
    /// Directory of the spools, one subdirectory per configuration.
    pub spool: PathBuf,
    /// Directory for destinations without an endpoint.
    pub directory: PathBuf,
    /// Bound of each spool, in bytes.
    pub spool_bytes_max: u64,
    /// How long undelivered records are kept.
    pub age_max: Duration,
    /// Time covered by an object.
    pub window: Duration,
    /// How long records for streams are collected.
    pub linger: Duration,
    /// Object storage.
    pub s3: Option<Endpoint>,
    /// CloudWatch Logs.
    pub cloudwatch: Option<Endpoint>,
    /// Firehose.
    pub firehose: Option<Endpoint>,
    /// Credentials for the endpoints.
    pub credentials: Option<Credentials>,
}

impl ArchiveSettings {
    pub(super) fn window_ms(&self) -> u64 {
        u64::try_from(self.window.as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// Whether records go to other endpoints than by `other`, or with other credentials.
    pub(super) fn goes_elsewhere(&self, other: &Self) -> bool {
        let endpoints = |settings: &Self| {
            let Self {
                s3,
                cloudwatch,
                firehose,
                ..
            } = settings;
            [s3.clone(), cloudwatch.clone(), firehose.clone()]
        };
        endpoints(self) != endpoints(other) || self.credentials != other.credentials
    }

    /// The client for the endpoints; `None` without credentials.
    pub(super) fn client(&self) -> io::Result<Option<AwsClient>> {
        let Some(credentials) = self.credentials.clone() else {
            return Ok(None);
        };
        let endpoints = [&self.s3, &self.cloudwatch, &self.firehose];
        let secure = endpoints.into_iter().flatten().any(Endpoint::is_secure);
        AwsClient::new(LOGS, credentials, self.account.region.clone(), secure).map(Some)
    }
}
