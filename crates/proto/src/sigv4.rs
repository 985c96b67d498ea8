//! AWS Signature Version 4, the verifying side, for JSON services (contract §3.2); [`sign`] is the
//! other side.
//!
//! The canonical request is built from the received one: the path percent-encoded once more, the
//! query sorted, signed headers trimmed and joined, the body hashed here. Clients must sign `host`
//! (or, over HTTP/2, `:authority`), the time (`x-amz-date`, or `date` where there is none) and
//! every other `x-amz-*` header they send; credentials in the query and bodies declared unsigned
//! are refused, as the service always signs its body.

mod canonical;
mod key;
mod received;
pub mod sign;
#[cfg(test)]
mod tests;
mod time;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::base::clock::UnixTime;
use crate::base::limits::SIGNATURE_SKEW_MAX;

use canonical::Path;
pub use canonical::percent_decode;
use key::{ALGORITHM, Hex, hex};
pub use key::{Scope, SigningKey};
pub use received::{Received, SignatureFault};
use time::Signed;

/// The credentials that a request claims; they are unproven before [`Claim::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Access key id.
    pub key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    signed: Signed<'a>,
}

impl<'a> Claim<'a> {
    /// Reads the credentials of a request.
    pub fn read(received: &Received<'a>) -> Result<Self, SignatureFault> {
        use SignatureFault::Incomplete;
        let mut authorizations = received.all("authorization");
        let Some(authorization) = authorizations.next() else {
            // Presigned URLs carry their credentials in the query; the service accepts none.
            return Err(SignatureFault::Missing);
        };
        if authorizations.next().is_some() {
            return Err(Incomplete("Authorization appears twice"));
        }
        let authorization =
            std::str::from_utf8(authorization).map_err(|_| Incomplete("not text"))?;
        let parts = authorization
            .strip_prefix(ALGORITHM)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or(Incomplete("only AWS4-HMAC-SHA256 is accepted"))?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in parts.split(',') {
            let (name, value) = part
                .trim()
                .split_once('=')
                .ok_or(Incomplete("a part has no '='"))?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => return Err(Incomplete("an unknown part")),
            };
            if place.replace(value).is_some() {
                return Err(Incomplete("a part appears twice"));
            }
        }
        let credential = credential.ok_or(Incomplete("Credential is missing"))?;
        let signed_headers = signed_headers.ok_or(Incomplete("SignedHeaders is missing"))?;
        let signature = signature.ok_or(Incomplete("Signature is missing"))?;
        let mut scope = credential.rsplitn(5, '/');
        let (Some("aws4_request"), Some(service), Some(region), Some(date), Some(key_id)) = (
            scope.next(),
            scope.next(),
            scope.next(),
            scope.next(),
            scope.next(),
        ) else {
            let form = "Credential is not key/date/region/service/aws4_request";
            return Err(Incomplete(form));
        };
        let signed = Signed::find(received)?;
        Ok(Self {
            key_id,
            date,
            region,
            service,
            signed_headers,
            signature,
            signed,
        })
    }

    /// Returns the day the request was signed for, `yyyymmdd`.
    pub fn date(&self) -> &'a str {
        self.date
    }

    /// Verifies that the owner of `key` signed this request, for `scope`, at about `now`.
    pub fn verify(
        &self,
        received: &Received<'_>,
        scope: Scope<'_>,
        key: &SigningKey,
        now: UnixTime,
    ) -> Result<(), SignatureFault> {
        let time = self.applies(scope, now)?;
        self.covers(received)?;
        let payload_hash = payload_hash(received)?;
        let canonical =
            canonical::request(received, self.signed_headers, &payload_hash, Path::Escaped);
        let own = Scope {
            region: self.region,
            service: self.service,
        };
        let expected = key.sign(&canonical, &time, self.date, own);
        let equal = expected.as_bytes().ct_eq(self.signature.as_bytes());
        if bool::from(equal) {
            Ok(())
        } else {
            Err(SignatureFault::Mismatch)
        }
    }

    /// Returns the claimed time of signing, `yyyymmddThhmmssZ`, if scope and time fit.
    pub fn applies(&self, scope: Scope<'_>, now: UnixTime) -> Result<String, SignatureFault> {
        use SignatureFault::Invalid;
        if self.region != scope.region {
            return Err(Invalid("another region; see the region setting"));
        }
        if self.service != scope.service {
            return Err(Invalid("another service than ivschat"));
        }
        let signed_at = self.signed.at()?;
        let time = time::text(signed_at);
        if time.get(..8) != Some(self.date) {
            return Err(Invalid("credential date and signing time differ"));
        }
        if now.since(signed_at).max(signed_at.since(now)) > SIGNATURE_SKEW_MAX {
            return Err(Invalid(
                "signed more than 5 minutes from this server's time",
            ));
        }
        Ok(time)
    }

    /// Checks that every part that decides about the request is signed.
    fn covers(&self, received: &Received<'_>) -> Result<(), SignatureFault> {
        use SignatureFault::{Incomplete, Invalid};
        let mut names = self.signed_headers.split(';');
        if !names.clone().is_sorted_by(|a, b| a < b) {
            return Err(Incomplete("SignedHeaders are not sorted"));
        }
        if names
            .clone()
            .any(|name| received.all(name).next().is_none())
        {
            return Err(Invalid("a signed header was not received"));
        }
        if !names.any(|name| matches!(name, "host" | ":authority")) {
            return Err(Invalid("host (HTTP/2: :authority) must be signed"));
        }
        let is_signed = |name: &str| self.signed_headers.split(';').any(|other| other == name);
        let mut names = received.headers.iter().map(|(name, _)| *name);
        if names.any(|name| name.starts_with("x-amz-") && !is_signed(name)) {
            return Err(Invalid("every x-amz header must be signed"));
        }
        self.signed.must_be_under(self.signed_headers)
    }
}

/// Returns the hash of the body; a declared one must equal it.
fn payload_hash(received: &Received<'_>) -> Result<Hex, SignatureFault> {
    let computed = hex(&Sha256::digest(received.body).into());
    if received.all("x-amz-content-sha256").next().is_none() {
        return Ok(computed);
    }
    match received.one("x-amz-content-sha256") {
        Some(declared) if declared == computed.as_str() => Ok(computed),
        Some(declared) if declared.contains("UNSIGNED") || declared.contains("STREAMING") => Err(
            SignatureFault::Invalid("the body must be signed as a whole"),
        ),
        _ => Err(SignatureFault::Mismatch),
    }
}
