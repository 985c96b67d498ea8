//! Connections of the control listener: accept, bounds on number and idle time, orderly close.

use std::cell::Cell;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answer::answer;
use super::exchange::Caller;
use super::guarded::Guarded;
use super::stream::SharedStream;
use crate::control::admission::AdmissionSlot;
use crate::control::state::Control;
use crate::logging::{Kind, local};
use uproar_proto::base::limits::{
    CONTROL_DRAIN_MAX, CONTROL_HEAD_BYTES_MAX, CONTROL_IDLE_MAX, HANDSHAKE_TIMEOUT,
    HEAD_FIELDS_MAX, PROXY_HEADER_BYTES_MAX,
};
use uproar_proto::framing::Doubt;
use uproar_proto::http;
use uproar_proto::proxy::{self, Preface, TrustedProxies};

const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const DRAIN_LOOK: Duration = Duration::from_millis(5);
/// Connections accepted before existing ones are polled: fewer than the runtime polls of them meanwhile, so that no
/// connection is displaced before its first bytes were read.
const ACCEPTS_IN_A_ROW: u32 = 16;
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

/// Counts one item for as long as it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Serves until `stop` is ready, then finishes the calls in progress.
pub(in crate::control) async fn serve(
    control: Rc<Control>,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let acceptor = tls.map(TlsAcceptor::from);
    let admission = Rc::clone(&control.admission);
    let (stopping, stops) = watch::channel(());
    let overdue = tokio::task::spawn_local(local::log_overdue());
    let mut stop = std::pin::pin!(stop);
    let mut accepts = 0_u32;
    loop {
        if accepts >= ACCEPTS_IN_A_ROW {
            accepts = 0;
            tokio::task::yield_now().await;
        }
        accepts += 1;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(suppressed) = local::admit(Kind::ControlAccept) {
                    tracing::warn!(%error, suppressed, "control: accept failed; retried every 50 ms");
                }
                admission.accept_failed();
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let ip = peer.ip().to_canonical();
        let Some(slot) = admission.admit(ip) else {
            continue;
        };
        let _nagle_stays = stream.set_nodelay(true);
        let accepted = AcceptedConnection {
            control: Rc::clone(&control),
            stream: SharedStream::new(stream),
            slot: Rc::new(slot),
            ip,
        };
        tokio::task::spawn_local(serve_connection(accepted, acceptor.clone(), stops.clone()));
    }
    overdue.abort();
    drop((listener, stopping));
    let deadline = Instant::now() + CONTROL_DRAIN_MAX;
    while admission.open() > 0 && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    Ok(())
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// As HTTP defines it: the answers are sent.
    Orderly,
    /// Our answer announces the end while the client may still be sending.
    Unread,
    /// A deadline passed, or the client broke off.
    Cut,
}

/// A connection that has not sent anything yet.
struct AcceptedConnection {
    control: Rc<Control>,
    stream: SharedStream,
    slot: Rc<AdmissionSlot>,
    // The peer's address; the client's, once a trusted proxy has named it.
    ip: IpAddr,
}

/// Serves a connection from its first byte to its last.
async fn serve_connection(
    accepted: AcceptedConnection,
    acceptor: Option<TlsAcceptor>,
    stops: watch::Receiver<()>,
) {
    let (slot, stream) = (Rc::clone(&accepted.slot), accepted.stream.clone());
    let mut stopped = stops.clone();
    let end = tokio::select! {
        end = establish_and_serve(accepted, acceptor, stops) => end,
        () = slot.displaced() => End::Cut,
    };
    match end {
        End::Orderly => {}
        End::Unread => {
            tokio::select! {
                () = stream.linger() => {}
                () = slot.displaced() => {}
                // The sender was dropped: the server stops.
                _ = stopped.changed() => {}
            }
            stream.reset_if_unread();
        }
        End::Cut => stream.reset_if_unread(),
    }
}

