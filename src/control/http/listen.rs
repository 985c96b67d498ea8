//! The control listener: accepts connections until the server stops, then waits for their calls.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::connection::{AcceptedConnection, serve_connection};
use super::stream::SharedStream;
use crate::control::state::Control;
use crate::logging::{Kind, local};
use uproar_proto::base::limits::CONTROL_DRAIN_MAX;

const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const DRAIN_LOOK: Duration = Duration::from_millis(5);
/// Connections accepted before existing ones are polled: fewer than the runtime polls of them
/// meanwhile, so that no connection is displaced before its first bytes were read.
const ACCEPTS_IN_A_ROW: u32 = 16;

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
