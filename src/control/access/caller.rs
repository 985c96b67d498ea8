//! An access key and the caller that it authenticates.

use std::cell::RefCell;
use std::rc::Rc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::grant::Grant;
use uproar_proto::sigv4::{Scope, SigningKey};

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

/// The authenticated caller of a request.
#[derive(Debug)]
pub struct Caller {
    key: AccessKey,
    /// The key's rights.
    pub grant: Grant,
    // The key of the last day a request was signed for.
    signing: RefCell<Option<(String, SigningKey)>>,
}

impl Caller {
    pub(in crate::control) fn new(key: AccessKey, grant: Grant) -> Rc<Self> {
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

    /// Whether this is the key's secret, in a time that does not tell how much of it is right.
    pub(super) fn has_secret(&self, secret: &str) -> bool {
        // Hashes have one length.
        let [own, given] = [&*self.key.secret, secret].map(Sha256::digest);
        own.ct_eq(&given).into()
    }

    /// The signing key of a day, `YYYYMMDD`. Derivation costs five HMACs and is done once a day.
    pub(super) fn signing_key(&self, date: &str, scope: Scope<'_>) -> SigningKey {
        let mut cached = self.signing.borrow_mut();
        if let Some((_, key)) = cached.as_ref().filter(|(day, _)| day == date) {
            return key.clone();
        }
        let key = SigningKey::derive(&self.key.secret, date, scope);
        *cached = Some((date.to_owned(), key.clone()));
        key
    }
}
