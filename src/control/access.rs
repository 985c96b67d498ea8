//! Access keys, and the proof that a request was made with one of them.

use std::cell::RefCell;
use std::collections::HashMap;

use zeroize::Zeroizing;

use super::arn::Realm;
use crate::base::clock::UnixTime;
use crate::protocol::sigv4::{Claim, Received, Scope, SignatureFault, SigningKey};

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

/// All access keys. The signing key of each key's current day is kept.
#[derive(Debug, Default)]
pub struct Keys {
    secrets: HashMap<String, Zeroizing<String>>,
    derived: RefCell<HashMap<String, (String, SigningKey)>>,
}

impl Keys {
    /// From the configuration.
    pub fn new(keys: impl IntoIterator<Item = AccessKey>) -> Self {
        let secrets = keys.into_iter().map(|key| (key.id, key.secret)).collect();
        Self {
            secrets,
            derived: RefCell::default(),
        }
    }

    /// The id of the key that signed the request.
    pub fn authenticate<'a>(
        &self,
        received: &Received<'a>,
        realm: &Realm,
        now: UnixTime,
    ) -> Result<&'a str, SignatureFault> {
        let claim = Claim::read(received)?;
        let scope = Scope {
            region: &realm.region,
            service: SERVICE,
        };
        let secret = self
            .secrets
            .get(claim.key_id)
            .ok_or(SignatureFault::UnknownKey)?;
        let mut derived = self.derived.borrow_mut();
        let known = derived
            .get(claim.key_id)
            .filter(|(date, _)| date == claim.date());
        let key = if let Some((_, key)) = known {
            key.clone()
        } else {
            let key = SigningKey::derive(secret, claim.date(), scope);
            derived.insert(
                claim.key_id.to_owned(),
                (claim.date().to_owned(), key.clone()),
            );
            key
        };
        claim.verify(received, scope, &key, now)?;
        Ok(claim.key_id)
    }
}
