//! Tests with Amazon's published cases, Amazon's own signer, and requests that must be refused.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Deserialize;

use super::SignatureFault::{Incomplete, Invalid, Mismatch, Missing};
use super::*;

mod dates;

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SCOPE: Scope<'_> = Scope {
    region: "us-east-1",
    service: "service",
};
// 2015-08-30T12:36:00Z.
const NOW: UnixTime = UnixTime::from_secs(1_440_938_160);

/// A request that can be changed after signing.
#[derive(Debug, Clone, Deserialize)]
struct Request {
    #[serde(default)]
    name: String,
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: String,
    signed: String,
    signature: String,
}

impl Request {
    fn verify(&self, at: UnixTime) -> Result<(), SignatureFault> {
        self.verify_in(SCOPE, at)
    }

    fn verify_in(&self, scope: Scope<'_>, at: UnixTime) -> Result<(), SignatureFault> {
        let headers: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let received = Received {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            body: self.body.as_bytes(),
        };
        let claim = Claim::read(&received)?;
        let key = SigningKey::derive(SECRET, claim.date(), scope);
        claim.verify(&received, scope, &key, at)
    }

    fn authorized(mut self) -> Self {
        let (signed, signature) = (&self.signed, &self.signature);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={KEY_ID}/20150830/us-east-1/service/aws4_request, \
             SignedHeaders={signed}, Signature={signature}"
        );
        self.headers.push(("authorization".into(), authorization));
        self
    }

    fn header(&mut self, name: &str) -> &mut String {
        let mut headers = self.headers.iter_mut();
        let found = headers.find(|(other, _)| other == name);
        &mut found.expect("the case has this header").1
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

fn published() -> Vec<Request> {
    let cases = include_str!("../../../../tests/vectors/sigv4.json");
    serde_json::from_str(cases).expect("the file is valid")
}

fn vanilla() -> Request {
    let mut cases = published().into_iter();
    let vanilla = cases.find(|case| case.name == "post-vanilla-query");
    vanilla.expect("the file has it").authorized()
}

/// Goal: Amazon's published signatures verify.
#[test]
fn published_cases_verify() {
    let cases = published();
    assert_eq!(cases.len(), 31);
    for case in cases {
        let name = case.name.clone();
        let verdict = case.authorized().verify(NOW);
        if name == "post-sts-header-after" {
            // Its session token was added after signing, which we treat as a header that a proxy
            // added.
            assert_eq!(verdict, Err(Invalid("every x-amz header must be signed")));
        } else {
            assert_eq!(verdict, Ok(()), "{name}");
        }
    }
}

/// Goal: no character of a published case may change.
#[test]
fn a_changed_case_is_a_mismatch() {
    for case in published() {
        let name = case.name.clone();
        if name == "post-sts-header-after" {
            continue;
        }
        let case = case.authorized();
        let mut changes: Vec<Request> = Vec::new();
        let mut change = |edit: &dyn Fn(&mut Request)| {
            let mut changed = case.clone();
            edit(&mut changed);
            changes.push(changed);
        };
        change(&|case| case.method = "PUT".into());
        change(&|case| case.path.push('x'));
        change(&|case| case.query.push_str("&z=1"));
        change(&|case| case.body.push('x'));
        change(&|case| case.header("host").push('x'));
        change(&|case| *case.header("x-amz-date") = "20150830T123601Z".into());
        change(&|case| {
            let last = case.header("authorization").pop();
            let other = if last == Some('0') { '1' } else { '0' };
            case.header("authorization").push(other);
        });
        for changed in changes {
            assert_eq!(changed.verify(NOW), Err(Mismatch), "{name}: {changed:?}");
        }
    }
}

/// Goal: a request is valid for five minutes before and after its time, replayed or not.
#[test]
fn requests_are_valid_for_five_minutes() {
    let case = vanilla();
    let skew = SIGNATURE_SKEW_MAX.as_secs();
    for good in [NOW.secs() - skew, NOW.secs(), NOW.secs() + skew] {
        assert_eq!(case.verify(UnixTime::from_secs(good)), Ok(()));
    }
    let late = "signed more than 5 minutes from this server's time";
    for bad in [
        0,
        NOW.secs() - skew - 1,
        NOW.secs() + skew + 1,
        NOW.secs() + 86_400,
    ] {
        assert_eq!(case.verify(UnixTime::from_secs(bad)), Err(Invalid(late)));
    }
}

/// Goal: a signature for another scope is refused with that reason.
#[test]
fn other_regions_services_and_days_are_refused() {
    let case = vanilla();
    let region = Scope {
        region: "eu-west-1",
        ..SCOPE
    };
    let service = Scope {
        service: "ivschat",
        ..SCOPE
    };
    let verdict = |scope| case.verify_in(scope, NOW);
    assert_eq!(
        verdict(region),
        Err(Invalid("another region; see the region setting"))
    );
    assert_eq!(
        verdict(service),
        Err(Invalid("another service than ivschat"))
    );
    let mut other_day = case.clone();
    let authorization = other_day.header("authorization");
    *authorization = authorization.replace("/20150830/", "/20150831/");
    let differ = Invalid("credential date and signing time differ");
    assert_eq!(other_day.verify(NOW), Err(differ));
}

/// Goal: a request with an unsigned part that decides about it is refused.
#[test]
fn deciding_parts_must_be_signed() {
    let case = vanilla();
    let unsigned = Invalid("every x-amz header must be signed");
    for name in [
        "x-amz-security-token",
        "x-amz-content-sha256",
        "x-amz-anything",
    ] {
        assert_eq!(
            case.clone().with(name, "T").verify(NOW),
            Err(unsigned),
            "{name}"
        );
    }
    let signs = |headers: &str| {
        let mut case = case.clone();
        let authorization = case.header("authorization");
        *authorization = authorization.replace("host;x-amz-date", headers);
        case.verify(NOW)
    };
    assert_eq!(
        signs("x-amz-date"),
        Err(Invalid("host (HTTP/2: :authority) must be signed"))
    );
    assert_eq!(signs("host"), Err(unsigned));
    let absent = Invalid("a signed header was not received");
    assert_eq!(signs("host;origin;x-amz-date"), Err(absent));
    assert_eq!(signs("Host;X-Amz-Date"), Err(absent));
    assert_eq!(signs(""), Err(absent));
    let unsorted = Incomplete("SignedHeaders are not sorted");
    assert_eq!(signs("x-amz-date;host"), Err(unsorted));
    assert_eq!(signs("host;host;x-amz-date"), Err(unsorted));
    // Proxies may add headers that are not signed.
    assert_eq!(case.clone().with("via", "1.1 proxy").verify(NOW), Ok(()));
    assert_eq!(
        case.clone().with("x-amzn-trace-id", "Root=1").verify(NOW),
        Ok(())
    );
    assert_eq!(
        case.with("host", "second.example").verify(NOW),
        Err(Mismatch)
    );
}

/// Goal: a body is signed as a whole, or the request is refused. Method: Amazon's signer, which can
/// sign others.
#[test]
fn unsigned_and_streamed_bodies_are_refused() {
    let whole = Invalid("the body must be signed as a whole");
    for (body, verdict) in [
        (SignableBody::UnsignedPayload, Err(whole)),
        (SignableBody::StreamingUnsignedPayloadTrailer, Err(whole)),
        (SignableBody::Precomputed("0".repeat(64)), Err(Mismatch)),
        (SignableBody::Bytes(b"{}"), Ok(())),
    ] {
        let request = sign_with(Draft::default(), body, PayloadChecksumKind::XAmzSha256);
        assert_eq!(request.verify(NOW), verdict);
    }
    let draft = Draft {
        session: Some("T"),
        ..Draft::default()
    };
    let chunked = Request {
        headers: vec![(
            "x-amz-content-sha256".into(),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".into(),
        )],
        ..sign_with(
            draft,
            SignableBody::Bytes(b"{}"),
            PayloadChecksumKind::NoHeader,
        )
    };
    assert_eq!(chunked.verify(NOW), Err(Missing));
}

/// Goal: credentials that cannot be parsed are incomplete, and absent ones are missing.
#[test]
fn unreadable_credentials_are_incomplete() {
    let case = vanilla();
    let with = |text: &str| {
        let mut case = case.clone();
        *case.header("authorization") = text.into();
        case.verify(NOW)
    };
    let whole = case.clone().header("authorization").clone();
    for text in [
        "",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ",
        "Basic x",
        "Bearer x",
        "AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d/aws4_request, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 a=b",
        &whole.replace("Credential=", "Credentials="),
        &whole.replace(", Signature", ", SignedHeaders=host, Signature"),
        &whole.replace("/aws4_request", "/aws4"),
        &whole.replace("/20150830/us-east-1", ""),
        &whole.replace("SignedHeaders=host;x-amz-date, ", ""),
        &whole[..whole.len() - 75],
    ] {
        assert!(matches!(with(text), Err(Incomplete(_))), "{text}");
    }
    assert_eq!(with(&whole[..whole.len() - 1]), Err(Mismatch));
    assert_eq!(with(&whole[..whole.len() - 64]), Err(Mismatch));
    let twice = case.clone().with("authorization", &whole);
    assert_eq!(
        twice.verify(NOW),
        Err(Incomplete("Authorization appears twice"))
    );
    let mut undated = case.clone();
    undated.headers.retain(|(name, _)| name != "x-amz-date");
    assert_eq!(
        undated.verify(NOW),
        Err(Incomplete("X-Amz-Date or Date must be there once"))
    );
    assert_eq!(
        case.clone()
            .with("x-amz-date", "20150830T123600Z")
            .verify(NOW),
        Err(Incomplete("X-Amz-Date must be there once"))
    );
    for time in [
        "",
        "20150830",
        "20150830T123600",
        "2015-08-30T12:36:00Z",
        "20151330T123600Z",
    ] {
        let mut case = case.clone();
        *case.header("x-amz-date") = time.into();
        assert_eq!(
            case.verify(NOW),
            Err(Incomplete("X-Amz-Date is not a time")),
            "{time}"
        );
    }
    let mut presigned = case;
    presigned
        .headers
        .retain(|(name, _)| name != "authorization");
    presigned.query =
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Signature=b".into();
    assert_eq!(presigned.verify(NOW), Err(Missing));
}

/// The input of Amazon's signer.
#[derive(Debug, Clone)]
struct Draft {
    method: &'static str,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: String,
    session: Option<&'static str>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            method: "POST",
            path: "/CreateRoom".into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: "{}".into(),
            session: None,
        }
    }
}

