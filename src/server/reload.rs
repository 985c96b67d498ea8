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

use tokio::sync::{mpsc, oneshot};

use super::admin::{Refusal, RefusalCode};
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

/// Requests reloads of the [`Watch`] that was made with it.
#[derive(Debug, Clone)]
pub(super) struct ReloadRequests(mpsc::Sender<Request>);

/// Where a requested reload's outcome goes.
type Request = oneshot::Sender<Result<Reloaded, Refusal>>;

/// What was read again.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Reloaded {
    reloaded: Vec<&'static str>,
}

impl ReloadRequests {
    /// Makes a way to request reloads, and where they arrive.
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Reads everything again: all of it, or the refusal says why nothing.
    pub(super) async fn run(&self) -> Result<Reloaded, Refusal> {
        let (answer, outcome) = oneshot::channel();
        let _ending = self.0.send(answer).await;
        let ending = |_| Refusal::new(RefusalCode::Failed, "the server is ending");
        outcome.await.map_err(ending)?
    }
}

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
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        clock: Clock,
    ) -> Infallible {
        loop {
            self.warn_of_expiry(clock);
            tokio::select! {
                Some(answer) = requests.recv() => {
                    // The caller may have gone; the log has the outcome.
                    let _gone = answer.send(self.reload());
                }
                () = tokio::time::sleep(CHECK_INTERVAL) => {
                    // It is logged.
                    let _complaint = self.check(false);
                }
            }
        }
    }

    /// Reads everything again, if a start would accept the configuration as it is now.
    fn reload(&mut self) -> Result<Reloaded, Refusal> {
        self.check_configuration()
            .and_then(|()| self.check(true))
            .map_err(|error| Refusal::new(RefusalCode::Refused, error))
    }

    /// Whether a start would accept the configuration as it is now.
    fn check_configuration(&self) -> Result<(), String> {
        match self.running.changed() {
            Ok(changed) if changed.is_empty() => Ok(()),
            Ok(changed) => {
                let changed = changed.join(", ");
                tracing::warn!(
                    changed,
                    "configuration not reloaded: these keys count from the next start"
                );
                Ok(())
            }
            Err(error) => {
                let counted = &self.reloads.failed;
                counted.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%error, "nothing is reloaded: no start would accept the configuration");
                Err(error.to_string())
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

    /// Reads what has changed, and with `forced` everything; returns what, or why some of it is not in use.
    fn check(&mut self, forced: bool) -> Result<Reloaded, String> {
        let mut outcomes = vec![self.keys.check(forced, &self.reloads, || {
            let ring = load_keyring(&self.data_dir)?;
            self.keyring.store(Arc::new(ring));
            Ok(())
        })];
        if let Some((certificate, files)) = self
            .certificate
            .as_ref()
            .zip(self.certificate_files.as_mut())
        {
            outcomes.push(files.check(forced, &self.reloads, || certificate.reload()));
        }
        let outcomes = outcomes.into_iter().flatten();
        let reloaded = outcomes.collect::<Result<_, _>>()?;
        Ok(Reloaded { reloaded })
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

    /// Reloads the files if they changed, and returns what they are.
    fn check(
        &mut self,
        forced: bool,
        reloads: &Reloads,
        reload: impl FnOnce() -> Result<(), StartError>,
    ) -> Option<Result<&'static str, String>> {
        if !self.files.changed() && !forced {
            return None;
        }
        let what = self.what;
        match reload() {
            Ok(()) => {
                self.complaint = None;
                reloads.done.fetch_add(1, Ordering::Relaxed);
                tracing::info!(what, "reloaded");
                Some(Ok(what))
            }
            Err(error) => {
                reloads.failed.fetch_add(1, Ordering::Relaxed);
                let complaint = Some(error.to_string());
                if forced || complaint != self.complaint {
                    tracing::warn!(what, %error, "not reloaded: the old ones stay in use");
                }
                self.complaint = complaint;
                Some(Err(format!("{what}: {error}")))
            }
        }
    }
}
