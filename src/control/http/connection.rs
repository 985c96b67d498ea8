//! One connection of the control listener, from its first byte to its last: PROXY header, TLS,
//! HTTP, an orderly close.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::requests::{Client, End, serve_http};
use super::stream::SharedStream;
use crate::control::admission::AdmissionSlot;
use crate::control::phase::PhaseWatch;
use crate::control::state::Control;
use crate::logging::{Kind, local};
use crate::net::tls::ACME_TLS;
use uproar_proto::base::limits::{HANDSHAKE_TIMEOUT, PROXY_HEADER_BYTES_MAX};
use uproar_proto::http;
use uproar_proto::proxy::{self, Preface};

/// A connection that has not sent anything yet.
pub(super) struct AcceptedConnection {
    pub(super) control: Rc<Control>,
    pub(super) stream: SharedStream,
    pub(super) slot: Rc<AdmissionSlot>,
    /// The peer's address; the client's, once a trusted proxy has named it.
    pub(super) ip: IpAddr,
}

impl AcceptedConnection {
    fn into_client(self, is_private: bool) -> Client {
        Client {
            is_private,
            control: self.control,
            slot: self.slot,
            ip: self.ip,
        }
    }
}

/// Serves a connection from its first byte to its last.
pub(super) async fn serve_connection(
    accepted: AcceptedConnection,
    acceptor: Option<TlsAcceptor>,
    mut phase: PhaseWatch,
) {
    let (slot, stream) = (Rc::clone(&accepted.slot), accepted.stream.clone());
    let end = tokio::select! {
        end = establish_and_serve(accepted, acceptor, phase.clone()) => end,
        () = slot.displaced() => End::Cut,
        () = phase.cut() => End::Cut,
    };
    match end {
        End::Orderly => {}
        End::Unread => {
            tokio::select! {
                () = stream.linger() => {}
                () = slot.displaced() => {}
                () = phase.ending() => {}
            }
            stream.reset_if_unread();
        }
        End::Cut => stream.reset_if_unread(),
    }
}

async fn establish_and_serve(
    mut accepted: AcceptedConnection,
    acceptor: Option<TlsAcceptor>,
    phase: PhaseWatch,
) -> End {
    let is_local = accepted.ip.to_canonical().is_loopback();
    if accepted.control.admission.trusted().trusts(accepted.ip) {
        let header_read = tokio::time::timeout(HANDSHAKE_TIMEOUT, read_preface(&mut accepted));
        if !matches!(header_read.await, Ok(Ok(()))) {
            accepted.control.admission.note_malformed();
            return End::Cut;
        }
    }
    let (stream, ip) = (accepted.stream.clone(), accepted.ip);
    let Some(acceptor) = acceptor else {
        return serve_http(
            accepted.into_client(is_local),
            stream.clone(),
            stream,
            phase,
        )
        .await;
    };
    let socket = stream.clone();
    let handshaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls_handshake(stream, acceptor));
    match handshaken.await {
        Ok(Ok(Some(mut stream))) if is_question(&stream) => {
            // A certificate authority has got its answer.
            let _gone = tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.shutdown()).await;
            End::Cut
        }
        Ok(Ok(Some(stream))) => serve_http(accepted.into_client(true), socket, stream, phase).await,
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

fn is_question(stream: &TlsStream<SharedStream>) -> bool {
    let (_, connection) = stream.get_ref();
    connection.alpn_protocol() == Some(ACME_TLS)
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
