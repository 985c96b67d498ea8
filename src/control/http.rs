//! HTTP/1.1 and HTTP/2 around the operations: bodies, signatures, CORS, ids, the request log.

pub(super) mod admission;
mod guarded;
pub(super) mod listen;
mod refused;
mod stream;
mod unread;

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONNECTION, CONTENT_TYPE,
    HOST, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use self::admission::AdmissionSlot;
use self::unread::Unread;
use super::Control;
use super::fault::Fault;
use super::op::{self, Operation};
use uproar_proto::base::limits::LIVENESS_MAX;
use uproar_proto::sigv4::Received;

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// Headers browsers may send; `*` does not cover `authorization`.
const ALLOWED_HEADERS: &str = "*,authorization,content-type,x-amz-content-sha256,x-amz-date,\
     x-amz-security-token,x-amz-user-agent,x-amz-target,amz-sdk-invocation-id,amz-sdk-request";
/// Headers a page's scripts may read; `date` tells an SDK that the device's clock is wrong.
const EXPOSED_HEADERS: &str = "x-amzn-RequestId,x-amzn-ErrorType,date";

/// The page for a person with a browser.
const INDEX: &str = "Uproar control plane: the API of Amazon IVS Chat, as in POST /CreateRoom, signed (AWS Signature Version 4).\n\
     Unsigned, by GET:\n\
     /livez     200 if every thread has taken a turn lately\n\
     /readyz    200 if viewers can connect; /startupz is the same\n\
     /metrics   figures in Prometheus' text format\n\
     Viewers connect to the messaging listener.\n";

type Answered = Response<Full<Bytes>>;

/// State of a call besides its head.
#[derive(Default)]
struct CallContext {
    /// The access key id, once it is authenticated.
    key: Option<String>,
    /// The part of the body that was read.
    body: Bytes,
}

/// The caller of a request.
struct Caller {
    /// The client's address, also behind a trusted proxy.
    ip: IpAddr,
    /// Its connection's admission slot.
    slot: Rc<AdmissionSlot>,
    /// Set when its connection ends while the client may still be sending.
    ends_unread: Rc<Cell<bool>>,
}

async fn answer(control: &Rc<Control>, from: &Caller, request: Request<Incoming>) -> Answered {
    let request_id = request_id();
    let (parts, body) = request.into_parts();
    let mut body = Unread::of(body);
    let response = respond(control, from, &parts, &mut body, &request_id).await;
    with_headers(body.settle(from, &parts, response), &request_id)
}

async fn respond(
    control: &Rc<Control>,
    from: &Caller,
    parts: &Parts,
    body: &mut Unread,
    request_id: &str,
) -> Answered {
    let started = Instant::now();
    let path = parts.uri.path();
    if parts.method == Method::OPTIONS {
        return Response::new(Full::default());
    }
    // hyper omits the body of an answer to HEAD.
    if matches!(parts.method, Method::GET | Method::HEAD)
        && let Some(page) = probe(control, path).await
    {
        return page;
    }
    if from.slot.is_for_health() {
        control.admission.note_refused(from.ip);
        return overloaded();
    }
    let mut context = CallContext::default();
    let found = Operation::find(&parts.method, path);
    let operation = found.as_ref().ok().copied();
    let outcome = match found {
        Ok(operation) => call(control, from, operation, parts, body, &mut context).await,
        Err(fault) => Err(fault),
    };
    let name = operation.map_or("unknown", Operation::name);
    let (status, response) = match outcome {
        Ok((status, body)) => (status, json_response(status, body.as_ref(), None)),
        Err(fault) => {
            refused::log(&fault, &context, parts, operation, from.ip, request_id);
            let (kind, status) = fault.kind();
            (
                status,
                json_response(status, Some(&fault.body()), Some(kind)),
            )
        }
    };
    control.count(name, status);
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (key, ip) = (context.key.as_deref(), from.ip);
    tracing::debug!(operation = name, key, status, micros, %ip, %request_id, "api");
    response
}

