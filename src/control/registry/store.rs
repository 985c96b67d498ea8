//! A registry's database, and what both tell of themselves.

use super::Registry;
use super::replica::Standing;
use crate::control::store::{StoreError, StoreMetrics};
use crate::exposition::Exposition;

impl Registry {
    /// Adds the figures of a cluster's registry to `/metrics`.
    pub(in crate::control) fn render(&self, page: &mut Exposition) {
        if let Some(replica) = self.replica() {
            let is_current = replica.standing() == Standing::Current;
            replica.figures.render(page, is_current);
        }
    }

    /// Metrics of the store.
    pub fn store_metrics(&self) -> &StoreMetrics {
        self.store.metrics()
    }

    /// Closes the database once the requested writes are done; what is in memory stays.
    pub(in crate::control) async fn close_store(&self) -> Result<(), StoreError> {
        self.store.close().await
    }

    /// Opens the database again.
    pub(in crate::control) fn reopen_store(&self) {
        self.store.reopen();
    }
}
