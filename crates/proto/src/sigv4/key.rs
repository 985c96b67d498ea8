//! Signing keys, and the one step that both sides share: signing a canonical request.

#![expect(
    clippy::indexing_slicing,
    reason = "chunks of two have two bytes; digits are four bits"
)]

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The only algorithm.
pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The region and service that requests must be signed for.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The region of this server.
    pub region: &'a str,
    /// The signing name of the service.
    pub service: &'a str,
}

/// A secret's signing key for one day, region and service (derivation costs five HMACs), ready to
/// sign.
#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Derives the key for the day `date` (`yyyymmdd`).
    pub fn derive(secret: &str, date: &str, scope: Scope<'_>) -> Self {
        let mut key = keyed(format!("AWS4{secret}").as_bytes());
        for part in [date, scope.region, scope.service, "aws4_request"] {
            key.update(part.as_bytes());
            key = keyed(&key.finalize().into_bytes());
        }
        Self(key)
    }

    /// Signs a canonical request.
    pub(super) fn sign(&self, canonical: &[u8], time: &str, date: &str, scope: Scope<'_>) -> Hex {
        let mut mac = self.0.clone();
        for part in [
            ALGORITHM,
            "\n",
            time,
            "\n",
            date,
            "/",
            scope.region,
            "/",
            scope.service,
            "/aws4_request\n",
            hex(&Sha256::digest(canonical).into()).as_str(),
        ] {
            mac.update(part.as_bytes());
        }
        hex(&mac.finalize().into_bytes().into())
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// A hash as hexadecimal text.
pub(super) struct Hex([u8; 64]);

impl Hex {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits")
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Writes a hash as hexadecimal text.
pub(super) fn hex(hash: &[u8; 32]) -> Hex {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(hash) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    Hex(text)
}
