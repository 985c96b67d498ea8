//! Takes a changed configuration, renewed certificates and rotated sealing keys over without a restart.
//!
//! A reload ([`Reload::run`], at SIGHUP and by `uproar reload`) is all or nothing: everything that can fail is done first, by
//! [`mod@prepare`], which reads, checks and builds; then [`Reload`] swaps, which cannot fail. A fault, or a changed key
//! that no running server can take over, changes nothing.
//!
//! Sealing keys and certificates are also looked at every second and compared by content ([`files`]). A file that
//! cannot be read, or a certificate whose key has not arrived yet, changes nothing: the current one stays, and the
//! log says so.

mod files;
mod metrics;
mod outcome;
mod prepare;

use std::cell::Cell;
use std::convert::Infallible;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use self::files::{Files, SealingKeys};
use self::prepare::{Prepared, PreparedTls, Present, prepare};
use super::certificate::Reminder;
use super::demo::Demo;
use super::notify::Notifier;
use super::tls::{Listeners, LiveTls};
use crate::clock::Clock;
use crate::config::{Change, DrainSettings, Running};
use crate::control::archive::Archive;
use crate::control::review::Reviews;
use crate::control::{Control, ControlChange};
use crate::durable::Watched;
use crate::logging;
use crate::net::backend::Kind;
use crate::shard::command::ChangedSettings;
use crate::shard::gateway::Gateway;
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
    pub(super) tls: LiveTls,
    pub(super) gateway: Gateway,
    pub(super) io: Kind,
    pub(super) archive: Archive,
    pub(super) reviews: Rc<Reviews>,
    pub(super) notifier: Notifier,
    pub(super) drain: Rc<Cell<DrainSettings>>,
    // The demo page, which makes tokens of its own.
    pub(super) pages: Option<Arc<Demo>>,
}

struct State {
    data_dir: PathBuf,
    running: Running,
    live: Live,
    sealing_keys: Files<1>,
    certificates: Vec<WatchedCertificate>,
}

/// One of the listeners' certificates, as far as it is looked at.
#[derive(Default)]
struct WatchedCertificate {
    // `None`: it has no files.
    files: Option<Files<2>>,
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
        let certificates = watched_certificates(&live.tls.borrow());
        let state = State {
            data_dir,
            running,
            sealing_keys: Files::new("sealing keys", keyring_file),
            certificates,
            live,
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
        state.live.notifier.reloaded();
        self.reloads.count(&outcome);
        self.reloads.loaded(state.running.sha256());
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
            if let Some(tickets) = &state.live.tls.borrow().tickets {
                tickets.rotate(clock.now().tick);
            }
            drop(state);
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }
}

impl State {
    async fn run(&mut self) -> Result<Changed, Refused> {
        let present = Present {
            running: self.running.clone(),
            data_dir: self.data_dir.clone(),
            shards: self.live.gateway.shard_count(),
            io: self.live.io,
            tls: self.live.tls.borrow().clone(),
            token_life_max: self.live.control.token_life_max(),
        };
        // On a blocking thread: a disk that stalls delays nobody's call.
        let prepared = blocking(move || Ok(prepare(&present))).await;
        let prepared = prepared.map_err(Refused::Broken)??;
        let (changes, for_shards) = self.take(prepared);
        let late = self.live.gateway.adopt(for_shards).await;
        Ok(Changed { changes, late })
    }

    /// Swaps all but the shards' settings, which it returns with the changes. Nothing here fails.
    fn take(&mut self, prepared: Prepared) -> (Vec<Change>, ChangedSettings) {
        self.take_sealing_keys(prepared.sealing_keys);
        self.take_tls(prepared.tls);
        let (live, settings) = (&self.live, &prepared.reread.settings);
        live.control.adopt(ControlChange {
            keys: prepared.keys,
            rates: settings.api_rates.clone(),
            messages: settings.shard.message_rates(),
            metrics_rooms: settings.metrics_rooms,
            token_life: settings.token_life,
            admission: settings.control_admission.clone(),
            tls: live.tls.borrow().control.clone(),
        });
        live.drain.set(settings.drain);
        if let Some(change) = prepared.review {
            live.reviews.adopt(change);
        }
        if let Some(change) = prepared.archive {
            live.archive.adopt(change);
        }
        if let Some(pages) = &live.pages {
            pages.set_token_life(settings.token_life);
        }
        let for_shards = ChangedSettings {
            shard: settings.shard.clone(),
            handshake: live.tls.borrow().handshake_settings(settings),
        };
        let changes = prepared.reread.changes.clone();
        self.running.took(prepared.reread);
        // Last, so that the lines about it are chosen by the new one.
        logging::set_filter(prepared.filter);
        (changes, for_shards)
    }

    fn take_tls(&mut self, prepared: PreparedTls) {
        let mut tls = self.live.tls.borrow_mut();
        match prepared {
            PreparedTls::New(listeners) => {
                self.certificates = watched_certificates(&listeners);
                *tls = listeners;
            }
            PreparedTls::Same(read) => {
                let Some(certificates) = &tls.certificates else {
                    return;
                };
                for (place, (read, own)) in read.into_iter().zip(&mut self.certificates).enumerate()
                {
                    if let (Some((certified, watched)), Some(files)) = (read, &mut own.files) {
                        certificates.present(place, certified);
                        files.took(watched);
                    }
                }
            }
        }
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
        let tls = self.live.tls.borrow();
        let Some(certificates) = &tls.certificates else {
            return;
        };
        for (place, own) in self.certificates.iter_mut().enumerate() {
            let Some(files) = &mut own.files else {
                continue;
            };
            if !files.changed() {
                continue;
            }
            match certificates.read_again(place) {
                Ok(Some((certified, _watched))) => {
                    certificates.present(place, certified);
                    files.done(reloads);
                }
                Ok(None) => {}
                Err(error) => files.failed(&error, reloads),
            }
        }
    }

    /// Logs the warnings about the certificates' dates.
    fn warn_of_expiry(&mut self, clock: Clock) {
        let tls = self.live.tls.borrow();
        let Some(certificates) = &tls.certificates else {
            return;
        };
        for (place, own) in self.certificates.iter_mut().enumerate() {
            // Who waits for the first one says so itself.
            if certificates.current(place).is_none() {
                continue;
            }
            let read = certificates.validity(place);
            if let Some(warning) = own.reminder.due(read, clock.now()) {
                let file = certificates
                    .files(place)
                    .map(|[path, _]| tracing::field::display(path.display()));
                tracing::warn!(file, "TLS: {warning}");
            }
        }
    }
}

/// The listeners' certificates, each with its files.
fn watched_certificates(listeners: &Listeners) -> Vec<WatchedCertificate> {
    let Some(certificates) = &listeners.certificates else {
        return Vec::new();
    };
    let watched = |place| WatchedCertificate {
        files: certificates
            .watched(place)
            .map(|files| Files::new("certificate", files)),
        reminder: Reminder::default(),
    };
    (0..certificates.count()).map(watched).collect()
}
