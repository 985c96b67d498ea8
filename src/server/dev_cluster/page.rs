//! The page of `uproar dev --cluster`: who runs, who is home of the room, and buttons to stop and start them.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;

use super::fault::DevClusterError;
use super::fetch;
use super::member::{Members, Order, Shown};
use super::ports::{self, PAGE, local};
use super::status::Status;
use crate::server::cluster::ClusterReport;
use crate::server::demo::{FILES, SCRIPT};

/// Pause after a failed accept, mostly for lack of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// Viewers on the page connect to the nodes' ports.
const CONTENT_SECURITY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws:; \
     img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Path, content type, content; beside what it shares with the page of `uproar dev`.
const OWN: &[(&str, &str, &[u8])] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_bytes!("page/index.html"),
    ),
    (
        "/demo/cluster.js",
        SCRIPT,
        include_bytes!("page/cluster.js"),
    ),
    (
        "/demo/cluster.css",
        "text/css; charset=utf-8",
        include_bytes!("page/cluster.css"),
    ),
];

/// What the page shows, once a second.
#[derive(Debug, Serialize)]
struct State<'a> {
    processes: Vec<Shown<'a>>,
    /// What a node says of the cluster; `None`: none answers.
    status: Option<&'a ClusterReport>,
}

/// Status, content type, content.
type Answer = (StatusCode, &'static str, Vec<u8>);

/// Binds the page's port.
///
/// # Errors
///
/// It is taken.
pub(super) async fn bind() -> Result<TcpListener, DevClusterError> {
    let bound = TcpListener::bind(local(PAGE)).await;
    bound.map_err(|cause| DevClusterError::Port { port: PAGE, cause })
}

/// Serves the page for as long as it is polled.
pub(super) async fn serve(
    listener: TcpListener,
    members: Rc<RefCell<Members>>,
    status: Rc<Status>,
) -> Infallible {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        let (members, status) = (Rc::clone(&members), Rc::clone(&status));
        let service = service_fn(move |request: Request<Incoming>| {
            let (members, status) = (Rc::clone(&members), Rc::clone(&status));
            async move {
                let answer = answer(&request, &members, &status).await;
                Ok::<_, Infallible>(response(answer))
            }
        });
        tokio::task::spawn_local(async move {
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // A browser that has gone.
            let _gone = served.await;
        });
    }
}

async fn answer(
    request: &Request<Incoming>,
    members: &RefCell<Members>,
    status: &Status,
) -> Answer {
    if let Err(why) = must_be_own(request.headers()) {
        return (StatusCode::FORBIDDEN, TEXT, why.as_bytes().to_vec());
    }
    let (path, query) = (
        request.uri().path(),
        request.uri().query().unwrap_or_default(),
    );
    match (request.method(), path) {
        (&Method::GET, "/cluster") => {
            let status = status.latest();
            let mut members = members.borrow_mut();
            let state = State {
                processes: members.shown(),
                status: status.as_ref(),
            };
            let state = serde_json::to_vec(&state).expect("texts and numbers");
            (StatusCode::OK, JSON, state)
        }
        (&Method::GET, "/demo/token") => token(query).await,
        (&Method::GET, _) => file(path),
        (&Method::POST, _) => order(path, query, members),
        _ => (
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            b"GET or POST\n".to_vec(),
        ),
    }
}

/// A page from elsewhere must not stop brokers here: neither by a form, nor under a name that leads to this machine.
fn must_be_own(headers: &HeaderMap) -> Result<(), &'static str> {
    let own = [format!("127.0.0.1:{PAGE}"), format!("localhost:{PAGE}")];
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    if !own.iter().any(|own| host == Some(own.as_bytes())) {
        return Err("this page is http://127.0.0.1:8085/ and has no other name\n");
    }
    let origin = headers.get(ORIGIN).map(HeaderValue::as_bytes);
    let is_own = |origin: &[u8]| {
        own.iter()
            .any(|own| origin == format!("http://{own}").as_bytes())
    };
    if origin.is_some_and(|origin| !is_own(origin)) {
        return Err("only this page may order anything\n");
    }
    Ok(())
}

fn file(path: &str) -> Answer {
    let mut all = OWN.iter().chain(FILES);
    match all.find(|(name, ..)| *name == path) {
        Some((_, content_type, content)) => (StatusCode::OK, content_type, content.to_vec()),
        None => (StatusCode::NOT_FOUND, TEXT, b"no such page\n".to_vec()),
    }
}

/// A token by the node that `query` names: it is good on every node.
async fn token(query: &str) -> Answer {
    let number = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("node=")?.parse().ok());
    let Some(number) = number.filter(|number| (1..=ports::MEMBERS).contains(number)) else {
        return (
            StatusCode::BAD_REQUEST,
            TEXT,
            b"node must be 1, 2 or 3\n".to_vec(),
        );
    };
    let target = format!("/demo/token?{query}");
    match fetch::get(ports::member(number).messaging, &target).await {
        Ok((status, body)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
            (status, JSON, body)
        }
        Err(error) => {
            let why = format!("node-{number} does not answer: {error}\n");
            (StatusCode::BAD_GATEWAY, TEXT, why.into_bytes())
        }
    }
}

/// `/cluster/stop?node-1` and the like.
fn order(path: &str, name: &str, members: &RefCell<Members>) -> Answer {
    let order = match path {
        "/cluster/stop" => Order::Stop,
        "/cluster/kill" => Order::Kill,
        "/cluster/start" => Order::Start,
        _ => {
            return (
                StatusCode::NOT_FOUND,
                TEXT,
                b"stop, kill or start\n".to_vec(),
            );
        }
    };
    let done = members.borrow_mut().order(name, order);
    match done {
        Ok(()) => (StatusCode::OK, JSON, b"{}".to_vec()),
        Err(why) => (StatusCode::CONFLICT, TEXT, format!("{why}\n").into_bytes()),
    }
}

fn response((status, content_type, content): Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(content)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, CONTENT_SECURITY),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
