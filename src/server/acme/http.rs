//! HTTP-01 (RFC 8555, 8.3): answers the authority's questions at a port of its own, while an order runs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::challenges::Challenges;
use super::fault::Fault;
use uproar_proto::base::limits::{ACME_HTTP_CONNECTIONS_MAX, ACME_HTTP_TIMEOUT};

const PREFIX: &str = "/.well-known/acme-challenge/";
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// A request of a few headers, and no body.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The open port.
pub(super) struct Answerer {
    listener: TcpListener,
    challenges: Arc<Challenges>,
}

impl Answerer {
    /// Opens the port.
    ///
    /// # Errors
    ///
    /// It is taken, or needs a right that this process has not.
    pub(super) async fn bind(
        address: SocketAddr,
        challenges: &Arc<Challenges>,
    ) -> Result<Self, Fault> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| {
            Fault::here(format!(
                "tls.acme_http_listen: cannot listen on {address}: {error}"
            ))
        })?;
        Ok(Self {
            listener,
            challenges: Arc::clone(challenges),
        })
    }

    /// Answers until it is dropped, with all its connections. A crowd waits for one of a few places.
    pub(super) async fn run(self) -> Infallible {
        let places = Rc::new(Semaphore::new(ACME_HTTP_CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let place = Rc::clone(&places);
            let Ok(permit) = Semaphore::acquire(&place).await else {
                continue;
            };
            let Ok((stream, _peer)) = self.listener.accept().await else {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            };
            permit.forget();
            let challenges = Arc::clone(&self.challenges);
            connections.spawn_local(async move {
                let serving = hyper::server::conn::http1::Builder::new()
                    .keep_alive(false)
                    .max_buf_size(HEAD_BYTES_MAX)
                    .timer(TokioTimer::new())
                    .header_read_timeout(ACME_HTTP_TIMEOUT)
                    .serve_connection(
                        TokioIo::new(stream),
                        service_fn(|request| {
                            let response = response(&request, &challenges);
                            async { Ok::<_, Infallible>(response) }
                        }),
                    );
                // Whoever breaks off gets no answer, and nothing else comes of it.
                let _served = tokio::time::timeout(ACME_HTTP_TIMEOUT, serving).await;
                place.add_permits(1);
            });
        }
    }
}

fn response(request: &Request<Incoming>, challenges: &Challenges) -> Response<Full<Bytes>> {
    let token = request.uri().path().strip_prefix(PREFIX);
    let answer = token
        .filter(|_| request.method() == Method::GET)
        .and_then(|token| challenges.answer(token));
    let (status, kind, text) = match answer {
        Some(answer) => (StatusCode::OK, "application/octet-stream", answer),
        None => (
            StatusCode::NOT_FOUND,
            "text/plain; charset=utf-8",
            "not found\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
