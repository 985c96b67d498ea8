//! Why an import ends early.

use super::source::SourceError;
use crate::control::store::StoreError;

/// Why an import ends before its end. What was written stays, and the next one goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The other side.
    #[error("{0}")]
    Source(#[from] SourceError),
    /// What it said is no record.
    #[error("{0}")]
    Foreign(String),
    /// The database.
    #[error("the database: {0}")]
    Store(#[from] StoreError),
}
