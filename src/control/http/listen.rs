//! Connections of the control listener: accepted, bounded in number and idleness, let go politely.

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

use super::admission::Seat;
use super::guarded::Guarded;
use super::wire::Wire;
use super::{Caller, answer};
use crate::base::limits::{
    CONTROL_DRAIN_MAX, CONTROL_HEAD_BYTES_MAX, CONTROL_IDLE_MAX, HANDSHAKE_TIMEOUT,
    HEAD_FIELDS_MAX, PROXY_HEADER_BYTES_MAX,
};
use crate::control::Control;
use crate::logging::{Kind, local};
use crate::protocol::framing::Doubt;
use crate::protocol::http;
use crate::protocol::proxy::{self, Preface, TrustedProxies};

const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const DRAIN_LOOK: Duration = Duration::from_millis(5);
/// Connections accepted before those that are there get their turn: fewer than the runtime polls of them
/// meanwhile, so that nobody is given up for a newcomer before it was heard.
const ACCEPTS_IN_A_ROW: u32 = 16;
/// Calls under way on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// Spawns onto the control thread's `LocalSet`.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Counts something while it lives.
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

/// Serves until `stop` is ready, then finishes what is under way.
pub(in crate::control) async fn serve(
    control: Rc<Control>,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let acceptor = tls.map(TlsAcceptor::from);
    let door = Rc::clone(&control.door);
    let (stopping, stops) = watch::channel(());
    let overdue = tokio::task::spawn_local(local::say_overdue());
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
                door.accept_failed();
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let ip = peer.ip().to_canonical();
        let Some(seat) = door.admit(ip) else {
            continue;
        };
        let _nagle_stays = stream.set_nodelay(true);
        let guest = Guest {
            control: Rc::clone(&control),
            wire: Wire::new(stream),
            seat: Rc::new(seat),
            ip,
        };
        tokio::task::spawn_local(attend(guest, acceptor.clone(), stops.clone()));
    }
    overdue.abort();
    drop((listener, stopping));
    let deadline = Instant::now() + CONTROL_DRAIN_MAX;
    while door.open() > 0 && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    Ok(())
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// As HTTP has it: what was answered is on its way.
    Orderly,
    /// We answered that it ends while the client may still be sending.
    Unread,
    /// We lost patience, or the client broke off.
    Cut,
}

/// A connection that has said nothing yet.
struct Guest {
    control: Rc<Control>,
    wire: Wire,
    seat: Rc<Seat>,
    // The other end; the client, once a trusted proxy has said who that is.
    ip: IpAddr,
}

/// Takes a connection from its first byte to its last.
async fn attend(guest: Guest, acceptor: Option<TlsAcceptor>, stops: watch::Receiver<()>) {
    let (seat, wire) = (Rc::clone(&guest.seat), guest.wire.clone());
    let mut stopped = stops.clone();
    let end = tokio::select! {
        end = welcome(guest, acceptor, stops) => end,
        () = seat.displaced() => End::Cut,
    };
    match end {
        End::Orderly => {}
        End::Unread => {
            tokio::select! {
                () = wire.linger() => {}
                () = seat.displaced() => {}
                // The sender was dropped: the server stops.
                _ = stopped.changed() => {}
            }
            wire.reset_if_unread();
        }
        End::Cut => wire.reset_if_unread(),
    }
}

async fn welcome(
    mut guest: Guest,
    acceptor: Option<TlsAcceptor>,
    stops: watch::Receiver<()>,
) -> End {
    if guest.control.door.trusted().trusts(guest.ip) {
        let prefaced = tokio::time::timeout(HANDSHAKE_TIMEOUT, read_preface(&mut guest));
        if !matches!(prefaced.await, Ok(Ok(()))) {
            guest.control.door.note_malformed();
            return End::Cut;
        }
    }
    let (wire, ip) = (guest.wire.clone(), guest.ip);
    let Some(acceptor) = acceptor else {
        return converse(guest, wire, stops).await;
    };
    let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shake(wire, acceptor));
    match shaken.await {
        Ok(Ok(Some(stream))) => converse(guest, stream, stops).await,
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

/// A TLS connection; `None` if the client speaks HTTP without it, and was told so.
async fn shake(mut wire: Wire, acceptor: TlsAcceptor) -> io::Result<Option<TlsStream<Wire>>> {
    if !wire.first_byte().await?.is_some_and(http::is_without_tls) {
        return acceptor.accept(wire).await.map(Some);
    }
    let mut answer = Vec::new();
    let text = b"This port speaks TLS: use https://\n";
    http::plain(&mut answer, 400, "text/plain; charset=utf-8", text);
    wire.write_all(&answer).await?;
    Ok(None)
}

/// Reads until it is known whom a trusted proxy speaks for.
async fn read_preface(guest: &mut Guest) -> io::Result<()> {
    let mut received = bytes::BytesMut::new();
    loop {
        match proxy::preface(&received).map_err(io::Error::other)? {
            Preface::Incomplete => {}
            Preface::Absent => break,
            Preface::Header { len, source } => {
                guest.ip = source.unwrap_or(guest.ip);
                let _header = received.split_to(len);
                break;
            }
        }
        received.reserve(PROXY_HEADER_BYTES_MAX);
        if guest.wire.read_buf(&mut received).await? == 0 {
            // A look whether somebody listens: no header is missing.
            break;
        }
    }
    guest.seat.identify(guest.ip);
    guest.wire.put_back(received.freeze());
    Ok(())
}

/// Answers one connection's requests until it ends, is idle for too long, or the server stops.
async fn converse(
    guest: Guest,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    mut stops: watch::Receiver<()>,
) -> End {
    let Guest {
        control, seat, ip, ..
    } = guest;
    let under_way = Rc::new(Cell::new(0_usize));
    // hyper bounds neither the wait for a first byte nor an idle HTTP/2 connection.
    let patience = Rc::new(Cell::new(Instant::now() + HANDSHAKE_TIMEOUT));
    let (calls, refreshed) = (Rc::clone(&under_way), Rc::clone(&patience));
    let (doubt, ends_unread) = (Rc::default(), Rc::new(Cell::new(false)));
    let stream = Guarded::new(stream, Rc::clone(&doubt));
    let (owner, unread) = (Rc::clone(&control), Rc::clone(&ends_unread));
    let service = service_fn(move |request: Request<Incoming>| {
        let (control, refreshed) = (Rc::clone(&control), Rc::clone(&refreshed));
        let counted = Counted::new(&calls);
        let caller = Caller {
            ip: viewer(control.door.trusted(), ip, request.headers()),
            seat: Rc::clone(&seat),
            ends_unread: Rc::clone(&unread),
        };
        async move {
            let answered = answer(&control, &caller, request).await;
            drop(counted);
            caller.seat.rest();
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
                    Err(error) => broken(&owner, ip, &*error, doubt.get()),
                };
            }
            () = tokio::time::sleep_until(patience.get()) => {
                if under_way.get() > 0 {
                    patience.set(Instant::now() + CONTROL_IDLE_MAX);
                } else if patience.get() <= Instant::now() {
                    return End::Cut;
                }
            }
            // The sender was dropped: there is nothing more to hear.
            _ = stops.changed(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What becomes of a connection that the HTTP library gave up: who sent no request has its answer from there.
fn broken(
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

/// Whom a request is from.
fn viewer(trusted: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
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

fn builder() -> auto::Builder<Local> {
    let mut builder = auto::Builder::new(Local);
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
