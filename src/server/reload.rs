//! Takes a changed configuration, renewed certificates and rotated sealing keys over without a restart.
//!
//! A reload ([`Reload::run`], at SIGHUP and by `uproar reload`) is all or nothing: everything that can fail is done first, by
//! [`prepare`], which reads, checks and builds; then [`Reload`] swaps, which cannot fail. A fault, or a changed key
//! that no running server can take over, changes nothing.
//!
//! Sealing keys and certificates are also looked at every second and compared by content ([`files`]). A file that
//! cannot be read, or a certificate whose key has not arrived yet, changes nothing: the current one stays, and the
//! log says so.

mod files;
mod metrics;
mod outcome;
mod prepare;

use std::convert::Infallible;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use self::files::{Files, SealingKeys};
use self::prepare::{Prepared, prepare};
use super::certificate::Reminder;
use super::demo::Demo;
use super::notify::Notifier;
use super::tls::LiveCertificate;
use crate::clock::Clock;
use crate::config::Running;
use crate::control::{Control, ControlChange};
use crate::durable::Watched;
use crate::logging;
use crate::shard::handshake::LiveKeyring;
use crate::supervisor::blocking;

pub(super) use self::metrics::Reloads;
pub(super) use self::outcome::{Changed, Refused};

/// Interval of the looks at the files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Reloads of one server. One at a time: a second one begins when the first has ended.
pub(super) struct Reload {
    state: Mutex<State>,
    reloads: Arc<Reloads>,
}

/// What takes changed settings over.
pub(super) struct Live {
    pub(super) control: Rc<Control>,
    pub(super) keyring: LiveKeyring,
    pub(super) certificate: Option<Arc<LiveCertificate>>,
    pub(super) notifier: Notifier,
    // The demo page, which makes tokens of its own.
    pub(super) pages: Option<Arc<Demo>>,
}

struct State {
    data_dir: PathBuf,
    running: Running,
    live: Live,
    sealing_keys: Files<1>,
    certificate: Option<Files<2>>,
    reminder: Reminder,
}

impl Reload {
    /// Starts from the configuration that the server has, and from the files' state when they were read.
    pub(super) fn new(
        (running, data_dir): (Running, PathBuf),
        live: Live,
        keyring_file: Watched<1>,
        reloads: Arc<Reloads>,
    ) -> Self {
        let watched = live.certificate.as_ref();
        let watched = watched.and_then(|certificate| certificate.watched());
        let state = State {
            data_dir,
            running,
            live,
            sealing_keys: Files::new("sealing keys", keyring_file),
            certificate: watched.map(|files| Files::new("certificate", files)),
            reminder: Reminder::default(),
        };
        Self {
            state: Mutex::new(state),
            reloads,
        }
    }

    /// Reads the configuration and its files again, and takes all of it over or nothing. Counts and logs the outcome.
    ///
    /// # Errors
    ///
    /// Why nothing has changed.
    ///
    /// # Cancel safety
    ///
    /// Nothing has changed, or everything.
    pub(super) async fn run(&self) -> Result<Changed, Refused> {
        let mut state = self.state.lock().await;
        state.live.notifier.reloading();
        let outcome = state.run().await;
        state.live.notifier.ready();
        self.reloads.count(&outcome);
        match &outcome {
            Ok(changed) => changed.log(),
            Err(refused) => tracing::error!(error = %refused, "nothing is reloaded"),
        }
        outcome
    }

    /// Looks at the files as long as the server runs.
    pub(super) async fn watch(&self, clock: Clock) -> Infallible {
        loop {
            let mut state = self.state.lock().await;
            state.check(&self.reloads);
            state.warn_of_expiry(clock);
            drop(state);
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }
}

impl State {
    async fn run(&mut self) -> Result<Changed, Refused> {
        let (running, data_dir) = (self.running.clone(), self.data_dir.clone());
        let certificate = self.live.certificate.clone();
        // On a blocking thread: a disk that stalls delays nobody's call.
        let prepared = blocking(move || Ok(prepare(&running, &data_dir, certificate.as_deref())));
        let prepared = prepared.await.map_err(Refused::Broken)??;
        Ok(self.take(prepared))
    }

    /// Swaps. Nothing here fails.
    fn take(&mut self, prepared: Prepared) -> Changed {
        let Prepared {
            reread,
            keys,
            filter,
            sealing_keys,
            certified,
        } = prepared;
        self.take_sealing_keys(sealing_keys);
        if let Some((certificate, (certified, watched))) =
            self.live.certificate.as_ref().zip(certified)
        {
            certificate.present(certified);
            if let Some(files) = &mut self.certificate {
                files.took(watched);
            }
        }
        let settings = &reread.settings;
        self.live.control.adopt(ControlChange {
            keys,
            rates: settings.api_rates.clone(),
            token_life: settings.token_life,
        });
        if let Some(pages) = &self.live.pages {
            pages.set_token_life(settings.token_life);
        }
        logging::set_filter(filter);
        let changed = Changed {
            changes: reread.changes.clone(),
        };
        self.running.took(reread);
        changed
    }

    fn take_sealing_keys(&mut self, SealingKeys { ring, watched }: SealingKeys) {
        self.live.keyring.store(Arc::new(ring));
        self.sealing_keys.took(watched);
    }

    /// Takes over the files that have changed, each on its own.
    fn check(&mut self, reloads: &Reloads) {
        if self.sealing_keys.changed() {
            match SealingKeys::read(&self.data_dir) {
                Ok(keys) => {
                    self.take_sealing_keys(keys);
                    self.sealing_keys.done(reloads);
                }
                Err(error) => self.sealing_keys.failed(&error, reloads),
            }
        }
        let certificate = self.live.certificate.as_ref();
        if let Some((certificate, files)) = certificate.zip(self.certificate.as_mut())
            && files.changed()
        {
            match certificate.read() {
                Ok(Some((certified, _watched))) => {
                    certificate.present(certified);
                    files.done(reloads);
                }
                Ok(None) => {}
                Err(error) => files.failed(&error, reloads),
            }
        }
    }

    /// Logs the warnings about the certificate's dates.
    fn warn_of_expiry(&mut self, clock: Clock) {
        let Some(certificate) = &self.live.certificate else {
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
}