fn encoded(text: &str) -> String {
    let escape = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(escape).collect()
}

/// Signs as the AWS SDK for Rust does for a service of this kind.
fn sign_with(draft: Draft, body: SignableBody<'_>, checksum: PayloadChecksumKind) -> Request {
    let credentials = Credentials::new(
        KEY_ID,
        SECRET,
        draft.session.map(str::to_owned),
        None,
        "test",
    );
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = checksum;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Enabled;
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(SCOPE.region)
        .name(SCOPE.service)
        .time(SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.secs()))
        .settings(settings)
        .build()
        .expect("complete")
        .into();
    let pairs: Vec<String> = draft
        .query
        .iter()
        .map(|(key, value)| format!("{}={}", encoded(key), encoded(value)))
        .collect();
    let query = pairs.join("&");
    let separator = if query.is_empty() { "" } else { "?" };
    let uri = format!("http://example.test{}{separator}{query}", draft.path);
    let headers = draft
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new(draft.method, &uri, headers, body).expect("signable");
    let signed = sign(signable, &parameters).expect("signs");
    let mut headers = draft.headers.clone();
    headers.push(("host".into(), "example.test".into()));
    for (name, value) in signed.output().headers() {
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    Request {
        name: String::new(),
        method: draft.method.to_owned(),
        path: draft.path,
        query,
        headers,
        body: draft.body,
        signed: String::new(),
        signature: String::new(),
    }
}

