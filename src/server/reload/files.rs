//! Files that are taken over when their content changes.

use std::path::Path;

use super::metrics::Reloads;
use crate::config::keyring_path;
use crate::durable::Watched;
use crate::server::{StartError, load_keyring};
use uproar_proto::token::Keyring;

/// The sealing keys, read and not in use yet.
pub(super) struct SealingKeys {
    pub(super) ring: Keyring,
    // From before they were read, so that no rotation is missed.
    pub(super) watched: Watched<1>,
}

impl SealingKeys {
    /// Reads those of a data directory.
    pub(super) fn read(data_dir: &Path) -> Result<Self, StartError> {
        let watched = Watched::new([keyring_path(data_dir)]);
        let ring = load_keyring(data_dir)?;
        Ok(Self { ring, watched })
    }
}

/// Files and the last error about them.
pub(super) struct Files<const N: usize> {
    what: &'static str,
    watched: Watched<N>,
    // Why they are not in use. A renewal in progress repeats one reason; it is logged once.
    complaint: Option<String>,
}

impl<const N: usize> Files<N> {
    pub(super) fn new(what: &'static str, watched: Watched<N>) -> Self {
        Self {
            what,
            watched,
            complaint: None,
        }
    }

    /// Whether their content has changed since the last look.
    pub(super) fn changed(&mut self) -> bool {
        self.watched.changed()
    }

    /// Notes that the files were taken over as they were when `watched` looked.
    pub(super) fn took(&mut self, watched: Watched<N>) {
        self.watched = watched;
        self.complaint = None;
    }

    /// Counts and logs that a changed content was taken over.
    pub(super) fn done(&mut self, reloads: &Reloads) {
        self.complaint = None;
        reloads.count(&Ok::<_, StartError>(()));
        tracing::info!(what = self.what, "reloaded");
    }

    /// Counts and logs that a changed content cannot be used.
    pub(super) fn failed(&mut self, error: &StartError, reloads: &Reloads) {
        reloads.count(&Err::<(), _>(error));
        let complaint = Some(error.to_string());
        if complaint != self.complaint {
            let what = self.what;
            tracing::warn!(what, %error, "not reloaded: the old ones stay in use");
        }
        self.complaint = complaint;
    }
}
