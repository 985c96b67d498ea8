//! AWS Signature Version 4, the signing side: requests of this server to AWS services and
//! compatible ones.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::canonical::{self, Path};
use super::key::{ALGORITHM, Scope, SigningKey, hex};
use super::received::Received;
use super::time;
use crate::base::clock::UnixTime;

/// The only service whose paths are escaped once.
const S3: &str = "s3";

/// The credentials that sign requests.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub key_id: String,
    /// Secret access key.
    pub secret: Zeroizing<String>,
    /// The session token of temporary credentials.
    pub session_token: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.key_id)
    }
}

/// A request to sign and send.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// `PUT`, `POST`, …
    pub method: &'a str,
    /// The path as sent, escaped; see [`escape_path`].
    pub path: &'a str,
    /// The query as sent, without `?`.
    pub query: &'a str,
    /// `Host`, with the port if it is not the usual one.
    pub host: &'a str,
    /// Other headers, names in lower case; all are signed.
    pub headers: &'a [(&'a str, &'a str)],
    /// The whole body.
    pub body: &'a [u8],
}

/// Escapes a path; slashes stay.
pub fn escape_path(path: &str) -> String {
    let mut out = Vec::with_capacity(path.len());
    canonical::escape(&mut out, path.as_bytes(), b"/");
    String::from_utf8(out).expect("escapes are ASCII")
}

/// Returns the headers to add: time, body hash, session token, authorization.
pub fn sign(
    request: &Outgoing<'_>,
    credentials: &Credentials,
    scope: Scope<'_>,
    now: UnixTime,
) -> Vec<(&'static str, String)> {
    let time = time::text(now);
    let date = &time[..8];
    let body_hash = hex(&Sha256::digest(request.body).into());
    let mut added = vec![
        ("x-amz-content-sha256", body_hash.as_str().to_owned()),
        ("x-amz-date", time.clone()),
    ];
    if let Some(token) = &credentials.session_token {
        added.push(("x-amz-security-token", token.clone()));
    }
    let own = request.headers.iter().copied();
    let added_text = added.iter().map(|(name, value)| (*name, value.as_str()));
    let mut headers: Vec<(&str, &[u8])> = own
        .chain([("host", request.host)])
        .chain(added_text)
        .map(|(name, value)| (name, value.as_bytes()))
        .collect();
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let received = Received {
        method: request.method,
        path: request.path,
        query: request.query,
        headers: &headers,
        body: request.body,
    };
    let path = if scope.service == S3 {
        Path::AsSent
    } else {
        Path::Escaped
    };
    let canonical = canonical::request(&received, &names, &body_hash, path);
    let key = SigningKey::derive(&credentials.secret, date, scope);
    let signature = key.sign(&canonical, &time, date, scope);
    let signature = signature.as_str();
    let (region, service) = (scope.region, scope.service);
    let key_id = &credentials.key_id;
    added.push((
        "authorization",
        format!("{ALGORITHM} Credential={key_id}/{date}/{region}/{service}/aws4_request, SignedHeaders={names}, Signature={signature}"),
    ));
    added
}

#[cfg(test)]
mod tests {
    use super::super::Claim;
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixTime = UnixTime::from_secs(1_440_938_160);

    fn credentials(session_token: Option<String>) -> Credentials {
        Credentials {
            key_id: "AKIDEXAMPLE".to_owned(),
            secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token,
        }
    }

    /// Goal: the PUT of S3's documentation gets the signature printed there.
    #[test]
    fn the_documented_object_is_signed() {
        let request = Outgoing {
            method: "PUT",
            path: &escape_path("/test$file.text"),
            query: "",
            host: "examplebucket.s3.amazonaws.com",
            headers: &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
            body: b"Welcome to Amazon S3.",
        };
        let scope = Scope {
            region: "us-east-1",
            service: "s3",
        };
        let credentials = Credentials {
            key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: Zeroizing::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: None,
        };
        let added = sign(
            &request,
            &credentials,
            scope,
            UnixTime::from_secs(1_369_353_600),
        );
        let (_, authorization) = added.last().expect("authorization comes last");
        assert!(
            authorization
                .ends_with("98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
            "{authorization}"
        );
    }

    proptest! {
        /// Goal: every signed request verifies. Oracle: our verifier, tested with AWS's own
        /// vectors.
        #[test]
        fn signed_requests_verify(
            path in "(/[a-z0-9 é$:]{0,8}){1,4}",
            query in "([a-z]{1,3}=[a-z0-9]{0,3}(&[a-z]{1,3}=[a-z0-9]{0,3}){0,2})?",
            target in "[A-Za-z0-9_.]{1,20}( {1,3}[a-z]{1,5})?",
            token in proptest::option::of("[A-Za-z0-9]{8}"),
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let scope = Scope { region: "us-west-2", service: "logs" };
            let path = escape_path(&path);
            let request = Outgoing {
                method: "POST", path: &path, query: &query, host: "127.0.0.1:5000",
                headers: &[("x-amz-target", &target)], body: &body,
            };
            let credentials = credentials(token);
            let added = sign(&request, &credentials, scope, NOW);
            let mut headers: Vec<(&str, &[u8])> =
                vec![("host", b"127.0.0.1:5000"), ("x-amz-target", target.as_bytes())];
            headers.extend(added.iter().map(|(name, value)| (*name, value.as_bytes())));
            let received = Received {
                method: "POST", path: &path, query: &query, headers: &headers, body: &body,
            };
            let claim = Claim::read(&received).expect("complete");
            let key = SigningKey::derive(&credentials.secret, claim.date(), scope);
            prop_assert_eq!(claim.verify(&received, scope, &key, NOW), Ok(()));
        }
    }
}
