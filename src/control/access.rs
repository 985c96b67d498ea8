//! Access keys, and the proof that a request was made with one of them.
//!
//! Keys of the configuration have every right. Keys of the data directory have what they were given;
//! they are read again when the file changed, so that a key is good once `uproar keys create` printed
//! it, and refused within [`ACCESS_KEYS_CHECK`] of `uproar keys revoke`.

pub mod grant;
pub mod keyfile;
mod private;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::arn::Realm;
use crate::base::clock::{Now, Tick};
use crate::base::limits::ACCESS_KEYS_CHECK;
use crate::durable::Watched;
use crate::protocol::sigv4::{Claim, Received, Scope, SignatureFault, SigningKey};
use grant::Grant;
use keyfile::{KeyFile, KeyFileError};

/// The service's signing name.
const SERVICE: &str = "ivschat";

/// An access key.
#[derive(Clone)]
pub struct AccessKey {
    /// Public part.
    pub id: String,
    /// Secret part.
    pub secret: Zeroizing<String>,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessKey({})", self.id)
    }
}

/// Who made a request.
#[derive(Debug)]
pub struct Caller {
    key: AccessKey,
    /// Rights.
    pub grant: Grant,
    // Of the last day a request was signed for.
    signing: RefCell<Option<(String, SigningKey)>>,
}

impl Caller {
    pub(super) fn new(key: AccessKey, grant: Grant) -> Rc<Self> {
        let signing = RefCell::default();
        Rc::new(Self {
            key,
            grant,
            signing,
        })
    }

    /// Access key id.
    pub fn id(&self) -> &str {
        &self.key.id
    }

    /// Deriving costs five HMACs, and is done once a day.
    fn signing_key(&self, date: &str, scope: Scope<'_>) -> SigningKey {
        let mut kept = self.signing.borrow_mut();
        if let Some((_, key)) = kept.as_ref().filter(|(day, _)| day == date) {
            return key.clone();
        }
        let key = SigningKey::derive(&self.key.secret, date, scope);
        *kept = Some((date.to_owned(), key.clone()));
        key
    }
}

type Callers = HashMap<String, Rc<Caller>>;

/// All access keys.
#[derive(Debug)]
pub struct Keys {
    configured: Callers,
    file: KeyFile,
    stored: RefCell<Callers>,
    watched: RefCell<Watched<1>>,
    checked: Cell<Tick>,
    // Why the file's keys are not in use; said once.
    complaint: RefCell<Option<String>>,
}

impl Keys {
    /// Those of the configuration and those of the data directory.
    pub fn load(
        configured: impl IntoIterator<Item = AccessKey>,
        file: KeyFile,
    ) -> Result<Self, KeyFileError> {
        let of_config = configured.into_iter();
        let keys = Self {
            configured: callers(of_config.map(|key| (key, Grant::ALL))),
            watched: RefCell::new(file.watched()),
            stored: RefCell::new(callers(file.open()?)),
            checked: Cell::default(),
            complaint: RefCell::default(),
            file,
        };
        Ok(keys)
    }

    /// Who a request claims to come from; to be proven with its body.
    pub fn claim<'a>(
        &self,
        received: &Received<'a>,
        realm: &Realm,
        now: Now,
    ) -> Result<Claimed<'a>, SignatureFault> {
        let claim = Claim::read(received)?;
        let caller = self.find(claim.key_id, now.tick);
        let caller = caller.ok_or(SignatureFault::UnknownKey)?;
        claim.applies(scope(realm), now.unix)?;
        Ok(Claimed { claim, caller })
    }

    fn find(&self, id: &str, now: Tick) -> Option<Rc<Caller>> {
        if let Some(caller) = self.configured.get(id) {
            return Some(Rc::clone(caller));
        }
        // A key nobody knows may be newer than the last look; strangers cost a glance, not a look.
        let known = self.stored.borrow().contains_key(id);
        let due = now.since(self.checked.get()) >= ACCESS_KEYS_CHECK;
        if due || (!known && self.watched.borrow().touched()) {
            self.checked.set(now);
            self.refresh();
        }
        self.stored.borrow().get(id).map(Rc::clone)
    }

    fn refresh(&self) {
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
                // Its mode or the master key may be at fault, and mended without a change of this file.
                watched.not_taken();
                let complaint = Some(error.to_string());
                if self.complaint.replace(complaint.clone()) != complaint {
                    tracing::error!(%error, "access keys stay as they were");
                }
            }
        }
    }
}

/// A claim of one of our keys, for here and now, not yet proven.
#[derive(Debug)]
pub struct Claimed<'a> {
    claim: Claim<'a>,
    caller: Rc<Caller>,
}

impl Claimed<'_> {
    /// Who signed the request.
    pub fn prove(
        self,
        received: &Received<'_>,
        realm: &Realm,
        now: Now,
    ) -> Result<Rc<Caller>, SignatureFault> {
        let scope = scope(realm);
        let key = self.caller.signing_key(self.claim.date(), scope);
        self.claim.verify(received, scope, &key, now.unix)?;
        Ok(self.caller)
    }
}

fn scope(realm: &Realm) -> Scope<'_> {
    Scope {
        region: &realm.region,
        service: SERVICE,
    }
}

fn callers(keys: impl IntoIterator<Item = (AccessKey, Grant)>) -> Callers {
    let caller = |(key, grant): (AccessKey, Grant)| (key.id.clone(), Caller::new(key, grant));
    keys.into_iter().map(caller).collect()
}