async fn establish_and_serve(
    mut accepted: AcceptedConnection,
    acceptor: Option<TlsAcceptor>,
    stops: watch::Receiver<()>,
) -> End {
    if accepted.control.admission.trusted().trusts(accepted.ip) {
        let header_read = tokio::time::timeout(HANDSHAKE_TIMEOUT, read_preface(&mut accepted));
        if !matches!(header_read.await, Ok(Ok(()))) {
            accepted.control.admission.note_malformed();
            return End::Cut;
        }
    }
    let (stream, ip) = (accepted.stream.clone(), accepted.ip);
    let Some(acceptor) = acceptor else {
        return serve_http(accepted, stream, stops).await;
    };
    let handshaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls_handshake(stream, acceptor));
    match handshaken.await {
        Ok(Ok(Some(stream))) => serve_http(accepted, stream, stops).await,
        Ok(Ok(None)) => {
            if let Some(suppressed) = local::admit(Kind::ControlTls) {
                tracing::warn!(%ip, suppressed, "control: a request without TLS was refused");
            }
            End::Unread
        }
        Ok(Err(error)) => {
            if let Some(suppressed) = local::admit(Kind::ControlTls) {
                tracing::warn!(%ip, %error, suppressed, "control: TLS handshake failed");
            }
            // An alert may be on its way.
            End::Unread
        }
        Err(_elapsed) => End::Cut,
    }
}

/// A TLS connection; `None` if the client speaks HTTP without TLS and got an answer that says so.
async fn tls_handshake(
    mut stream: SharedStream,
    acceptor: TlsAcceptor,
) -> io::Result<Option<TlsStream<SharedStream>>> {
    if !stream.first_byte().await?.is_some_and(http::is_without_tls) {
        return acceptor.accept(stream).await.map(Some);
    }
    let mut answer = Vec::new();
    let text = b"This port speaks TLS: use https://\n";
    http::plain(&mut answer, 400, "text/plain; charset=utf-8", text);
    stream.write_all(&answer).await?;
    Ok(None)
}

/// Reads a trusted proxy's header, which names the client.
async fn read_preface(accepted: &mut AcceptedConnection) -> io::Result<()> {
    let mut received = bytes::BytesMut::new();
    loop {
        match proxy::preface(&received).map_err(io::Error::other)? {
            Preface::Incomplete => {}
            Preface::Absent => break,
            Preface::Header { len, source } => {
                accepted.ip = source.unwrap_or(accepted.ip);
                let _header = received.split_to(len);
                break;
            }
        }
        received.reserve(PROXY_HEADER_BYTES_MAX);
        if accepted.stream.read_buf(&mut received).await? == 0 {
            // A health check of the port: no header is missing.
            break;
        }
    }
    accepted.slot.identify(accepted.ip);
    accepted.stream.put_back(received.freeze());
    Ok(())
}

/// Answers one connection's requests until it ends, is idle for too long, or the server stops.
async fn serve_http(
    accepted: AcceptedConnection,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    mut stops: watch::Receiver<()>,
) -> End {
    let AcceptedConnection {
        control, slot, ip, ..
    } = accepted;
    let in_progress = Rc::new(Cell::new(0_usize));
    // hyper bounds neither the wait for a first byte nor an idle HTTP/2 connection.
    let deadline = Rc::new(Cell::new(Instant::now() + HANDSHAKE_TIMEOUT));
    let (calls, refreshed) = (Rc::clone(&in_progress), Rc::clone(&deadline));
    let (doubt, ends_unread) = (Rc::default(), Rc::new(Cell::new(false)));
    let stream = Guarded::new(stream, Rc::clone(&doubt));
    let (owner, unread) = (Rc::clone(&control), Rc::clone(&ends_unread));
    let service = service_fn(move |request: Request<Incoming>| {
        let (control, refreshed) = (Rc::clone(&control), Rc::clone(&refreshed));
        let counted = Counted::new(&calls);
        let caller = Caller {
            ip: client_ip(control.admission.trusted(), ip, request.headers()),
            slot: Rc::clone(&slot),
            ends_unread: Rc::clone(&unread),
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
    let mut stopping = false;
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
                if in_progress.get() > 0 {
                    deadline.set(Instant::now() + CONTROL_IDLE_MAX);
                } else if deadline.get() <= Instant::now() {
                    return End::Cut;
                }
            }
            // The sender was dropped: no further change can arrive.
            _ = stops.changed(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Decides how a connection ends after an error of the HTTP library, which has already answered 400 or 431 to a
/// malformed request.
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
