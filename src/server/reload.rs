//! Reloads sealing keys and certificates without a restart.
//!
//! Files are checked every second and at SIGHUP, and compared by content ([`Watched`]). A file that cannot be read,
//! or a certificate whose key has not arrived yet, changes nothing: the server keeps its current one, and logs it.
//! At SIGHUP the configuration is checked first: if no start would accept it, nothing is reloaded.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::signal::unix::Signal;

use super::certificate::Reminder;
use super::tls::LiveCertificate;
use super::{StartError, load_keyring};
use crate::clock::Clock;
use crate::config::Running;
use crate::durable::Watched;
use crate::exposition::{Exposition, Family};
use crate::shard::handshake::LiveKeyring;

/// Interval of the checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Counters of reloads.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    done: AtomicU64,
    failed: AtomicU64,
}

impl Reloads {
    /// Adds them to `/metrics`.
    pub(super) fn render(&self, page: &mut Exposition) {
        let mut reloads = page.family(&RELOADS);
        for (result, count) in [("ok", &self.done), ("error", &self.failed)] {
            reloads.add(&[("result", result)], count.load(Ordering::Relaxed));
        }
    }
}

const RELOADS: Family = Family::counter(
    "uproar_config_reloads_total",
    "Times sealing keys or a certificate were read again, by result.",
);

/// Watches the files until it is dropped.
pub(super) struct Watch {
    data_dir: PathBuf,
    running: Running,
    keyring: LiveKeyring,
    keys: WatchedFiles<1>,
    certificate: Option<Arc<LiveCertificate>>,
    certificate_files: Option<WatchedFiles<2>>,
    reminder: Reminder,
    reloads: Arc<Reloads>,
}

impl Watch {
    /// Starts from the files' state when they were read.
    pub(super) fn new(
        data_dir: PathBuf,
        running: Running,
        (keyring, keyring_file): (LiveKeyring, Watched<1>),
        certificate: Option<Arc<LiveCertificate>>,
        reloads: Arc<Reloads>,
    ) -> Self {
        Self {
            keys: WatchedFiles::new("sealing keys", keyring_file),
            certificate_files: certificate
                .as_ref()
                .and_then(|certificate| certificate.watched())
                .map(|files| WatchedFiles::new("certificate", files)),
            data_dir,
            running,
            keyring,
            certificate,
            reminder: Reminder::default(),
            reloads,
        }
    }

    /// Runs as long as the server does.
    pub(super) async fn run(mut self, mut hangup: Signal, clock: Clock) -> Infallible {
        loop {
            self.warn_of_expiry(clock);
            let forced = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(CHECK_INTERVAL) => false,
            };
            if !forced || self.check_configuration() {
                self.check(forced);
            }
        }
    }

    /// Whether a start would accept the configuration as it is now.
    fn check_configuration(&self) -> bool {
        match self.running.changed() {
            Ok(changed) if changed.is_empty() => true,
            Ok(changed) => {
                let changed = changed.join(", ");
                tracing::warn!(
                    changed,
                    "configuration not reloaded: these keys count from the next start"
                );
                true
            }
            Err(error) => {
                let counted = &self.reloads.failed;
                counted.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "nothing is reloaded: no start would accept the configuration");
                false
            }
        }
    }

    /// Logs the warnings about the certificate's dates.
    fn warn_of_expiry(&mut self, clock: Clock) {
        let Some(certificate) = &self.certificate else {
            return;
        };
        let read = certificate.validity();
        if let Some(warning) = self.reminder.due(read, clock.now()) {
            let file = certificate
                .files()
                .map(|[path, _]| tracing::field::display(path.display()));
            tracing::warn!(file, "TLS: {warning}");
        }
    }

    fn check(&mut self, forced: bool) {
        self.keys.check(forced, &self.reloads, || {
            let ring = load_keyring(&self.data_dir)?;
            self.keyring.store(Arc::new(ring));
            Ok(())
        });
        if let Some((certificate, files)) = self
            .certificate
            .as_ref()
            .zip(self.certificate_files.as_mut())
        {
            files.check(forced, &self.reloads, || certificate.reload());
        }
    }
}

/// Files and the last error about them.
struct WatchedFiles<const N: usize> {
    what: &'static str,
    files: Watched<N>,
    // Why they are not in use. A renewal in progress repeats one reason; it is logged once.
    complaint: Option<String>,
}

impl<const N: usize> WatchedFiles<N> {
    fn new(what: &'static str, files: Watched<N>) -> Self {
        Self {
            what,
            files,
            complaint: None,
        }
    }

    /// Reloads the files if they changed.
    fn check(
        &mut self,
        forced: bool,
        reloads: &Reloads,
        reload: impl FnOnce() -> Result<(), StartError>,
    ) {
        if !self.files.changed() && !forced {
            return;
        }
        let what = self.what;
        match reload() {
            Ok(()) => {
                self.complaint = None;
                reloads.done.fetch_add(1, Ordering::Relaxed);
                tracing::info!(what, "reloaded");
            }
            Err(error) => {
                reloads.failed.fetch_add(1, Ordering::Relaxed);
                let complaint = Some(error.to_string());
                if forced || complaint != self.complaint {
                    tracing::warn!(what, %error, "not reloaded: the old ones stay in use");
                }
                self.complaint = complaint;
            }
        }
    }
}
