//! From a request to its answer: probes, authentication, the operation, the line of the log.

use std::net::IpAddr;
use std::rc::Rc;

use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};

use super::body::{Answered, whole};
use super::console;
use super::emulate;
use super::exchange::{CallContext, Caller, signed_headers, without_body};
use super::probe::{overloaded, probe};
use super::refused;
use super::response::{json_response, request_id, with_headers};
use super::tail::tailing;
use super::unread::Unread;
use crate::control::access;
use crate::control::fault::Fault;
use crate::control::op;
use crate::control::op::request::{Answer, Request as Call};
use crate::control::op::tail::Tail;
use crate::control::operation::{Family, Operation};
use crate::control::state::Control;
use crate::logging::{Kind, local};
use uproar_proto::sigv4::{Received, SignatureFault};

/// Answers one request, whatever it is.
pub(super) async fn answer(
    control: &Rc<Control>,
    from: &Caller,
    request: Request<Incoming>,
) -> Answered {
    let request_id = request_id();
    let (parts, body) = request.into_parts();
    let mut body = Unread::of(body);
    let response = respond(control, from, &parts, &mut body, &request_id).await;
    let is_last = control.phase.is_ending();
    let response = body.settle(from, &parts, is_last, response);
    if emulate::owns(control, parts.uri.path()) {
        return emulate::with_headers(response);
    }
    with_headers(response, &request_id)
}

async fn respond(
    control: &Rc<Control>,
    from: &Caller,
    parts: &Parts,
    body: &mut Unread,
    request_id: &str,
) -> Answered {
    let started = control.clock.now().tick;
    let path = parts.uri.path();
    if emulate::owns(control, path) && !from.slot.is_for_health() {
        return emulate::answer(control, parts, body).await;
    }
    if parts.method == Method::OPTIONS {
        return Response::new(whole(Bytes::new()));
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
    if let Some(page) = console::page(control, &parts.method, path) {
        return page;
    }
    let mut context = CallContext::default();
    let found = find(control, &parts.method, path);
    let operation = found.as_ref().ok().copied();
    let outcome = match found {
        Ok(operation) => call(control, from, operation, parts, body, &mut context).await,
        Err(fault) => Err(fault),
    };
    let name = operation.map_or("unknown", Operation::name);
    let (status, response) = match outcome {
        Ok(Outcome::Told((status, body))) => (status, json_response(status, body.as_ref(), None)),
        Ok(Outcome::Tail(tail)) => {
            let listening = from.calls.begin();
            (200, tailing(tail, control.phase.watch(), listening))
        }
        Err(fault) => {
            refused::log(&fault, &context, parts, operation, from.ip, request_id);
            let ((kind, status), body) = (fault.kind(), fault.body());
            (status, json_response(status, Some(&body), Some(kind)))
        }
    };
    control.count(name, status);
    let took = control.clock.now().tick.since(started);
    control.took(name, status, took);
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let (key, ip) = (context.key.as_deref(), from.ip);
    if operation.is_some_and(Operation::acts_on_server) {
        log_order(name, key, status, ip, request_id);
    }
    tracing::debug!(operation = name, key, status, micros, %ip, %request_id, "api");
    response
}

/// Tells who has asked for an act on the whole server.
fn log_order(operation: &str, key: Option<&str>, status: u16, ip: IpAddr, request_id: &str) {
    if let Some(key) = key
        && let Some(suppressed) = local::admit(Kind::ApiOrder)
    {
        tracing::info!(%ip, operation, key, status, request_id, suppressed, "ordered by the API");
    }
}

async fn call(
    control: &Rc<Control>,
    from: &Caller,
    operation: Operation,
    parts: &Parts,
    body: &mut Unread,
    context: &mut CallContext,
) -> Result<Outcome, Fault> {
    if let Some(caller) = bearer(control, from, operation, parts)? {
        return carry_out(
            control,
            from,
            (operation, caller),
            parts,
            body.read().await?,
            context,
        )
        .await;
    }
    let headers = signed_headers(parts);
    let received = without_body(parts, &headers);
    let (keys, account) = (&control.settings.keys, &control.settings.account);
    // Authenticate the headers before reading the body.
    let claim = keys.claim(&received, account, control.clock.now_of_callers())?;
    let body = body.read().await?;
    let received = Received {
        body: &body,
        ..received
    };
    let caller = claim.prove(&received, account, control.clock.now_of_callers())?;
    carry_out(control, from, (operation, caller), parts, body, context).await
}

/// The caller that names key and secret instead of a signature, for who has no AWS SDK; `None`: the request does not.
fn bearer(
    control: &Control,
    from: &Caller,
    operation: Operation,
    parts: &Parts,
) -> Result<Option<Rc<access::Caller>>, Fault> {
    let is_taken = matches!(
        operation,
        Operation::CreateChatToken | Operation::CreateRoom
    ) || operation.family() == Family::Extension;
    let value = parts
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let credentials = value.and_then(|value| value.strip_prefix("Bearer "));
    let Some(credentials) = credentials.filter(|_| is_taken && control.registry.has_extensions())
    else {
        return Ok(None);
    };
    if !from.is_private {
        return Err(Fault::Body(
            "A secret is taken over TLS, or from this machine, alone",
        ));
    }
    let keys = &control.settings.keys;
    let caller = keys.bearer(credentials, control.clock.now_of_callers());
    caller
        .map(Some)
        .ok_or_else(|| SignatureFault::UnknownKey.into())
}

async fn carry_out(
    control: &Rc<Control>,
    from: &Caller,
    (operation, caller): (Operation, Rc<access::Caller>),
    parts: &Parts,
    body: Bytes,
    context: &mut CallContext,
) -> Result<Outcome, Fault> {
    context.key = Some(caller.id().to_owned());
    context.body = body.clone();
    // Until here the connection may be displaced by another one.
    let _working = from.slot.work();
    let uri = parts.uri.clone();
    let request = Call {
        caller,
        operation,
        uri,
        body,
    };
    if operation == Operation::TailRoom {
        return op::tail(control, request).await.map(Outcome::Tail);
    }
    op::call(control, request).await.map(Outcome::Told)
}

/// The operation of a path; those that the managed service does not have can be switched off.
fn find(control: &Control, method: &Method, path: &str) -> Result<Operation, Fault> {
    let found = Operation::find(method, path);
    if Operation::is_own_path(path) {
        // What is switched off has no method either.
        return match Operation::at(path) {
            Some(operation) if control.offers(operation) => found,
            Some(operation) => Err(op::switched_off(operation)),
            None => Err(Fault::UnknownOperation),
        };
    }
    found
}

/// What follows a call that was done.
enum Outcome {
    /// Status and body.
    Told(Answer),
    /// Lines as they come.
    Tail(Tail),
}
