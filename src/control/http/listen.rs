//! The control listener: accepts connections while it is served; when the server stops it waits for
//! their calls.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::connection::{AcceptedConnection, serve_connection};
use super::stream::SharedStream;
use crate::control::admission::ControlAdmission;
use crate::control::phase::{Phase, PhaseWatch};
use crate::control::state::Control;
use crate::logging::{Kind, local};
use uproar_proto::base::limits::CONTROL_DRAIN_MAX;

const ACCEPT_RETRY: Duration = Duration::from_millis(50);
const DRAIN_LOOK: Duration = Duration::from_millis(5);
/// Connections accepted before existing ones are polled: fewer than the runtime polls of them
/// meanwhile, so that no connection is displaced before its first bytes were read.
const ACCEPTS_IN_A_ROW: u32 = 16;

/// Serves until `stop` is ready, then finishes the calls in progress. Accepts nothing while the
/// control plane is paused.
pub(in crate::control) async fn serve(
    control: Rc<Control>,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    control.tls.replace(tls);
    let admission = &control.admission;
    let overdue = tokio::task::spawn_local(local::log_overdue());
    let mut stop = std::pin::pin!(stop);
    let mut phase = control.phase.watch();
    let mut accepts = 0_u32;
    while let Some((stream, peer)) = accept(&listener, admission, &mut phase, stop.as_mut()).await {
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
        let acceptor = control.tls.borrow().clone().map(TlsAcceptor::from);
        let serving = serve_connection(accepted, acceptor, control.phase.watch());
        tokio::task::spawn_local(serving);
        accepts = accepts.wrapping_add(1);
        // Not between an accept and its task: a pause must see every connection.
        if accepts.is_multiple_of(ACCEPTS_IN_A_ROW) {
            tokio::task::yield_now().await;
        }
    }
    overdue.abort();
    drop(listener);
    control.phase.set(Phase::Ending);
    let deadline = Instant::now() + CONTROL_DRAIN_MAX;
    while admission.open() > 0 && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    Ok(())
}

/// The next connection; `None` once `stop` is ready. Nobody is accepted after a pause has begun,
/// until it is over.
async fn accept(
    listener: &tokio::net::TcpListener,
    admission: &ControlAdmission,
    phase: &mut PhaseWatch,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        let accepted = tokio::select! {
            // In this order: the phase is known before anybody is accepted.
            biased;
            () = &mut stop => return None,
            () = phase.ending() => {
                tokio::select! {
                    () = &mut stop => return None,
                    () = phase.serving() => continue,
                }
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => return Some(accepted),
            Err(error) => {
                if let Some(suppressed) = local::admit(Kind::ControlAccept) {
                    tracing::warn!(%error, suppressed, "control: accept failed; retried every 50 ms");
                }
                admission.accept_failed();
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}