prop_compose! {
    fn draft()(
        method in prop::sample::select(&["GET", "POST", "DELETE"][..]),
        segments in vec("[ -~é🔥]{1,8}", 0..4),
        query in vec(("[ -~é]{1,6}", "[ -~é]{0,6}"), 0..5),
        headers in btree_map("(content-type|origin|x-amz-[a-c]|[d-f]{2,5})", "[!-~]( {0,3}[!-~]){0,9}", 0..6),
        body in "\\PC{0,80}",
        session in prop::option::of(Just("a/b+c=")),
    ) -> Draft {
        let path: String = segments.iter().flat_map(|segment| ["/".into(), encoded(segment)]).collect();
        Draft {
            method,
            path: if path.is_empty() { "/".into() } else { path },
            query,
            headers: headers.into_iter().collect(),
            body,
            session,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Goal: a request signed by Amazon's signer is accepted; with any byte changed it is not.
    #[test]
    fn amazons_signer_and_our_verifier_agree(
        draft in draft(),
        hash_header in any::<bool>(),
        at in any::<prop::sample::Index>(),
        byte in 0x21_u8..0x7F,
    ) {
        let checksum = if hash_header {
            PayloadChecksumKind::XAmzSha256
        } else {
            PayloadChecksumKind::NoHeader
        };
        let body = draft.body.clone();
        let request = sign_with(draft, SignableBody::Bytes(body.as_bytes()), checksum);
        prop_assert_eq!(request.verify(NOW), Ok(()), "{:?}", request);

        let changed = |text: &mut String| {
            let mut bytes = std::mem::take(text).into_bytes();
            let ascii: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at].is_ascii_graphic()).collect();
            if let Some(place) = (!ascii.is_empty()).then(|| *at.get(&ascii)) {
                // A percent escape has two spellings; letters and digits have one.
                bytes[place] = if bytes[place] == byte { byte ^ 1 } else { byte };
            }
            *text = String::from_utf8(bytes).expect("ASCII for ASCII");
        };
        let mut other = request.clone();
        changed(&mut other.body);
        prop_assert_eq!(other.verify(NOW).is_ok(), other.body == request.body);
        let mut other = request.clone();
        changed(&mut other.path);
        let canonical = |request: &Request| {
            let mut out = Vec::new();
            canonical::path(&mut out, &request.path);
            out
        };
        let same = canonical(&other) == canonical(&request);
        prop_assert_eq!(other.verify(NOW).is_ok(), same, "{:?}", other);
        for index in 0..request.headers.len() {
            let mut other = request.clone();
            changed(&mut other.headers[index].1);
            // The key's id selects the secret; it is not signed.
            let same_id = other.headers[index].1.contains(&format!("={KEY_ID}/20150830/us-east-1"));
            let same = other.headers[index] == request.headers[index];
            let other_id = request.headers[index].0 == "authorization" && !same_id;
            prop_assert!(same || other_id || other.verify(NOW).is_err(), "{:?}", other);
        }
    }

    /// Goal: credentials of any text get a verdict.
    #[test]
    fn any_credentials_get_a_verdict(authorization in "(AWS4-HMAC-SHA256 )?[ -~é]{0,120}", date in "[ -~]{0,20}") {
        let mut request = vanilla();
        *request.header("authorization") = authorization;
        *request.header("x-amz-date") = date;
        prop_assert!(request.verify(NOW).is_err());
    }
}
