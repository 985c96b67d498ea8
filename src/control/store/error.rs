//! Why storage failed.

/// Why storage failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused.
    #[error("database: {0}")]
    Database(Box<redb::Error>),
    /// A later version created it.
    #[error(
        "the database has schema {found}, this server knows up to {known}: use the version that wrote it"
    )]
    Schema {
        /// The file's schema.
        found: u64,
        /// The newest schema this server knows.
        known: u64,
    },
    /// A stored value cannot be read.
    #[error("{table} {id} cannot be read: {cause}")]
    Value {
        /// The table.
        table: &'static str,
        /// The record.
        id: String,
        /// The cause.
        cause: String,
    },
    /// The write did not happen; the reason is logged.
    #[error("the write failed")]
    Refused,
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}
