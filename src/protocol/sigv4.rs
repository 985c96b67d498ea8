//! AWS Signature Version 4, the verifying side, for JSON services.
//!
//! The canonical request is built from what was received: the path percent-encoded once more, the
//! query sorted, signed headers trimmed and joined, the body hashed here. Clients must sign `host`,
//! `x-amz-date` and every other `x-amz-*` header they send; credentials in the query and bodies
//! declared unsigned are refused, as the service always signs its body.

pub mod sign;

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::base::clock::UnixTime;
use crate::base::limits::SIGNATURE_SKEW_MAX;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A request as it came in.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// Path as on the wire, escapes untouched.
    pub path: &'a str,
    /// Query as on the wire, without `?`; empty if none.
    pub query: &'a str,
    /// Header names in lower case, with their values, in order.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The whole body.
    pub body: &'a [u8],
}

/// Where requests must be meant for.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Region of this server.
    pub region: &'a str,
    /// Signing name of the service.
    pub service: &'a str,
}

/// Why a request is not authentic. Each maps to one AWS exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// No credentials.
    #[error("Request is missing Authentication Token")]
    Missing,
    /// Credentials that cannot be read.
    #[error("Authorization header is incomplete: {0}")]
    Incomplete(&'static str),
    /// Nobody's access key.
    #[error("The security token included in the request is invalid")]
    UnknownKey,
    /// Signed for another region, service, day, or at another time.
    #[error("Signature does not apply: {0}")]
    Scope(&'static str),
    /// Signed with another secret, or changed since.
    #[error(
        "The request signature we calculated does not match the signature you provided. \
         Check your AWS Secret Access Key and signing method"
    )]
    Mismatch,
}

/// Credentials as a request claims them; nothing is proven before [`Claim::verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// Access key id.
    pub key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    time: &'a str,
}

/// A secret's signing key for one day, region and service (derivation costs four HMACs).
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey([u8; 32]);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// For the day `date` (`yyyymmdd`).
    pub fn derive(secret: &str, date: &str, scope: Scope<'_>) -> Self {
        let mut key = hmac(format!("AWS4{secret}").as_bytes(), date.as_bytes());
        for part in [scope.region, scope.service, "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        Self(key)
    }
}

impl<'a> Claim<'a> {
    /// Reads the credentials of a request.
    pub fn read(received: &Received<'a>) -> Result<Self, SignatureFault> {
        use SignatureFault::Incomplete;
        let mut authorizations = received.all("authorization");
        let Some(authorization) = authorizations.next() else {
            // Presigned URLs carry their credentials in the query; the service takes none.
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
            return Err(Incomplete(
                "Credential is not key/date/region/service/aws4_request",
            ));
        };
        let time = received
            .one("x-amz-date")
            .ok_or(Incomplete("X-Amz-Date is missing"))?;
        Ok(Self {
            key_id,
            date,
            region,
            service,
            signed_headers,
            signature,
            time,
        })
    }

