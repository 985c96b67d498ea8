//! What a running server takes over without a restart: sealing keys and certificates.
//!
//! Files are looked at every second and at SIGHUP. A file that cannot be read changes nothing: the
//! server goes on with what it has, and says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use super::tls::LiveCertificate;
use super::{StartError, load_keyring};
use crate::config::keyring_path;
use crate::shard::door::LiveKeyring;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What came of reloads.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    /// Appends `uproar_config_reloads_total`.
    pub(super) fn render(&self, out: &mut String) {
        use std::fmt::Write;
        let (done, failed) = (
            self.done.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        );
        let _infallible = write!(
            out,
            "# HELP uproar_config_reloads_total Sealing keys or certificates read again.\n\
             # TYPE uproar_config_reloads_total counter\n\
             uproar_config_reloads_total{{result=\"ok\"}} {done}\n\
             uproar_config_reloads_total{{result=\"error\"}} {failed}\n"
        );
    }
}

/// Looks after the files until it is dropped.
pub(super) struct Watch {
    data_dir: PathBuf,
    keyring: LiveKeyring,
    keys_seen: Option<SystemTime>,
    certificate: Option<Arc<LiveCertificate>>,
    certificate_seen: [Option<SystemTime>; 2],
    reloads: Arc<Reloads>,
}

impl Watch {
    /// Starts from the files as they were just read.
    pub(super) fn new(
        data_dir: &Path,
        keyring: LiveKeyring,
        certificate: Option<Arc<LiveCertificate>>,
        reloads: Arc<Reloads>,
    ) -> Self {
        Self {
            keys_seen: changed(&keyring_path(data_dir)),
            certificate_seen: certificate_times(certificate.as_deref()),
            data_dir: data_dir.to_owned(),
            keyring,
            certificate,
            reloads,
        }
    }

    /// Runs as long as the server does.
    pub(super) async fn run(mut self) -> Result<(), StartError> {
        let mut hangup = signal(SignalKind::hangup()).map_err(StartError::Runtime)?;
        loop {
            let forced = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
            };
            self.look(forced);
        }
    }

    fn look(&mut self, forced: bool) {
        let keys = changed(&keyring_path(&self.data_dir));
        if forced || keys != self.keys_seen {
            self.keys_seen = keys;
            let outcome = load_keyring(&self.data_dir);
            let outcome = outcome.map(|ring| self.keyring.store(Arc::new(ring)));
            self.note("sealing keys", outcome);
        }
        let times = certificate_times(self.certificate.as_deref());
        if let Some(certificate) = &self.certificate
            && (forced || times != self.certificate_seen)
        {
            self.certificate_seen = times;
            let outcome = certificate.reload();
            self.note("certificate", outcome);
        }
    }

    fn note(&self, what: &str, outcome: Result<(), StartError>) {
        match outcome {
            Ok(()) => {
                self.reloads.done.fetch_add(1, Ordering::Relaxed);
                tracing::info!(what, "reloaded");
            }
            Err(error) => {
                self.reloads.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(what, %error, "not reloaded: the old ones stay in use");
            }
        }
    }
}

fn certificate_times(certificate: Option<&LiveCertificate>) -> [Option<SystemTime>; 2] {
    certificate.map_or([None; 2], |certificate| certificate.files().map(changed))
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}
