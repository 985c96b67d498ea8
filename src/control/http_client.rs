//! Outgoing HTTP and HTTPS: pooled HTTP/1.1 connections, the system's certificates, AWS signatures,
//! bounded answers. What the users of the client need differently is a [`Policy`].

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::aws_lc_rs::default_provider;

use crate::logging::with_causes;
use uproar_proto::base::clock::UnixTime;
use uproar_proto::sigv4::Scope;
use uproar_proto::sigv4::sign::{Credentials, Outgoing, sign};

/// `User-Agent` of every call.
const AGENT: &str = concat!("uproar/", env!("CARGO_PKG_VERSION"));

/// Limits of one user's calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// From the call to the end of its answer; `None` if the caller has a deadline of its own.
    pub(super) timeout: Option<Duration>,
    /// Longest body of an answer, in bytes.
    pub(super) answer_bytes_max: usize,
    /// Idle connections are closed after this.
    pub(super) idle_max: Duration,
    /// Idle connections kept for each host.
    pub(super) idle_connections_max: usize,
    /// Whether a call is made again, once, if its connection broke before an answer: the other side
    /// may just have closed an idle one.
    pub(super) repeats_broken: bool,
}

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Scheme, host, escaped path and query.
    pub(super) uri: Uri,
    /// `Content-Type`.
    pub(super) content_type: &'a str,
    /// Further headers, names in lower case; all are signed.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: Bytes,
    /// Who signs the call, if it is signed.
    pub(super) signer: Option<Signer<'a>>,
}

/// Credentials and scope of a signature (AWS Signature Version 4).
#[derive(Debug, Clone, Copy)]
pub(super) struct Signer<'a> {
    pub(super) credentials: &'a Credentials,
    pub(super) scope: Scope<'a>,
    /// Time of the signature.
    pub(super) now: UnixTime,
}

/// The answer to a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Complete, unless it is `cut`.
    pub(super) body: Vec<u8>,
    /// Why the body is incomplete.
    pub(super) cut: Option<CallError>,
}

/// Why there was no answer, or only a part of one.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The connection failed or broke.
    #[error("{0}")]
    Connection(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The answer is too long.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The request cannot be written as HTTP.
    #[error("the request is malformed: {0}")]
    Request(hyper::http::Error),
}

/// Makes calls; one for each user and thread.
#[derive(Debug)]
pub(super) struct HttpClient {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    policy: Policy,
}

impl HttpClient {
    /// A client with the system's certificates, which are read only if `secure`.
    ///
    /// # Errors
    ///
    /// The certificates cannot be read.
    pub(super) fn new(policy: Policy, secure: bool) -> io::Result<Self> {
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(policy.idle_max)
            .pool_max_idle_per_host(policy.idle_connections_max)
            .build(connector(secure)?);
        Ok(Self { http, policy })
    }

    /// Makes a call and reads its answer, as far as it arrives.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection; the other side may have received the call.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Answer, CallError> {
        let exchange = self.exchange(call);
        match self.policy.timeout {
            Some(timeout) => tokio::time::timeout(timeout, exchange)
                .await
                .map_err(|_elapsed| CallError::Timeout(timeout))?,
            None => exchange.await,
        }
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<Answer, CallError> {
        let sent = || request(call).map_err(CallError::Request);
        let response = match self.http.request(sent()?).await {
            Err(error) if self.policy.repeats_broken && !error.is_connect() => {
                self.http.request(sent()?).await
            }
            other => other,
        };
        let response = response.map_err(|error| CallError::Connection(with_causes(&error)))?;
        Ok(self.read(response).await)
    }

    /// Reads the body up to its bound.
    async fn read(&self, response: Response<Incoming>) -> Answer {
        let (parts, mut body) = response.into_parts();
        let bytes_max = self.policy.answer_bytes_max;
        let mut answer = Answer {
            status: parts.status,
            headers: parts.headers,
            body: Vec::new(),
            cut: None,
        };
        while let Some(frame) = body.frame().await {
            let data = match frame.map(Frame::into_data) {
                Ok(Ok(data)) => data,
                Ok(Err(_trailers)) => continue,
                Err(error) => {
                    answer.cut = Some(CallError::Connection(with_causes(&error)));
                    break;
                }
            };
            let left = bytes_max - answer.body.len();
            answer.body.extend_from_slice(&data[..data.len().min(left)]);
            if data.len() > left {
                answer.cut = Some(CallError::TooLong(bytes_max));
                break;
            }
        }
        answer
    }
}

fn request(call: &Call<'_>) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let uri = &call.uri;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::builder()
        .method(call.method.clone())
        .uri(uri.clone())
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, call.content_type);
    for (name, value) in call.headers {
        request = request.header(*name, *value);
    }
    if let Some(signer) = &call.signer {
        let mut headers = vec![(CONTENT_TYPE.as_str(), call.content_type)];
        headers.extend_from_slice(call.headers);
        let outgoing = Outgoing {
            method: call.method.as_str(),
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            host,
            headers: &headers,
            body: &call.body,
        };
        for (name, value) in sign(&outgoing, signer.credentials, signer.scope, signer.now) {
            request = request.header(name, value);
        }
    }
    request.body(Full::new(call.body.clone()))
}

/// HTTP/1.1 with the system's certificates, which are read only if `secure`.
fn connector(secure: bool) -> io::Result<HttpsConnector<HttpConnector>> {
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