async fn call(
    control: &Rc<Control>,
    from: &Caller,
    operation: Operation,
    parts: &Parts,
    body: &mut Unread,
    context: &mut CallContext,
) -> Result<op::Answer, Fault> {
    let headers = signed_headers(parts);
    let received = without_body(parts, &headers);
    let (keys, account) = (&control.settings.keys, &control.settings.account);
    // Authenticate the headers before reading the body.
    let claim = keys.claim(&received, account, control.clock.now())?;
    let body = body.read().await?;
    let received = Received {
        body: &body,
        ..received
    };
    let caller = claim.prove(&received, account, control.clock.now())?;
    context.key = Some(caller.id().to_owned());
    context.body = body.clone();
    // Until here the connection may be displaced by another one.
    let _working = from.slot.work();
    let uri = parts.uri.clone();
    let request = op::Request {
        caller,
        operation,
        uri,
        body,
    };
    op::call(control, request).await
}

/// The headers that a signature may cover.
fn signed_headers(parts: &Parts) -> Vec<(&str, &[u8])> {
    let mut headers: Vec<(&str, &[u8])> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    // HTTP/2 carries the host as `:authority`; some clients sign it by that name, others as the host.
    let authority = parts
        .uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    if let Some(authority) = authority {
        headers.push((":authority", authority));
        if !parts.headers.contains_key(HOST) {
            headers.push(("host", authority));
        }
    }
    headers
}

/// A request for the verifier, before its body is read; `headers` are [`signed_headers`].
fn without_body<'a>(parts: &'a Parts, headers: &'a [(&'a str, &'a [u8])]) -> Received<'a> {
    Received {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers,
        body: &[],
    }
}

/// Health and metrics, unsigned: the control listener is private.
async fn probe(control: &Control, path: &str) -> Option<Answered> {
    let (status, text) = match path {
        "/livez" => alive(control, "ok\n").await,
        "/readyz" | "/startupz" if !control.ready.load(Ordering::Acquire) => {
            (503, "not ready\n".to_owned())
        }
        "/readyz" | "/startupz" => alive(control, "ready\n").await,
        "/metrics" => (200, metrics(control)),
        "/" => (200, INDEX.to_owned()),
        _ => return None,
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = StatusCode::from_u16(status).expect("a valid status");
    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    Some(response)
}

/// All slots are busy, and this one is reserved for health checks.
fn overloaded() -> Answered {
    let text = "all connections of the control listener are busy; try again\n";
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Answers `text` once every thread has taken a turn.
async fn alive(control: &Control, text: &str) -> (u16, String) {
    let silent = control.settings.supervisor.silent().await;
    if silent.is_empty() {
        return (200, text.to_owned());
    }
    let (names, limit) = (silent.join(", "), LIVENESS_MAX);
    (503, format!("no turn within {limit:?}: {names}\n"))
}

fn metrics(control: &Control) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(8192);
    (control.metrics)(&mut out);
    control.admission.render(&mut out);
    control.registry.store_metrics().render(&mut out);
    control.settings.archive.metrics().render(&mut out);
    out.push_str("# HELP uproar_api_requests_total Calls of the control plane.\n");
    out.push_str("# TYPE uproar_api_requests_total counter\n");
    for ((operation, status), count) in control.requests.borrow().iter() {
        let _infallible = writeln!(
            out,
            "uproar_api_requests_total{{operation=\"{operation}\",status=\"{status}\"}} {count}"
        );
    }
    out
}

fn json_response(
    status: u16,
    body: Option<&serde_json::Value>,
    error_type: Option<&'static str>,
) -> Answered {
    let bytes = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let mut response = Response::new(Full::new(bytes));
    *response.status_mut() = StatusCode::from_u16(status).expect("a valid status");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(kind) = error_type {
        headers.insert(ERROR_TYPE, HeaderValue::from_static(kind));
    }
    response
}

fn with_headers(mut response: Answered, request_id: &str) -> Answered {
    let headers = response.headers_mut();
    let fixed = [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (ACCESS_CONTROL_ALLOW_METHODS, "GET,POST,DELETE,OPTIONS"),
        (ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    response
}

/// Shaped like a version 4 UUID.
fn request_id() -> String {
    let random = fastrand::u128(..);
    let versioned = random & !(0xF << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{versioned:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}
