//! Connections of the control listener: accepted, bounded in number and idleness, let go politely.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::answer;
use crate::base::limits::{
    CONTROL_CONNECTIONS_MAX, CONTROL_DRAIN_MAX, CONTROL_HEAD_BYTES_MAX, CONTROL_IDLE_MAX,
    HANDSHAKE_TIMEOUT, HEAD_FIELDS_MAX,
};
use crate::control::Control;
use crate::logging::{Kind, local};

const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const DRAIN_LOOK: Duration = Duration::from_millis(5);
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
    let open = Rc::new(Cell::new(0_usize));
    let (stopping, stops) = watch::channel(());
    let overdue = tokio::task::spawn_local(local::say_overdue());
    let mut stop = std::pin::pin!(stop);
    loop {
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
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        if open.get() >= CONTROL_CONNECTIONS_MAX {
            let limit = CONTROL_CONNECTIONS_MAX;
            if let Some(suppressed) = local::admit(Kind::ControlFull) {
                tracing::warn!(limit, %peer, suppressed, "control: connection refused, too many are open");
            }
            continue;
        }
        let _nagle_stays = stream.set_nodelay(true);
        let counted = Counted::new(&open);
        let (control, acceptor, stops) = (Rc::clone(&control), acceptor.clone(), stops.clone());
        tokio::task::spawn_local(async move {
            let _until_it_ends = counted;
            welcome(control, stream, peer, acceptor, stops).await;
        });
    }
    overdue.abort();
    drop((listener, stopping));
    let deadline = Instant::now() + CONTROL_DRAIN_MAX;
    while open.get() > 0 && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    Ok(())
}

async fn welcome(
    control: Rc<Control>,
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    stops: watch::Receiver<()>,
) {
    let Some(acceptor) = acceptor else {
        return converse(control, stream, peer, stops).await;
    };
    let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
    match shaken.await {
        Ok(Ok(stream)) => converse(control, stream, peer, stops).await,
        Ok(Err(error)) => {
            if let Some(suppressed) = local::admit(Kind::ControlTls) {
                tracing::warn!(%peer, %error, suppressed, "control: TLS handshake failed");
            }
        }
        Err(_elapsed) => {}
    }
}

/// Answers one connection's requests until it ends, is idle for too long, or the server stops.
async fn converse(
    control: Rc<Control>,
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    peer: SocketAddr,
    mut stops: watch::Receiver<()>,
) {
    let under_way = Rc::new(Cell::new(0_usize));
    // hyper bounds neither the wait for a first byte nor an idle HTTP/2 connection.
    let patience = Rc::new(Cell::new(Instant::now() + HANDSHAKE_TIMEOUT));
    let (calls, refreshed) = (Rc::clone(&under_way), Rc::clone(&patience));
    let service = service_fn(move |request| {
        let (control, refreshed) = (Rc::clone(&control), Rc::clone(&refreshed));
        let counted = Counted::new(&calls);
        async move {
            let answered = answer(&control, peer, request).await;
            drop(counted);
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
                if let Err(error) = ended {
                    tracing::debug!(%error, "control: connection ended");
                }
                return;
            }
            () = tokio::time::sleep_until(patience.get()) => {
                if under_way.get() > 0 {
                    patience.set(Instant::now() + CONTROL_IDLE_MAX);
                } else if patience.get() <= Instant::now() {
                    return;
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