    /// The day the request was signed for, `yyyymmdd`.
    pub fn date(&self) -> &'a str {
        self.date
    }

    /// Proves that the owner of `key` signed this request, for `scope`, at about `now`.
    pub fn verify(
        &self,
        received: &Received<'_>,
        scope: Scope<'_>,
        key: &SigningKey,
        now: UnixTime,
    ) -> Result<(), SignatureFault> {
        use SignatureFault::Scope as Off;
        if self.region != scope.region {
            return Err(Off("another region; see the region setting"));
        }
        if self.service != scope.service {
            return Err(Off("another service than ivschat"));
        }
        let signed_at =
            parse_time(self.time).ok_or(SignatureFault::Incomplete("X-Amz-Date is not a time"))?;
        if !self.time.starts_with(self.date) {
            return Err(Off("credential date and X-Amz-Date differ"));
        }
        if now.since(signed_at).max(signed_at.since(now)) > SIGNATURE_SKEW_MAX {
            return Err(Off("signed more than 5 minutes from this server's time"));
        }
        let expected = self.signature_of(received, key)?;
        let equal = expected.as_bytes().ct_eq(self.signature.as_bytes());
        if bool::from(equal) {
            Ok(())
        } else {
            Err(SignatureFault::Mismatch)
        }
    }

    /// The signature that the owner of `key` would put under this request.
    fn signature_of(
        &self,
        received: &Received<'_>,
        key: &SigningKey,
    ) -> Result<String, SignatureFault> {
        let payload_hash = payload_hash(received)?;
        let canonical = self.canonical_request(received, &payload_hash)?;
        let digest = hex(&Sha256::digest(canonical.as_bytes()));
        let (date, region, service) = (self.date, self.region, self.service);
        let to_sign = format!(
            "{ALGORITHM}\n{}\n{date}/{region}/{service}/aws4_request\n{digest}",
            self.time
        );
        Ok(hex(&hmac(&key.0, to_sign.as_bytes())))
    }

    fn canonical_request(
        &self,
        received: &Received<'_>,
        payload_hash: &str,
    ) -> Result<String, SignatureFault> {
        use SignatureFault::Incomplete;
        let mut out = String::with_capacity(512);
        out.push_str(received.method);
        out.push('\n');
        encode(&mut out, received.path.as_bytes(), |byte| byte == b'/');
        out.push('\n');
        canonical_query(&mut out, received.query);
        out.push('\n');
        let mut before = "";
        for name in self.signed_headers.split(';') {
            if name <= before {
                return Err(Incomplete("SignedHeaders are not sorted"));
            }
            before = name;
            out.push_str(name);
            out.push(':');
            for (index, value) in received.all(name).enumerate() {
                if index > 0 {
                    out.push(',');
                }
                collapse(&mut out, value);
            }
            if received.all(name).next().is_none() {
                return Err(Incomplete("a signed header was not received"));
            }
            out.push('\n');
        }
        let signed = |name: &str| self.signed_headers.split(';').any(|other| other == name);
        if !signed("host") {
            return Err(Incomplete("host must be signed"));
        }
        let unsigned = |(name, _): &&(&str, &[u8])| name.starts_with("x-amz-") && !signed(name);
        if received.headers.iter().find(unsigned).is_some() {
            return Err(Incomplete("every x-amz header must be signed"));
        }
        let _infallible = write!(out, "\n{}\n{payload_hash}", self.signed_headers);
        Ok(out)
    }
}

impl<'a> Received<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| *value)
    }

    fn one(&self, name: &str) -> Option<&'a str> {
        let mut all = self.all(name);
        let value = all.next()?;
        if all.next().is_some() {
            None
        } else {
            std::str::from_utf8(value).ok()
        }
    }
}

/// The hash of the body; a declared one must agree with it.
fn payload_hash(received: &Received<'_>) -> Result<String, SignatureFault> {
    let computed = hex(&Sha256::digest(received.body));
    if received.all("x-amz-content-sha256").next().is_none() {
        return Ok(computed);
    }
    match received.one("x-amz-content-sha256") {
        Some(declared) if declared == computed => Ok(computed),
        Some("UNSIGNED-PAYLOAD") => Err(SignatureFault::Incomplete("the body must be signed")),
        _ => Err(SignatureFault::Mismatch),
    }
}

/// Sorted, with canonical escapes whatever escapes the wire had.
fn canonical_query(out: &mut String, query: &str) {
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (recode(key), recode(value))
        })
        .collect();
    pairs.sort();
    for (index, (key, value)) in pairs.iter().enumerate() {
        let separator = if index > 0 { "&" } else { "" };
        let _infallible = write!(out, "{separator}{key}={value}");
    }
}

fn recode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    encode(&mut out, &percent_decode(text), |_| false);
    out
}

/// Bytes behind percent escapes; a broken escape stands for itself.
pub fn percent_decode(text: &str) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => digit(*high).zip(digit(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            out.push(high << 4 | low);
            rest = &after[2..];
        } else {
            out.push(*byte);
            rest = after;
        }
    }
    out
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3) and those `keep` names.
fn encode(out: &mut String, bytes: &[u8], keep: impl Fn(u8) -> bool) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || keep(*byte) {
            out.push(char::from(*byte));
        } else {
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
}

