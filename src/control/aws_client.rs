//! Signed calls to AWS services and compatible ones.

use std::io;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::ETAG;
use hyper::{Method, Uri};

use super::http_client::{Call, CallError, HttpClient, Policy, Signer};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::{
    LOG_ANSWER_BYTES_MAX, LOG_REQUEST_TIMEOUT, LOGGING_CONFIGURATIONS_MAX,
};
use uproar_proto::sigv4::Scope;
use uproar_proto::sigv4::sign::Credentials;

/// For the services that take chat logs.
pub(super) const LOGS: Policy = Policy {
    timeout: Some(LOG_REQUEST_TIMEOUT),
    answer_bytes_max: LOG_ANSWER_BYTES_MAX,
    // Load balancers close theirs after a minute.
    idle_max: Duration::from_secs(50),
    // Each configuration makes one call at a time.
    idle_connections_max: LOGGING_CONFIGURATIONS_MAX,
    // Deliveries repeat what failed by themselves.
    repeats_broken: false,
};

/// The address of a service: scheme, host, optional port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    scheme: &'static str,
    authority: String,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl Endpoint {
    /// `None` unless the text is `http://` or `https://`, a host and an optional port, nothing
    /// else.
    pub fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let scheme = match uri.scheme_str()? {
            "http" => "http",
            "https" => "https",
            _ => return None,
        };
        let authority = uri.authority()?.as_str();
        let bare = matches!(
            uri.path_and_query()
                .map(hyper::http::uri::PathAndQuery::as_str),
            None | Some("/")
        );
        (bare && !authority.contains('@')).then(|| Self {
            scheme,
            authority: authority.to_owned(),
        })
    }

    /// The URI of an escaped path there.
    pub(super) fn uri(&self, path: &str) -> Result<Uri, hyper::http::Error> {
        Uri::builder()
            .scheme(self.scheme)
            .authority(&*self.authority)
            .path_and_query(path)
            .build()
    }

    /// Whether it uses TLS.
    pub fn is_secure(&self) -> bool {
        self.scheme == "https"
    }
}

/// A call to a service; it is signed.
#[derive(Debug, Clone)]
pub struct ServiceCall<'a> {
    /// Signing name of the service.
    pub service: &'a str,
    /// `PUT`, `POST`.
    pub method: Method,
    /// The service's address.
    pub endpoint: &'a Endpoint,
    /// Escaped path.
    pub path: &'a str,
    /// `Content-Type`.
    pub content_type: &'a str,
    /// Further headers, names in lower case; all are signed.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: Bytes,
}

/// The answer to a call.
#[derive(Debug)]
pub struct Answered {
    /// HTTP status.
    pub status: u16,
    /// `X-Amzn-ErrorType`.
    pub error_type: Option<String>,
    /// Whether there was an `ETag`.
    pub has_etag: bool,
    /// The body.
    pub body: Bytes,
}

/// Makes calls; one per thread.
#[derive(Debug)]
pub struct AwsClient {
    http: HttpClient,
    credentials: Credentials,
    region: String,
}

impl AwsClient {
    /// A client with the system's certificates, which are read only if `secure`.
    ///
    /// # Errors
    ///
    /// The certificates cannot be read.
    pub(super) fn new(
        policy: Policy,
        credentials: Credentials,
        region: String,
        secure: bool,
    ) -> io::Result<Self> {
        Ok(Self {
            http: HttpClient::new(policy, secure)?,
            credentials,
            region,
        })
    }

    /// Makes a call, signed at `now`.
    pub(super) async fn call(
        &self,
        call: ServiceCall<'_>,
        now: UnixTime,
    ) -> Result<Answered, CallError> {
        let call = Call {
            method: call.method,
            uri: call.endpoint.uri(call.path).map_err(CallError::Request)?,
            content_type: call.content_type,
            headers: call.headers,
            body: call.body,
            signer: Some(Signer {
                credentials: &self.credentials,
                scope: Scope {
                    region: &self.region,
                    service: call.service,
                },
                now,
            }),
        };
        let answer = self.http.call(&call).await?;
        if let Some(cut) = answer.cut {
            return Err(cut);
        }
        let error_type = answer.headers.get("x-amzn-errortype");
        Ok(Answered {
            status: answer.status.as_u16(),
            error_type: error_type
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
            has_etag: answer.headers.contains_key(ETAG),
            body: answer.body.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: endpoints are scheme and host; a part that would be ignored is refused.
    #[test]
    fn endpoints_are_scheme_and_host() {
        for good in [
            "http://127.0.0.1:5000",
            "https://s3.us-west-2.amazonaws.com",
            "http://[::1]:9000/",
        ] {
            assert!(Endpoint::parse(good).is_some(), "{good}");
        }
        assert!(Endpoint::parse("https://a").is_some_and(|endpoint| endpoint.is_secure()));
        for bad in [
            "",
            "localhost:9000",
            "ftp://a",
            "http://a/b",
            "http://a?x=1",
            "http://u:p@a",
            "/x",
        ] {
            assert_eq!(Endpoint::parse(bad), None, "{bad}");
        }
    }
}
