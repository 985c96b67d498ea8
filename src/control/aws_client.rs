//! Calls to AWS services and compatible ones: pooled connections, TLS, signatures, a deadline and a bound for each
//! answer.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, ETAG, HOST, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring::default_provider;

use uproar_proto::base::clock::UnixTime;
use uproar_proto::sigv4::Scope;
use uproar_proto::sigv4::sign::{Credentials, Outgoing, sign};

/// Idle connections are closed after this; load balancers close theirs after a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// `User-Agent` of every call.
pub(super) const AGENT: &str = concat!("uproar/", env!("CARGO_PKG_VERSION"));

/// The address of a service: scheme, host, optional port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    scheme: &'static str,
    authority: String,
}

impl Endpoint {
    /// `None` unless the text is `http://` or `https://`, a host and an optional port, nothing else.
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

/// A call.
#[derive(Debug, Clone)]
pub struct Call<'a> {
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

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The connection failed or broke.
    #[error("{0}")]
    Connection(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer is too long, or broke off.
    #[error("the answer could not be read")]
    Answer,
    /// The request cannot be written as HTTP.
    #[error("the request is malformed")]
    Request,
}

/// HTTP/1.1 with the system's certificates, which are read only if `secure`.
pub(super) fn connector(secure: bool) -> io::Result<HttpsConnector<HttpConnector>> {
    let builder = HttpsConnectorBuilder::new();
    let builder = if secure {
        builder.with_provider_and_native_roots(default_provider())?
    } else {
        let versions = rustls::ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let no_roots = rustls::RootCertStore::empty();
        builder.with_tls_config(
            versions
                .with_root_certificates(no_roots)
                .with_no_client_auth(),
        )
    };
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    Ok(builder.https_or_http().enable_http1().wrap_connector(http))
}

/// Makes calls; one per thread.
#[derive(Debug)]
pub struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    credentials: Credentials,
    region: String,
    timeout: Duration,
    answer_bytes_max: usize,
}

impl Client {
    /// A client with the system's certificates, which are read only if `secure`.
    pub fn new(
        credentials: Credentials,
        region: String,
        timeout: Duration,
        answer_bytes_max: usize,
        secure: bool,
    ) -> io::Result<Self> {
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector(secure)?);
        Ok(Self {
            http,
            credentials,
            region,
            timeout,
            answer_bytes_max,
        })
    }

    /// Makes a call, signed at `now`.
    pub async fn call(&self, call: Call<'_>, now: UnixTime) -> Result<Answered, CallError> {
        let request = self.request(call, now).map_err(|_| CallError::Request)?;
        let timeout = self.timeout;
        tokio::time::timeout(timeout, self.exchange(request))
            .await
            .map_err(|_elapsed| CallError::Timeout(timeout))?
    }

    fn request(
        &self,
        call: Call<'_>,
        now: UnixTime,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let Endpoint { scheme, authority } = call.endpoint;
        let mut headers = vec![("content-type", call.content_type)];
        headers.extend_from_slice(call.headers);
        let outgoing = Outgoing {
            method: call.method.as_str(),
            path: call.path,
            query: "",
            host: authority,
            headers: &headers,
            body: &call.body,
        };
        let scope = Scope {
            region: &self.region,
            service: call.service,
        };
        let signature = sign(&outgoing, &self.credentials, scope, now);
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("{scheme}://{authority}{}", call.path))
            .header(HOST, authority)
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, call.content_type);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        for (name, value) in signature {
            request = request.header(name, value);
        }
        request.body(Full::new(call.body))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answered, CallError> {
        let response = self
            .http
            .request(request)
            .await
            .map_err(|error| CallError::Connection(chain(&error)))?;
        let status = response.status().as_u16();
        let has_etag = response.headers().contains_key(ETAG);
        let error_type = response
            .headers()
            .get("x-amzn-errortype")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = Limited::new(response.into_body(), self.answer_bytes_max)
            .collect()
            .await
            .map_err(|_| CallError::Answer)?
            .to_bytes();
        Ok(Answered {
            status,
            error_type,
            has_etag,
            body,
        })
    }
}

/// An error and its causes: hyper's own text is only "client error".
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut out = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        out = format!("{out}: {cause}");
        source = cause.source();
    }
    out
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