/// Trims, and makes each run of blanks one.
fn collapse(out: &mut String, value: &[u8]) {
    let text = String::from_utf8_lossy(value);
    for (index, word) in text
        .split([' ', '\t'])
        .filter(|word| !word.is_empty())
        .enumerate()
    {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
}

/// `yyyymmddThhmmssZ`.
fn parse_time(text: &str) -> Option<UnixTime> {
    let parsed = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    let timestamp = jiff::tz::Offset::UTC.to_timestamp(parsed).ok()?;
    u64::try_from(timestamp.as_second())
        .ok()
        .map(UnixTime::from_secs)
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            let _infallible = write!(out, "{byte:02x}");
            out
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'_> = Scope {
        region: "us-east-1",
        service: "iam",
    };
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    // 2015-08-30T12:36:00Z.
    const NOW: UnixTime = UnixTime::from_secs(1_440_938_160);
    const SIGNATURE: &str = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";

    fn authorization(signature: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, Signature={signature}"
        )
    }

    fn verify(
        edit: impl FnOnce(&mut Vec<(&str, &[u8])>),
        at: UnixTime,
        query: &str,
    ) -> Result<(), SignatureFault> {
        let authorization = authorization(SIGNATURE);
        let mut headers: Vec<(&str, &[u8])> = vec![
            (
                "content-type",
                b"application/x-www-form-urlencoded;  charset=utf-8 ",
            ),
            ("host", b"iam.amazonaws.com"),
            ("x-amz-date", b"20150830T123600Z"),
            ("authorization", authorization.as_bytes()),
        ];
        edit(&mut headers);
        let received = Received {
            method: "GET",
            path: "/",
            query,
            headers: &headers,
            body: b"",
        };
        let claim = Claim::read(&received)?;
        let key = SigningKey::derive(SECRET, claim.date(), SCOPE);
        claim.verify(&received, SCOPE, &key, at)
    }

    const QUERY: &str = "Version=2010-05-08&Action=ListUsers";

    /// Goal: the worked example of AWS's documentation, with its query out of order and blanks doubled.
    #[test]
    fn the_documented_example_verifies() {
        assert_eq!(verify(|_| {}, NOW, QUERY), Ok(()));
    }

    /// Goal: each change is refused, for its own reason.
    #[test]
    fn everything_else_is_refused() {
        use SignatureFault::{Incomplete, Mismatch, Missing, Scope};
        let mismatch = |outcome| assert_eq!(outcome, Err(Mismatch));
        mismatch(verify(|_| {}, NOW, "Version=2010-05-08&Action=ListUser"));
        mismatch(verify(|headers| headers[1].1 = b"evil.example", NOW, QUERY));
        let wrong = authorization(&"0".repeat(64));
        assert_eq!(wrong.len(), authorization(SIGNATURE).len());
        let empty = authorization("");
        assert!(matches!(
            verify(
                |headers| {
                    headers.remove(3);
                },
                NOW,
                QUERY
            ),
            Err(Missing)
        ));
        assert!(matches!(
            verify(
                |headers| {
                    headers.remove(2);
                },
                NOW,
                QUERY
            ),
            Err(Incomplete(_))
        ));
        assert!(matches!(
            verify(
                |headers| {
                    headers.remove(0);
                },
                NOW,
                QUERY
            ),
            Err(Incomplete(_))
        ));
        let late = UnixTime::from_secs(NOW.secs() + 301);
        let early = UnixTime::from_secs(NOW.secs() - 301);
        assert!(matches!(verify(|_| {}, late, QUERY), Err(Scope(_))));
        assert!(matches!(verify(|_| {}, early, QUERY), Err(Scope(_))));
        let unsigned = verify(
            |headers| headers.push(("x-amz-security-token", b"T")),
            NOW,
            QUERY,
        );
        assert!(matches!(unsigned, Err(Incomplete(_))));
        let hash = verify(
            |headers| headers.push(("x-amz-content-sha256", b"00")),
            NOW,
            QUERY,
        );
        assert!(matches!(hash, Err(Mismatch)));
        for text in [
            &wrong,
            &empty,
            "AWS4-HMAC-SHA256",
            "Basic x",
            "AWS4-HMAC-SHA256 a=b",
            "",
        ] {
            let received = [
                ("authorization", text.as_bytes()),
                ("x-amz-date", b"20150830T123600Z"),
            ];
            let received = Received {
                method: "GET",
                path: "/",
                query: "",
                headers: &received,
                body: b"",
            };
            if let Ok(claim) = Claim::read(&received) {
                let key = SigningKey::derive(SECRET, claim.date(), SCOPE);
                assert!(claim.verify(&received, SCOPE, &key, NOW).is_err(), "{text}");
            }
        }
    }

    /// Goal: an escaped path is escaped once more, and queries are sorted by their escaped form.
    #[test]
    fn paths_are_escaped_twice_and_queries_sorted() {
        let mut out = String::new();
        encode(&mut out, b"/tags/arn%3Aaws", |byte| byte == b'/');
        assert_eq!(out, "/tags/arn%253Aaws");
        let mut out = String::new();
        canonical_query(&mut out, "tagKeys=k&tagKeys=a%20b&b&tagKeys=a%2fb");
        assert_eq!(out, "b=&tagKeys=a%20b&tagKeys=a%2Fb&tagKeys=k");
        assert_eq!(percent_decode("%41%zz%4"), b"A%zz%4");
    }
}
