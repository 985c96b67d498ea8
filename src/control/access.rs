//! Access keys, and the proof that a request was signed with one of them.
//!
//! Keys of the configuration have every right. Keys of the data directory have the rights they were
//! given; they are read again when the file changes, so that a key is valid once `uproar keys
//! create` has printed it, and refused within [`ACCESS_KEYS_CHECK`] of `uproar keys revoke`.

mod caller;
mod error;
pub mod grant;
pub mod keyfile;
mod private;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

pub use caller::{AccessKey, Caller};
pub use error::KeyFileError;

use super::arn::Account;
use crate::durable::Watched;
use grant::Grant;
use keyfile::KeyFile;
use uproar_proto::base::clock::{Now, Tick};
use uproar_proto::base::limits::ACCESS_KEYS_CHECK;
use uproar_proto::sigv4::{Claim, Received, Scope, SignatureFault};

/// The service's signing name.
const SERVICE: &str = "ivschat";

type Callers = HashMap<String, Rc<Caller>>;

/// All access keys.
#[derive(Debug)]
pub struct Keys {
    // Those of the configuration, with every right; they win over stored ones of the same id.
    configured: RefCell<Callers>,
    file: KeyFile,
    // Those of the file when it was last read without an error.
    stored: RefCell<Callers>,
    watched: RefCell<Watched<1>>,
    // When the file was last looked at.
    checked: Cell<Tick>,
    // Why the file's keys are not in use; logged once.
    complaint: RefCell<Option<String>>,
}

/// The keys of a configuration and those of its data directory, read and not in use yet.
#[derive(Debug)]
pub struct NewKeys {
    configured: Vec<AccessKey>,
    stored: Vec<(AccessKey, Grant)>,
    // From before the file was read, so that no change is missed.
    watched: Watched<1>,
}

impl NewKeys {
    /// Takes those of the configuration and reads those of the data directory.
    ///
    /// # Errors
    ///
    /// Those of [`KeyFile::open`].
    pub fn read(configured: Vec<AccessKey>, file: &KeyFile) -> Result<Self, KeyFileError> {
        let watched = file.watched();
        Ok(Self {
            configured,
            stored: file.open()?,
            watched,
        })
    }
}

impl Keys {
    /// The keys of the configuration and those of the data directory.
    pub fn load(
        configured: impl IntoIterator<Item = AccessKey>,
        file: KeyFile,
    ) -> Result<Self, KeyFileError> {
        let new = NewKeys::read(configured.into_iter().collect(), &file)?;
        let keys = Self {
            configured: RefCell::default(),
            watched: RefCell::new(new.watched.clone()),
            stored: RefCell::default(),
            checked: Cell::default(),
            complaint: RefCell::default(),
            file,
        };
        keys.adopt(new);
        Ok(keys)
    }

    /// Takes over keys that were read. Calls in progress end with the rights they began with.
    pub fn adopt(&self, new: NewKeys) {
        let of_config = new.configured.into_iter();
        self.configured
            .replace(callers(of_config.map(|key| (key, Grant::ALL))));
        self.stored.replace(callers(new.stored));
        self.watched.replace(new.watched);
        self.complaint.take();
    }

    /// The claimed caller of a request; to be proven with its body.
    pub fn claim<'a>(
        &self,
        received: &Received<'a>,
        account: &Account,
        now: Now,
    ) -> Result<Claimed<'a>, SignatureFault> {
        let claim = Claim::read(received)?;
        let caller = self.find(claim.key_id, now.tick);
        let caller = caller.ok_or(SignatureFault::UnknownKey)?;
        claim.applies(scope(account), now.unix)?;
        Ok(Claimed { claim, caller })
    }

    /// The caller whose id and secret a request has, `<key id>:<secret>`; in the time of a comparison alone.
    pub fn bearer(&self, credentials: &str, now: Now) -> Option<Rc<Caller>> {
        let (id, secret) = credentials.split_once(':')?;
        let caller = self.find(id, now.tick)?;
        caller.has_secret(secret).then_some(caller)
    }

    fn find(&self, id: &str, now: Tick) -> Option<Rc<Caller>> {
        if let Some(caller) = self.configured.borrow().get(id) {
            return Some(Rc::clone(caller));
        }
        // An unknown key may be newer than the last check; strangers cost one `stat`, not a read.
        let known = self.stored.borrow().contains_key(id);
        let due = now.since(self.checked.get()) >= ACCESS_KEYS_CHECK;
        if due || (!known && self.watched.borrow().touched()) {
            self.checked.set(now);
            self.refresh();
        }
        self.stored.borrow().get(id).map(Rc::clone)
    }

    /// Takes the file's keys over if it has changed.
    pub(super) fn refresh(&self) {
        let mut watched = self.watched.borrow_mut();
        if !watched.changed() {
            return;
        }
        match self.file.open() {
            Ok(keys) => {
                self.complaint.take();
                tracing::info!(count = keys.len(), "access keys read again");
                self.stored.replace(callers(keys));
            }
            Err(error) => {
                // Its mode or the master key may be at fault, and repaired without a change of this
                // file.
                watched.not_taken();
                let complaint = Some(error.to_string());
                if self.complaint.replace(complaint.clone()) != complaint {
                    tracing::error!(%error, "access keys stay as they were");
                }
            }
        }
    }
}

/// A claim of one of our keys, in scope and in time, not yet proven.
#[derive(Debug)]
pub struct Claimed<'a> {
    claim: Claim<'a>,
    caller: Rc<Caller>,
}

impl Claimed<'_> {
    /// Verifies the signature and returns the caller.
    pub fn prove(
        self,
        received: &Received<'_>,
        account: &Account,
        now: Now,
    ) -> Result<Rc<Caller>, SignatureFault> {
        let scope = scope(account);
        let key = self.caller.signing_key(self.claim.date(), scope);
        self.claim.verify(received, scope, &key, now.unix)?;
        Ok(self.caller)
    }
}

fn scope(account: &Account) -> Scope<'_> {
    Scope {
        region: &account.region,
        service: SERVICE,
    }
}

fn callers(keys: impl IntoIterator<Item = (AccessKey, Grant)>) -> Callers {
    let caller = |(key, grant): (AccessKey, Grant)| (key.id.clone(), Caller::new(key, grant));
    keys.into_iter().map(caller).collect()
}
