//! Pages without a signature: health, metrics, and one for a person with a browser. The control
//! listener is private.

use std::sync::atomic::Ordering;

use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use rtrb::Consumer;
use tokio::sync::mpsc::Receiver;

use super::body::{Answered, whole};
use super::rooms;
use crate::control::operation::{self, Operation};
use crate::control::state::Control;
use crate::exposition::{Exposition, Family};
use crate::shard::times::Observed;
use uproar_proto::base::limits::{LIVENESS_MAX, ROOMS_MAX};

/// The page for a person with a browser.
const INDEX: &str = "Uproar control plane: the API of Amazon IVS Chat, as in POST /CreateRoom, signed (AWS Signature Version 4).\n\
     Unsigned, by GET:\n\
     /livez     200 if every thread has taken a turn lately\n\
     /readyz    200 if viewers can connect; /startupz is the same\n\
     /metrics   figures in Prometheus' text format\n\
     /console   the operator's page, which asks for an access key\n\
     Viewers connect to the messaging listener.\n";

/// The page at `path`; `None` if there is none.
pub(super) async fn probe(control: &Control, path: &str) -> Option<Answered> {
    let (status, text) = match path {
        "/livez" => alive(control, "ok\n").await,
        "/readyz" | "/startupz" if !control.ready.load(Ordering::Acquire) => {
            let reason = control.waits_for().map(|reason| format!(": {reason}"));
            (503, format!("not ready{}\n", reason.unwrap_or_default()))
        }
        "/readyz" | "/startupz" => match control.is_provided() {
            Ok(()) => alive(control, "ready\n").await,
            Err(reason) => (503, format!("not ready: {reason}\n")),
        },
        "/metrics" => (200, metrics(control).await),
        "/" => (200, INDEX.to_owned()),
        _ => return None,
    };
    let mut response = Response::new(whole(text));
    *response.status_mut() = StatusCode::from_u16(status).expect("a valid status");
    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    Some(response)
}

/// All slots are busy, and this one is reserved for health checks.
pub(super) fn overloaded() -> Answered {
    let text = "all connections of the control listener are busy; try again\n";
    let mut response = Response::new(whole(text));
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

async fn metrics(control: &Control) -> String {
    let mut page = Exposition::new();
    (control.metrics)(&mut page);
    control.admission.render(&mut page);
    control.throttle.render(&mut page, control.clock.now().tick);
    control.registry.store_metrics().render(&mut page);
    control.registry.render(&mut page);
    control.settings.archive.metrics().render(&mut page);
    let mut calls = page.family(&CALLS);
    for ((operation, status), count) in control.requests.borrow().iter() {
        let status = status.to_string();
        calls.add(&[("operation", operation), ("status", &status)], count);
    }
    extension_requests(control, &mut page);
    let mut seconds = page.family(&CALL_SECONDS);
    for ((operation, status), times) in control.call_times.borrow().iter() {
        let labels = [("operation", *operation), ("status", *status)];
        Observed::of([times]).render(&mut seconds, &labels);
    }
    queue(control, &mut page);
    page.single(&CONNECTIONS_MAX, control.gateway.connections_max());
    page.single(&ROOMS_LIMIT, ROOMS_MAX);
    rooms::render(control, &mut page).await;
    control.render_bans(&mut page);
    control.gateway.shared().audit.render(&mut page);
    control.render_rules(&mut page);
    page.into_text()
}

/// Adds what the control thread has to do.
fn queue(control: &Control, page: &mut Exposition) {
    let orders = control.orders.borrow();
    let reviews = control.review_requests.borrow();
    let waiting = [
        ("calls", control.calls()),
        ("commands", orders.as_ref().map_or(0, Receiver::len)),
        ("reviews", reviews.iter().map(Consumer::slots).sum()),
    ];
    let mut series = page.family(&QUEUE);
    for (kind, count) in waiting {
        series.add(&[("kind", kind)], count);
    }
}

/// Adds the calls of the extensions' operations, and members' commands.
fn extension_requests(control: &Control, page: &mut Exposition) {
    let mut counted = page.family(&EXTENSION_REQUESTS);
    for ((name, status), count) in control.requests.borrow().iter() {
        let family = Operation::parse(name).map(Operation::family);
        if family == Some(operation::Family::Extension) {
            let result = if *status < 400 {
                "ok".to_owned()
            } else {
                status.to_string()
            };
            counted.add(&[("operation", name), ("result", &result)], count);
        }
    }
    for ((verb, result), count) in control.member_orders.borrow().iter() {
        counted.add(&[("operation", verb), ("result", result)], count);
    }
}

const EXTENSION_REQUESTS: Family = Family::counter(
    "uproar_extension_requests_total",
    "Calls of the operations that IVS Chat does not have, and members' commands that the control thread has answered, by result.",
);
const QUEUE: Family = Family::gauge(
    "uproar_control_queue",
    "What the control thread has to do: calls and commands that wait for the disk or a shard, and commands and reviews that it has not looked at.",
);
const CALL_SECONDS: Family = Family::histogram(
    "uproar_api_request_seconds",
    "Time from the head of an API call to its answer, by operation and class of status.",
);
const CONNECTIONS_MAX: Family = Family::gauge(
    "uproar_connections_max",
    "Connections of viewers that the server takes at most (quotas.connections).",
);
const ROOMS_LIMIT: Family = Family::gauge("uproar_rooms_max", "Rooms that there may be at most.");

const CALLS: Family = Family::counter(
    "uproar_api_requests_total",
    "Answered calls of the API, by operation and HTTP status.",
);
