//! The requests of one connection, by HTTP/1.1 or HTTP/2, until it ends, is idle for too long, or
//! its listener is not served any more.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::net::IpAddr;
use std::rc::Rc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::answer::answer;
use super::calls::{Calls, last_call};
use super::exchange::Caller;
use super::guarded::Guarded;
use super::stream::SharedStream;
use crate::control::admission::AdmissionSlot;
use crate::control::phase::PhaseWatch;
use crate::control::state::Control;
use crate::logging::{Kind, local};
use uproar_proto::base::limits::{
    CONTROL_HEAD_BYTES_MAX, CONTROL_IDLE_MAX, HANDSHAKE_TIMEOUT, HEAD_FIELDS_MAX,
};
use uproar_proto::framing::Doubt;
use uproar_proto::proxy::TrustedProxies;

/// Calls in progress on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// Spawns onto the control thread's `LocalSet`.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As HTTP defines it: the answers are sent.
    Orderly,
    /// Our answer announces the end while the client may still be sending.
    Unread,
    /// A deadline passed, or the client broke off.
    Cut,
}

/// The other side of a connection.
pub(super) struct Client {
    pub(super) control: Rc<Control>,
    pub(super) slot: Rc<AdmissionSlot>,
    /// The peer's address; the client's, once a trusted proxy has named it.
    pub(super) ip: IpAddr,
    /// Whether nobody between the peer and this server can read along.
    pub(super) is_private: bool,
}

impl Client {
    fn parts(self) -> (Rc<Control>, Rc<AdmissionSlot>, (IpAddr, bool)) {
        (self.control, self.slot, (self.ip, self.is_private))
    }
}

/// Answers one connection's requests until it ends, is idle for too long, or the listener is not
/// served any more. `stream` is what `socket` carries.
pub(super) async fn serve_http(
    client: Client,
    socket: SharedStream,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    phase: PhaseWatch,
) -> End {
    let (control, slot, (ip, is_private)) = client.parts();
    let calls = Calls::default();
    // hyper bounds neither the wait for a first byte nor an idle HTTP/2 connection.
    let deadline = Rc::new(Cell::new(Instant::now() + HANDSHAKE_TIMEOUT));
    let (counts, refreshed) = (calls.clone(), Rc::clone(&deadline));
    let (doubt, ends_unread) = (Rc::default(), Rc::new(Cell::new(false)));
    let stream = Guarded::new(stream, Rc::clone(&doubt));
    let (owner, unread) = (Rc::clone(&control), Rc::clone(&ends_unread));
    let service = service_fn(move |request: Request<Incoming>| {
        let (control, refreshed) = (Rc::clone(&control), Rc::clone(&refreshed));
        let counted = counts.begin();
        let caller = Caller {
            ip: client_ip(&control.admission.trusted(), ip, request.headers()),
            is_private,
            slot: Rc::clone(&slot),
            ends_unread: Rc::clone(&unread),
            calls: counts.clone(),
        };
        async move {
            let answered = answer(&control, &caller, request).await;
            drop(counted);
            caller.slot.rest();
            refreshed.set(Instant::now() + CONTROL_IDLE_MAX);
            Ok::<_, Infallible>(answered)
        }
    });
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut last_call = std::pin::pin!(last_call(phase, socket, &calls));
    let mut ending = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                return match ended {
                    Ok(()) if ends_unread.get() => End::Unread,
                    Ok(()) => End::Orderly,
                    Err(error) => classify_error(&owner, ip, &*error, doubt.get()),
                };
            }
            () = tokio::time::sleep_until(deadline.get()) => {
                if calls.in_progress() {
                    deadline.set(Instant::now() + CONTROL_IDLE_MAX);
                } else if deadline.get() <= Instant::now() {
                    return End::Cut;
                }
            }
            () = &mut last_call, if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Decides how a connection ends after an error of the HTTP library, which has already answered 400
/// or 431 to a malformed request.
fn classify_error(
    control: &Control,
    ip: IpAddr,
    error: &(dyn Error + Send + Sync + 'static),
    doubt: Option<Doubt>,
) -> End {
    let Some(malformed) = error
        .downcast_ref::<hyper::Error>()
        .filter(|error| error.is_parse())
    else {
        tracing::debug!(%error, "control: connection ended");
        return End::Cut;
    };
    let status = if malformed.is_parse_too_large() {
        431
    } else {
        400
    };
    control.count("unknown", status);
    if let Some(suppressed) = local::admit(Kind::ControlMalformed) {
        let reason = doubt.map_or_else(|| malformed.to_string(), |doubt| doubt.to_string());
        tracing::warn!(%ip, status, reason, suppressed, "control: no HTTP request");
    }
    End::Unread
}

/// The address a request comes from.
fn client_ip(trusted: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    if !trusted.trusts(peer) {
        return peer;
    }
    let values: Vec<&[u8]> = headers
        .get_all(trusted.header().name())
        .iter()
        .map(hyper::header::HeaderValue::as_bytes)
        .collect();
    trusted.viewer(peer, values.into_iter())
}

fn builder() -> auto::Builder<LocalExecutor> {
    let mut builder = auto::Builder::new(LocalExecutor);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(CONTROL_IDLE_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .max_buf_size(CONTROL_HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(CONTROL_HEAD_BYTES_MAX).expect("72 KiB"))
        .max_concurrent_streams(STREAMS_MAX);
    builder
}
