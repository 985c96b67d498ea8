//! The endpoints of an emulator, which only `uproar dev` has: `/emulator/reset`, `/emulator/clock`, `/emulator/frames`.
//!
//! They need no signature, since the key of `dev` is public. So who may call them is decided by where a call comes from: not
//! from a page in a browser. A page's calls carry `Origin`; those to its own host need not, but then `Host` has the name
//! that the page was loaded from, which is no name of this machine, wherever it resolves to (DNS rebinding).

use std::rc::Rc;
use std::time::Duration;

use hyper::Method;
use hyper::header::{
    ALLOW, CACHE_CONTROL, HOST, HeaderName, HeaderValue, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::Answered;
use super::response::json_response;
use super::unread::Unread;
use crate::clock;
use crate::control::emulator::EmulatorFault;
use crate::control::state::Control;
use crate::shard::frames::{self, Query};
use uproar_proto::base::id::RoomId;
use uproar_proto::base::limits::EMULATOR_FRAMES_ANSWER_MAX;
use uproar_proto::http::is_own_name;
use uproar_proto::sigv4::percent_decode;

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Whether `path` is an emulator's, and this is one.
pub(super) fn owns(control: &Control, path: &str) -> bool {
    control.settings.emulator.is_some() && (path == "/emulator" || path.starts_with("/emulator/"))
}

/// Adds the headers of every answer: no page of another origin may read it.
pub(super) fn with_headers(mut response: Answered) -> Answered {
    let headers = response.headers_mut();
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Answers a call of an endpoint that [`owns`].
pub(super) async fn answer(control: &Rc<Control>, parts: &Parts, body: &mut Unread) -> Answered {
    if let Some(reason) = refusal(parts) {
        return problem(403, &reason);
    }
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/emulator/clock") => time(),
        (&Method::POST, "/emulator/clock") => advance(control, body).await,
        (&Method::POST, "/emulator/reset") => reset(control).await,
        (&Method::GET, "/emulator/frames") => kept_frames(parts.uri.query().unwrap_or_default()),
        (_, "/emulator/frames") => not_allowed("GET"),
        (_, "/emulator/clock") => not_allowed("GET, POST"),
        (_, "/emulator/reset") => not_allowed("POST"),
        _ => problem(
            404,
            "the endpoints are POST /emulator/reset, GET and POST /emulator/clock, GET /emulator/frames",
        ),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: f64,
}

async fn advance(control: &Rc<Control>, body: &mut Unread) -> Answered {
    let Ok(body) = body.read().await else {
        return problem(400, "the body cannot be read, or is too long");
    };
    let wanted = serde_json::from_slice(&body).map_err(|error| error.to_string());
    let by = wanted.and_then(|wanted: Advance| {
        Duration::try_from_secs_f64(wanted.advance_seconds).map_err(|error| error.to_string())
    });
    let by = match by {
        Ok(by) => by,
        Err(error) => {
            let example = r#"{"advance_seconds": 3600}"#;
            return problem(400, &format!("the body must be as {example}: {error}"));
        }
    };
    match whole(control, move |control| advance_clock(control, by)).await {
        Ok(()) => time(),
        Err(fault @ EmulatorFault::TooFar) => problem(400, &fault.to_string()),
        Err(fault) => problem(503, &fault.to_string()),
    }
}

async fn advance_clock(control: Rc<Control>, by: Duration) -> Result<(), EmulatorFault> {
    match &control.settings.emulator {
        Some(emulator) => control.advance_clock(emulator, by).await.map(drop),
        None => Ok(()),
    }
}

async fn reset(control: &Rc<Control>) -> Answered {
    let done = whole(control, |control| async move {
        match &control.settings.emulator {
            Some(emulator) => control.reset(emulator).await,
            None => Ok(std::collections::BTreeMap::new()),
        }
    });
    match done.await {
        Ok(rooms) => json_response(200, Some(&json!({"rooms": rooms})), None),
        Err(fault) => problem(503, &fault.to_string()),
    }
}

/// Does a change of the whole server to its end, whether or not its caller stays.
async fn whole<T: 'static, F: Future<Output = Result<T, EmulatorFault>> + 'static>(
    control: &Rc<Control>,
    change: impl FnOnce(Rc<Control>) -> F,
) -> Result<T, EmulatorFault> {
    let open = Rc::clone(&control.open_calls);
    let change = change(Rc::clone(control));
    let task = tokio::task::spawn_local(async move {
        let done = change.await;
        drop(open);
        done
    });
    // A panic ends the process.
    task.await.expect("it is not cancelled")
}

fn kept_frames(query: &str) -> Answered {
    let query = match parse(query) {
        Ok(query) => query,
        Err(error) => return problem(400, &error),
    };
    match frames::answer(&query) {
        Some(answer) => json_response(200, Some(&answer), None),
        None => problem(
            409,
            "no frames are kept: start the server with --frames COUNT, as in --frames 1000",
        ),
    }
}

fn parse(text: &str) -> Result<Query, String> {
    let mut query = Query {
        count: EMULATOR_FRAMES_ANSWER_MAX,
        ..Query::default()
    };
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = String::from_utf8(percent_decode(value))
            .map_err(|_| format!("{name} must be UTF-8, percent-encoded"))?;
        let number = || {
            let number = value.parse::<u64>();
            number.map_err(|_| format!("{name} must be a whole number; it is {value}"))
        };
        match name {
            "room" => {
                let id = value.rsplit('/').next().and_then(RoomId::parse);
                let id =
                    id.ok_or_else(|| format!("room must be an ARN or its id; it is {value}"))?;
                query.room = Some(id);
            }
            "user" => query.user = Some(value),
            "from" => query.from = number()?,
            "count" => {
                let count = usize::try_from(number()?).unwrap_or(usize::MAX);
                query.count = count.min(EMULATOR_FRAMES_ANSWER_MAX);
            }
            _ => {
                return Err(format!(
                    "{name} is not known; a query has room, user, from and count"
                ));
            }
        }
    }
    Ok(query)
}

fn time() -> Answered {
    let time = json!({
        "now": clock::unix_now().rfc3339(),
        "ahead_seconds": clock::ahead().as_secs_f64(),
    });
    json_response(200, Some(&time), None)
}

fn not_allowed(methods: &'static str) -> Answered {
    let mut response = problem(405, &format!("this endpoint takes {methods}"));
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn problem(status: u16, message: &str) -> Answered {
    json_response(
        status,
        Some(&Value::from_iter([("message", message)])),
        None,
    )
}

/// Why a call may come from a page in a browser.
fn refusal(parts: &Parts) -> Option<String> {
    for name in [ORIGIN, SITE] {
        if parts.headers.contains_key(&name) {
            return Some(format!(
                "{name} is there: pages in a browser may not use an emulator's endpoints"
            ));
        }
    }
    let authority = parts
        .uri
        .authority()
        .map(hyper::http::uri::Authority::as_str);
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = authority.or(host).unwrap_or_default();
    (!is_own_name(host)).then(|| {
        format!(
            "Host is {host}: call an emulator's endpoints by an address, as localhost, or by a name without dots, as containers have"
        )
    })
}
