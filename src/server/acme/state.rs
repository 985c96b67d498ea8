//! What is kept of orders in the data directory: the account, the certificate with its key, the next attempt.
//!
//! Each is one file that is replaced as a whole, readable by the server's user alone. A damaged one is as if it were missing:
//! an account is made again, a certificate is ordered again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock;
use crate::config::AcmeSettings;
use crate::durable::{self, Access, Owner, Survives};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::ACME_RETRY_AFTER_MAX;

/// Where it is kept. Its methods block.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    dir: PathBuf,
    account: PathBuf,
    certificate: PathBuf,
    attempt: PathBuf,
    // Tells whether an attempt was one at the same names and the same authority.
    subject: String,
}

/// When the next attempt may be made, for the next process.
#[derive(Debug, Serialize, Deserialize)]
struct Attempt {
    subject: String,
    failures: u32,
    next: u64,
}

impl Kept {
    pub(super) fn of(settings: &AcmeSettings) -> Self {
        let dir = settings.state_dir.clone();
        // Accounts are an authority's own; who tries another one comes back to the old account.
        let authority = fingerprint(&settings.directory);
        let account = settings.account.as_ref().map(|account| &account.id);
        let subject = fingerprint(&format!(
            "{}\n{:?}\n{}\n{:?}\n{account:?}",
            settings.directory,
            settings.challenge,
            settings.domains.join(" "),
            settings.contact,
        ));
        Self {
            account: dir.join(format!("account-{authority}.json")),
            certificate: settings.certificate(),
            attempt: dir.join("attempt.json"),
            dir,
            subject,
        }
    }

    /// The right to order, unless another process has it.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        durable::private_directory()
            .recursive(true)
            .create(&self.dir)?;
        durable::try_lock(&self.dir.join("lock"), Owner::Directory)
    }

    /// The account, if there is one that can be read.
    pub(super) fn account(&self) -> Option<AccountCredentials> {
        let text = Zeroizing::new(fs::read(&self.account).ok()?);
        let account = serde_json::from_slice(&text);
        account
            .inspect_err(|error| {
                let path = self.account.display();
                tracing::warn!(%path, %error, "TLS: the account at the authority cannot be read; another one is made");
            })
            .ok()
    }

    pub(super) fn keep_account(&self, account: &AccountCredentials) -> io::Result<()> {
        let text = Zeroizing::new(serde_json::to_vec(account)?);
        keep(&self.account, &text)
    }

    /// The authority does not know it any more.
    pub(super) fn forget_account(&self) -> io::Result<()> {
        durable::remove(&self.account)
    }

    pub(super) fn keep_certificate(&self, pem: &[u8]) -> io::Result<()> {
        keep(&self.certificate, pem)
    }

    /// Notes a failed attempt, or one that begins; the next one may be made after `wait`. Also tells whether the disk takes
    /// anything, before the authority is asked for what could not be kept.
    pub(super) fn note(&self, failures: u32, now: UnixTime, wait: Duration) -> io::Result<()> {
        let attempt = Attempt {
            subject: self.subject.clone(),
            failures,
            next: now.after(wait).secs(),
        };
        keep(&self.attempt, &serde_json::to_vec(&attempt)?)
    }

    /// How many attempts have failed, and how long to wait with the next one. A clock that was wrong delays it by a day at
    /// most; other names or another authority by nothing.
    pub(super) fn attempts(&self, now: UnixTime) -> (u32, Duration) {
        let attempt = fs::read(&self.attempt).ok();
        let attempt = attempt.and_then(|text| serde_json::from_slice::<Attempt>(&text).ok());
        match attempt.filter(|attempt| attempt.subject == self.subject) {
            Some(attempt) => {
                let wait = UnixTime::from_secs(attempt.next.min(u64::from(u32::MAX))).since(now);
                (attempt.failures, wait.min(ACME_RETRY_AFTER_MAX))
            }
            None => (0, Duration::ZERO),
        }
    }

    /// For messages.
    pub(super) fn attempt_file(&self) -> &Path {
        &self.attempt
    }
}

/// What `uproar config check` says: the server's last orders have failed.
pub(in crate::server) fn warning(settings: &AcmeSettings) -> Option<String> {
    let (failures, _wait) = Kept::of(settings).attempts(clock::unix_now());
    (failures > 0).then(|| {
        let names = settings.domains.join(", ");
        format!("tls.acme_domains: the last {failures} orders of a certificate for {names} have failed; the log says why")
    })
}

fn keep(path: &Path, content: &[u8]) -> io::Result<()> {
    durable::replace(
        path,
        content,
        Access::PRIVATE_TO_DIRECTORY,
        Survives::PowerLoss,
    )
}

/// Sixteen digits that tell texts apart.
fn fingerprint(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let number = digest
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AcmeChallenge;
    use crate::durable::faults::Scratch;
    use std::os::unix::fs::PermissionsExt as _;

    fn settings(dir: &Path, domain: &str) -> AcmeSettings {
        AcmeSettings {
            domains: vec![domain.to_owned()],
            directory: "https://authority.example/dir".to_owned(),
            contact: Vec::new(),
            challenge: AcmeChallenge::TlsAlpn01,
            http_listen: "127.0.0.1:80".parse().expect("an address"),
            root: None,
            account: None,
            state_dir: dir.join("acme"),
        }
    }

    /// Goal: a restart waits as long as the process before it would have, unless it is about other names; a clock that was
    /// years ahead delays by a day; a damaged file by nothing. One process orders at a time, and files are private.
    #[test]
    fn attempts_are_remembered() {
        let scratch = Scratch::new();
        let (kept, other) = (
            Kept::of(&settings(&scratch.0, "a.example")),
            Kept::of(&settings(&scratch.0, "b.example")),
        );
        let lock = kept.lock().expect("locked").expect("free");
        assert!(
            other.lock().expect("tried").is_none(),
            "held by another one"
        );
        let (now, wait) = (UnixTime::from_secs(1_000_000), Duration::from_mins(7));
        assert_eq!(kept.attempts(now), (0, Duration::ZERO));
        kept.note(3, now, wait).expect("noted");
        assert_eq!(kept.attempts(now), (3, wait));
        assert_eq!(kept.attempts(now.after(wait * 2)), (3, Duration::ZERO));
        assert_eq!(other.attempts(now), (0, Duration::ZERO));
        assert_eq!(
            kept.attempts(UnixTime::from_secs(0)),
            (3, ACME_RETRY_AFTER_MAX)
        );
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&kept.attempt), mode(&kept.dir)), (0o600, 0o700));
        fs::write(&kept.attempt, "{\"subject\":").expect("written");
        assert_eq!(kept.attempts(now), (0, Duration::ZERO));
        fs::write(&kept.account, "{").expect("written");
        assert!(kept.account().is_none());
        drop(lock);
        assert!(other.lock().expect("tried").is_some());
    }
}
