//! What a program without the feature says.

use std::time::Duration;

use super::bucket::Bucket;
use super::fault::ClusterFault;
use super::settings::ClusterSettings;
use uproar_proto::token::KeyId;

/// Reaches no bucket.
///
/// # Errors
///
/// `NotBuilt`.
pub async fn open(_settings: &ClusterSettings) -> Result<Bucket, ClusterFault> {
    Err(ClusterFault::NotBuilt)
}

/// Makes nothing.
///
/// # Errors
///
/// `NotBuilt`.
pub async fn setup(_settings: &ClusterSettings) -> Result<(), ClusterFault> {
    Err(ClusterFault::NotBuilt)
}

/// Hears nobody.
///
/// # Errors
///
/// `NotBuilt`.
pub async fn await_key(
    _settings: &ClusterSettings,
    _key: KeyId,
    _within: Duration,
) -> Result<Vec<String>, ClusterFault> {
    Err(ClusterFault::NotBuilt)
}
