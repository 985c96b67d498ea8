//! A call to a handler: pooled HTTP/1.1 connections, TLS, signatures, a bound for the answer.

use std::io;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::settings::Target;
use crate::control::aws_client::{AGENT, chain, connector};
use uproar_proto::base::clock::UnixTime;
use uproar_proto::base::limits::{
    REVIEW_ANSWER_BYTES_MAX, REVIEW_IDLE_MAX, REVIEW_IN_FLIGHT_PER_HANDLER_MAX,
};
use uproar_proto::sigv4::Scope;
use uproar_proto::sigv4::sign::{Outgoing, sign};

const JSON: &str = "application/json";
const INVOCATION_TYPE: (&str, &str) = ("x-amz-invocation-type", "RequestResponse");
/// Set when Lambda's answer is the function's error, not its result.
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");

/// Why a handler gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallFault {
    /// The connection failed or broke.
    #[error("{0}")]
    Connection(String),
    /// A status other than 200.
    #[error("HTTP status {0}")]
    Status(StatusCode),
    /// The function failed.
    #[error("the function failed: {0}")]
    Function(String),
    /// The answer is too long.
    #[error("the answer is longer than {REVIEW_ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// The request cannot be written as HTTP.
    #[error("the request is malformed: {0}")]
    Request(hyper::http::Error),
}

/// A handler's answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Complete, unless there is a fault.
    pub(super) body: Vec<u8>,
    /// The reason why only a denial in it is valid.
    pub(super) fault: Option<CallFault>,
}

/// Calls handlers.
#[derive(Debug)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    /// A client with the system's certificates, which are read only if `secure`.
    pub(super) fn new(secure: bool) -> io::Result<Self> {
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(REVIEW_IDLE_MAX)
            .pool_max_idle_per_host(REVIEW_IN_FLIGHT_PER_HANDLER_MAX)
            .build(connector(secure)?);
        Ok(Self { http })
    }

    /// Sends `body` and returns the handler's answer, as far as it arrived. The other side may just have closed a
    /// kept connection: then the call is repeated once.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection; the handler may have seen the message.
    pub(super) async fn call(
        &self,
        target: &Target,
        body: &Bytes,
        now: UnixTime,
    ) -> Result<Answer, CallFault> {
        let request = || request(target, body, now).map_err(CallFault::Request);
        let response = match self.http.request(request()?).await {
            Err(error) if !error.is_connect() => self.http.request(request()?).await,
            other => other,
        };
        let response = response.map_err(|error| CallFault::Connection(chain(&error)))?;
        let (status, headers) = (response.status(), response.headers());
        let failed = headers
            .get(FUNCTION_ERROR)
            .map(|kind| CallFault::Function(String::from_utf8_lossy(kind.as_bytes()).into_owned()));
        let refused = (status != StatusCode::OK).then_some(CallFault::Status(status));
        let (body, cut) = collect(response.into_body()).await;
        Ok(Answer {
            body,
            fault: refused.or(failed).or(cut),
        })
    }
}

/// The body up to its bound, and the reason if it is incomplete.
async fn collect(mut body: Incoming) -> (Vec<u8>, Option<CallFault>) {
    let mut collected = Vec::new();
    while let Some(frame) = body.frame().await {
        let data = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(_trailers)) => continue,
            Err(error) => return (collected, Some(CallFault::Connection(chain(&error)))),
        };
        let left = REVIEW_ANSWER_BYTES_MAX - collected.len();
        collected.extend_from_slice(&data[..data.len().min(left)]);
        if data.len() > left {
            return (collected, Some(CallFault::TooLong));
        }
    }
    (collected, None)
}

fn request(
    target: &Target,
    body: &Bytes,
    now: UnixTime,
) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    let uri = &target.uri;
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::post(uri)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, JSON)
        .header(INVOCATION_TYPE.0, INVOCATION_TYPE.1);
    if let Some((region, credentials)) = &target.signed {
        let outgoing = Outgoing {
            method: "POST",
            path: uri.path(),
            query: uri.query().unwrap_or_default(),
            host,
            headers: &[(CONTENT_TYPE.as_str(), JSON), INVOCATION_TYPE],
            body,
        };
        let scope = Scope {
            region,
            service: "lambda",
        };
        for (name, value) in sign(&outgoing, credentials, scope, now) {
            request = request.header(name, value);
        }
    }
    request.body(Full::new(body.clone()))
}
