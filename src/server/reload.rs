//! What a running server takes over without a restart: sealing keys and certificates.
//!
//! Files are read every second and at SIGHUP, and compared by what they hold: tools that renew them set
//! whatever times, names and links they like. A file that cannot be read, or a certificate whose key is
//! not there yet, changes nothing: the server goes on with what it has, and says so. At SIGHUP the
//! configuration is judged first: beside one that no start would accept, nothing is read again.

use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::signal::unix::Signal;

use super::certificate::Reminder;
use super::tls::LiveCertificate;
use super::{StartError, load_keyring};
use crate::base::limits::WATCHED_FILE_BYTES_MAX;
use crate::config::{Running, keyring_path};
use crate::shard::door::LiveKeyring;
use crate::shard::run::Clock;

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
    running: Running,
    keyring: LiveKeyring,
    keys_seen: Content,
    certificate: Option<Arc<LiveCertificate>>,
    certificate_seen: [Content; 2],
    reminder: Reminder,
    reloads: Arc<Reloads>,
}

impl Watch {
    /// Starts from the files as they were just read.
    pub(super) fn new(
        data_dir: &Path,
        running: Running,
        keyring: LiveKeyring,
        certificate: Option<Arc<LiveCertificate>>,
        reloads: Arc<Reloads>,
    ) -> Self {
        Self {
            keys_seen: content(&keyring_path(data_dir)),
            certificate_seen: certificate_content(certificate.as_deref()),
            data_dir: data_dir.to_owned(),
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
            self.remind(clock);
            let forced = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK_INTERVAL) => false,
            };
            if !forced || self.judge() {
                self.look(forced);
            }
        }
    }

    /// Whether a start would accept the configuration as it is now.
    fn judge(&self) -> bool {
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

    /// Says what an operator must know of the certificate's dates.
    fn remind(&mut self, clock: Clock) {
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

    fn look(&mut self, forced: bool) {
        let keys = content(&keyring_path(&self.data_dir));
        if forced || keys != self.keys_seen {
            self.keys_seen = keys;
            let outcome = load_keyring(&self.data_dir);
            let outcome = outcome.map(|ring| self.keyring.store(Arc::new(ring)));
            self.note("sealing keys", outcome);
        }
        let held = certificate_content(self.certificate.as_deref());
        let is_live = |certificate: &&Arc<LiveCertificate>| certificate.files().is_some();
        if let Some(certificate) = self.certificate.as_ref().filter(is_live)
            && (forced || held != self.certificate_seen)
        {
            self.certificate_seen = held;
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

/// What a file holds, as a hash; `None` if it cannot be read.
type Content = Option<[u8; 32]>;

fn certificate_content(certificate: Option<&LiveCertificate>) -> [Content; 2] {
    let files = certificate.and_then(LiveCertificate::files);
    files.map_or([None; 2], |files| files.map(content))
}

fn content(path: &Path) -> Content {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(WATCHED_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(Sha256::digest(&bytes).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Goal: a renewed file is noticed whatever tool wrote it: in place with its old time, by rename, by a
    /// link that points elsewhere as in Kubernetes; and a touched one is not.
    #[test]
    fn files_are_told_apart_by_what_they_hold() {
        let dir = std::env::temp_dir().join(format!("uproar-watch-{}", std::process::id()));
        fs::create_dir_all(dir.join("a")).expect("a directory");
        fs::create_dir_all(dir.join("b")).expect("a directory");
        let (path, time) = (dir.join("pem"), std::time::SystemTime::UNIX_EPOCH);
        let write = |path: &Path, text: &str| {
            fs::write(path, text).expect("written");
            let file = File::options().write(true).open(path).expect("opened");
            file.set_modified(time).expect("its time is set");
        };
        write(&path, "old");
        let old = content(&path);
        write(&path, "new");
        let new = content(&path);
        assert_ne!(old, new, "the same length and time");
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(std::time::SystemTime::now()))
            .expect("touched");
        assert_eq!(content(&path), new);
        write(&dir.join("a/pem"), "old");
        write(&dir.join("b/pem"), "new");
        let link = dir.join("link");
        for (target, expected) in [("a", old), ("b", new)] {
            let next = dir.join("next");
            std::os::unix::fs::symlink(dir.join(target), &next).expect("a link");
            fs::rename(&next, &link).expect("swapped");
            assert_eq!(content(&link.join("pem")), expected);
        }
        assert_eq!(content(&dir.join("none")), None);
        fs::remove_dir_all(&dir).expect("removed");
    }
}
